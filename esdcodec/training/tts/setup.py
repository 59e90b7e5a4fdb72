"""From a configuration to the trainer of a language model on text and semantic codes."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from accelerate import Accelerator
from omegaconf import DictConfig, OmegaConf

from ...codec import ESDCodec, load
from ...dataset.text_stream import TextStream
from ...dataset.transcripts import Transcripts
from ...model_tts.autoregressive import (
    AutoregressiveModel,
    from_text_model,
    language_model_config,
    make_language_model,
    start_from_codebook,
)
from ...model_tts.sequence import SpeechVocabulary
from ...model_tts.text import TextFrontEnd, make_text
from ...model_tts.text_to_codes import SpeechTokens, TextToCodes, exported_tokens
from ..settings import ConfigurationError, parse
from ..setup import make_accelerator
from ..trainer import Trainer
from .corpora import read_corpora
from .parts import make_learner, trainer_on_tokens
from .settings import SpeechTrainerSettings, TextModelSettings, TextSettings, TextTrainingSettings
from .task import TextToCodesTask

SIZES = (
    "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "tie_word_embeddings",
)  # fmt: skip


def make_trainer(config: DictConfig) -> Trainer:
    """All parts of a training from text to semantic codes.

    Raises:
        ConfigurationError: the configuration cannot be run.
        FileNotFoundError: there are no tokens.
        CodecMismatchError: these, or `trainer.init`, are of another codec than `model.codec`.
        TooMuchIsBroken: more of the texts than `data.max_broken_share`.
    """
    from transformers.utils.logging import disable_progress_bar

    values = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    settings = check(values)
    disable_progress_bar()  # an export's would stand among the log's lines
    data, model, trainer = settings.data, settings.model, settings.trainer
    front_end = make_front_end(model.text)
    codec = load(model.codec, device="cpu")

    accelerator = make_accelerator(trainer, tf32_products=True)
    corpora = read_corpora(
        data, codec, accelerator, trainer.output_dir, n_quantizers=1, front_end=front_end, text_field=data.text_field
    )
    tokens = describe_tokens(codec, front_end, corpora["train"], shared_positions=model.shared_positions)
    network = make_network(model, trainer, codec, tokens)
    learner = make_learner(accelerator, "language_model", network, trainer)
    sizes = {
        "language_model": {name: getattr(network.language_model.config, name) for name in SIZES},
        "text": model.text.config,
        "shared_positions": tokens.shared_positions,
        "codec_fingerprint": tokens.fingerprint,
        "ema": trainer.ema_decay is not None,
    }
    streams = {name: make_stream(corpus, name, tokens, settings, accelerator) for name, corpus in corpora.items()}
    task = TextToCodesTask(accelerator, learner, sizes, tokens, front_end, streams.get("validation"))
    return trainer_on_tokens(trainer, data, values, accelerator, task, corpora["train"], streams["train"])


def check(values: Mapping[str, Any]) -> TextTrainingSettings:
    """The settings in a configuration, checked as far as possible without reading anything.

    Raises:
        ConfigurationError: they cannot be run; the message names the key.
    """
    settings = parse(TextTrainingSettings, values)
    if settings.trainer.init is None:
        try:
            found = language_model_config(settings.model.language_model, SpeechVocabulary(1, 1))
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"model.language_model: {error}") from error
        if settings.data.max_sequence > found.max_position_embeddings:
            raise ConfigurationError(
                f"data.max_sequence={settings.data.max_sequence} is more than "
                f"model.language_model.max_position_embeddings={found.max_position_embeddings}"
            )
    return settings


def make_front_end(text: TextSettings) -> TextFrontEnd:
    """
    Raises:
        ConfigurationError: there is none of this kind, or it wants other settings.
    """
    try:
        return make_text(text.config)
    except ValueError as error:
        raise ConfigurationError(f"model.text: {error}") from error


def describe_tokens(
    codec: ESDCodec, front_end: TextFrontEnd, corpus: Transcripts, *, shared_positions: bool
) -> SpeechTokens:
    start, slope = corpus.expected_codes()
    return SpeechTokens(
        codec=codec.name,
        fingerprint=codec.fingerprint.hex(),
        frame_rate=codec.frame_rate,
        codebook_size=codec.codebook_sizes[0],
        n_text=front_end.n_tokens,
        text=front_end.config,
        codes_per_text=start,
        codes_per_text_token=slope,
        shared_positions=shared_positions,
    )


def make_stream(
    corpus: Transcripts, name: str, tokens: SpeechTokens, settings: TextTrainingSettings, accelerator: Accelerator
) -> TextStream:
    """The batches of `train`, shuffled, or of `validation`."""
    return TextStream(
        corpus,
        tokens.vocabulary,
        settings.data.sizes,
        frame_rate=tokens.frame_rate,
        shuffle_window=settings.data.shuffle_window if name == "train" else 0,
        seed=settings.trainer.seed,
        rank=accelerator.process_index,
        n_ranks=accelerator.num_processes,
    )


def make_network(
    model: TextModelSettings, trainer: SpeechTrainerSettings, codec: ESDCodec, tokens: SpeechTokens
) -> AutoregressiveModel:
    """The language model: new, from an export of such a training, or from a text model's folder.

    Raises:
        CodecMismatchError: the export is of another codec.
        ValueError: it is of another text.
    """
    vocabulary = tokens.vocabulary
    before = None if trainer.init is None else exported_tokens(trainer.init)
    if before is not None:
        assert trainer.init is not None
        language_model = TextToCodes.load(trainer.init, codec.fingerprint).language_model
        if (before.n_text, before.text["kind"]) != (tokens.n_text, tokens.text["kind"]):
            raise ConfigurationError(
                f"trainer.init={trainer.init} reads {before.n_text} tokens of {before.text['kind']}, model.text makes "
                f"{tokens.n_text} of {tokens.text['kind']}: they must be the same"
            )
        if before.shared_positions != tokens.shared_positions:
            raise ConfigurationError(
                f"trainer.init={trainer.init} was trained with model.shared_positions={before.shared_positions}: set it"
            )
    else:
        if trainer.init is None:
            language_model = make_language_model(model.language_model, vocabulary)
        else:
            language_model = from_text_model(trainer.init, vocabulary)
        if model.embeddings_from_codec:
            with torch.no_grad():
                codebook = codec.semantic_quantizer.effective_codebook()
            start_from_codebook(language_model, codebook, vocabulary, trainer.seed)
    network = AutoregressiveModel(language_model, vocabulary.special_id("end"))
    if trainer.gradient_checkpointing:
        network.save_memory()
    return network
