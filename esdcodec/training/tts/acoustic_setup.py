"""From a configuration to the trainer of the network that adds acoustic codes to semantic ones."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from omegaconf import DictConfig, OmegaConf

from ...codec import ESDCodec, load
from ...dataset.codes_stream import CodesStream
from ...dataset.voiced_stream import VoicedBatches
from ...model_tts.acoustic import AcousticModel
from ...model_tts.acoustic_folder import load_acoustic
from ..optimizer import Learner
from ..run import Run
from ..settings import ConfigurationError, check_arguments, parse
from ..setup import make_accelerator
from ..trainer import Trainer
from .acoustic_task import AcousticTask
from .corpora import count_skipped, read_corpora
from .settings import AcousticTrainingSettings


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
    network = make_network(network_config, trainer.init, codec)
    network.checkpointed = trainer.gradient_checkpointing
    learner = Learner.make(accelerator, "acoustic_model", network, trainer.optimizer)
    if trainer.ema_decay is not None:
        learner.keep_average(accelerator, trainer.ema_decay)
    identity = {
        "network": network.config,
        "codec_fingerprint": codec.fingerprint.hex(),
        "ema": trainer.ema_decay is not None,
    }
    return Trainer(
        trainer,
        Run(trainer, accelerator, values),
        AcousticTask(accelerator, learner, identity, codec, streams.get("validation")),
        VoicedBatches(streams["train"], data.num_workers),
        batch_size=None,
        skip_counts=count_skipped(corpora["train"], streams["train"].epoch_size, data, accelerator),
        max_broken_share=data.max_broken_share,
        data_digest=corpora["train"].digest(),
    )


def check(values: Mapping[str, Any]) -> AcousticTrainingSettings:
    """The settings in a configuration, checked as far as possible without reading anything.

    Raises:
        ConfigurationError: they cannot be run; the message names the key.
    """
    settings = parse(AcousticTrainingSettings, values)
    arguments = {**settings.model.network, "codebook_sizes": [2] * settings.model.n_quantizers}
    check_arguments(AcousticModel, arguments, "model.network")
    try:
        with torch.device("meta"):
            AcousticModel(**arguments)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ConfigurationError(f"model.network: {error}") from error
    return settings


def sizes(codec: ESDCodec, n_quantizers: int) -> list[int]:
    """Of the first codebooks of a codec.

    Raises:
        ConfigurationError: it has not so many.
    """
    if n_quantizers > codec.n_codebooks:
        raise ConfigurationError(f"model.n_quantizers={n_quantizers}, but {codec.name} has {codec.n_codebooks}")
    return list(codec.codebook_sizes[:n_quantizers])


def make_network(config: Mapping[str, Any], init: str | None, codec: ESDCodec) -> AcousticModel:
    """New, or from an export of such a training.

    Raises:
        CodecMismatchError: the export is of another codec.
        ConfigurationError: it has other sizes.
    """
    network = AcousticModel(**config)
    if init is None:
        return network
    exported = load_acoustic(init, codec.fingerprint)
    if exported.config != network.config:
        raise ConfigurationError(f"trainer.init={init} is {exported.config}, model.network {network.config}")
    return exported.train()
