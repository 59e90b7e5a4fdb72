"""From a configuration to the trainer of the network that adds acoustic codes to semantic ones."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from omegaconf import DictConfig, OmegaConf

from ...codec import ESDCodec, load
from ...dataset.codes_stream import CodesStream
from ...model_tts.acoustic import AcousticModel
from ...model_tts.acoustic_folder import load_acoustic
from ...model_tts.codebooks import start_acoustic_from_codebooks
from ..settings import ConfigurationError, parse
from ..setup import make_accelerator, without_weights
from ..trainer import Trainer
from .acoustic_task import AcousticTask
from .corpora import read_corpora
from .parts import make_learner, trainer_on_tokens
from .settings import AcousticTrainingSettings, SpeechTrainerSettings


def make_trainer(config: DictConfig) -> Trainer:
    """All parts of a training from semantic to acoustic codes.

    Raises:
        ConfigurationError: the configuration cannot be run.
        FileNotFoundError: there are no tokens.
        CodecMismatchError: these, or `trainer.init`, are of another codec than `model.codec`.
    """
    values = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    settings = check(values)
    data, trainer = settings.data, settings.trainer
    codec = load(settings.model.codec, device="cpu")
    network_config = {**settings.model.network, "codebook_sizes": sizes(codec, settings.model.n_quantizers)}
    accelerator = make_accelerator(trainer, tf32_products=True)
    corpora = read_corpora(data, codec, accelerator, trainer.output_dir, n_quantizers=settings.model.n_quantizers)
    streams = {
        name: CodesStream(
            corpus,
            segment_frames=data.segment_frames,
            frame_rate=codec.frame_rate,
            batch_size=data.batch_size,
            max_frames=data.max_frames,
            voice_share=data.voice_share,
            voice_frames=data.voice_frames,
            shuffle_window=data.shuffle_window if name == "train" else 0,
            seed=trainer.seed,
            rank=accelerator.process_index,
            n_ranks=accelerator.num_processes,
        )
        for name, corpus in corpora.items()
    }
    network = make_network(network_config, trainer, codec, from_codec=settings.model.embeddings_from_codec)
    network.checkpointed = trainer.gradient_checkpointing
    learner = make_learner(accelerator, "acoustic_model", network, trainer)
    identity = {
        "network": network.config,
        "codec_fingerprint": codec.fingerprint.hex(),
        "ema": trainer.ema_decay is not None,
    }
    task = AcousticTask(accelerator, learner, identity, codec, streams.get("validation"))
    return trainer_on_tokens(trainer, data, values, accelerator, task, corpora["train"], streams["train"])


def check(values: Mapping[str, Any]) -> AcousticTrainingSettings:
    """The settings in a configuration, checked as far as possible without reading anything.

    Raises:
        ConfigurationError: they cannot be run; the message names the key.
    """
    settings = parse(AcousticTrainingSettings, values)
    arguments = {**settings.model.network, "codebook_sizes": [2] * settings.model.n_quantizers}
    without_weights(AcousticModel, arguments, "model.network")
    return settings


def sizes(codec: ESDCodec, n_quantizers: int) -> list[int]:
    """Of the first codebooks of a codec.

    Raises:
        ConfigurationError: it has not so many.
    """
    if n_quantizers > codec.n_codebooks:
        raise ConfigurationError(f"model.n_quantizers={n_quantizers}, but {codec.name} has {codec.n_codebooks}")
    return list(codec.codebook_sizes[:n_quantizers])


def make_network(
    config: Mapping[str, Any], trainer: SpeechTrainerSettings, codec: ESDCodec, *, from_codec: bool
) -> AcousticModel:
    """New, or from an export of such a training.

    Args:
        from_codec: a new one embeds codes as the codec does.

    Raises:
        CodecMismatchError: the export is of another codec.
        ConfigurationError: it has other sizes.
    """
    network = AcousticModel(**config)
    init = trainer.init
    if init is not None:
        exported = load_acoustic(init, codec.fingerprint)
        if exported.config != network.config:
            raise ConfigurationError(f"trainer.init={init} is {exported.config}, model.network {network.config}")
        return exported.train()
    if from_codec:
        acoustic = list(codec.acoustic_quantizer.quantizers)[: network.n_codebooks - 1]
        every = torch.arange(network.codebook_sizes[1])[None]
        with torch.no_grad():
            points = [quantizer.decode(every)[0].T for quantizer in acoustic]
            semantic = codec.semantic_quantizer.effective_codebook()
        start_acoustic_from_codebooks(network, semantic, points, trainer.seed)
    return network
