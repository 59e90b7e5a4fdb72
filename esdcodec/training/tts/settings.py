"""The settings of the trainings from text to semantic codes, and from these to acoustic ones."""

from dataclasses import dataclass
from typing import Any

from ...dataset.text_stream import BatchSizes
from ..settings import OptimizerSettings, RunSettings, require, require_average


@dataclass(frozen=True, kw_only=True)
class SpeechTrainerSettings(RunSettings):
    """`trainer`: the loop, where it begins, and how the network learns."""

    init: str | None
    ema_decay: float | None
    gradient_checkpointing: bool
    optimizer: OptimizerSettings

    def __post_init__(self) -> None:
        super().__post_init__()
        require_average(self.ema_decay)
        require(self.optimizer.muon_lr is None, "optimizer.muon_lr", self.optimizer.muon_lr, "must be null here")


@dataclass(frozen=True, kw_only=True)
class TokenDataSettings:
    """What is the same of `data` for all that is trained on tokens."""

    train: str  # folder that `esdcodec tokenise` wrote
    validation: str | None
    cache: str | None  # folder for what is known of the utterances; None: in the output folder
    batch_size: int | None
    voice_share: float
    voice_frames: tuple[int, int]
    max_broken_share: float
    shuffle_window: int
    num_workers: int

    def __post_init__(self) -> None:
        require(self.batch_size is None or self.batch_size >= 1, "batch_size", self.batch_size, "must be at least 1")
        for name in ("shuffle_window", "num_workers"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "must not be negative")
        for name in ("voice_share", "max_broken_share"):
            require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "must be from 0 to 1")
        fewest, most = self.voice_frames
        require(1 <= fewest <= most, "voice_frames", list(self.voice_frames), "must be the fewest and the most frames")


@dataclass(frozen=True, kw_only=True)
class TextDataSettings(TokenDataSettings):
    """`data`: which tokens, and how utterances become batches."""

    text_field: str
    max_tokens: int  # of a batch of one process
    row_tokens: int
    max_sequence: int

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("max_tokens", "row_tokens", "max_sequence"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")

    @property
    def sizes(self) -> BatchSizes:
        return BatchSizes(
            max_tokens=self.max_tokens,
            batch_size=self.batch_size,
            row_tokens=self.row_tokens,
            max_sequence=self.max_sequence,
            voice_share=self.voice_share,
            voice_frames=self.voice_frames,
        )


@dataclass(frozen=True, kw_only=True)
class TextSettings:
    """`model.text`: the arguments of `make_text`."""

    kind: str
    path: str | None
    language: str | None
    backend: str | None

    @property
    def config(self) -> dict[str, str]:
        """Those that are given."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class TextModelSettings:
    """`model`: whose codes, which text, and which language model."""

    codec: str  # whatever `esdcodec.load` takes
    text: TextSettings
    language_model: dict[str, Any]  # of `make_language_model`
    embeddings_from_codec: bool
    shared_positions: bool


@dataclass(frozen=True, kw_only=True)
class TextTrainingSettings:
    """The whole configuration; `machine` holds paths that the others refer to."""

    task: str
    data: TextDataSettings
    model: TextModelSettings
    trainer: SpeechTrainerSettings
    machine: Any = None


# ---- from semantic to acoustic codes ---


@dataclass(frozen=True, kw_only=True)
class CodesDataSettings(TokenDataSettings):
    """`data`: which tokens, and how utterances become batches."""

    max_frames: int  # of a batch of one process
    segment_frames: int

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("max_frames", "segment_frames"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")


@dataclass(frozen=True, kw_only=True)
class AcousticModelSettings:
    """`model`: whose codes, how many codebooks of them, and which network."""

    codec: str  # whatever `esdcodec.load` takes
    n_quantizers: int
    network: dict[str, Any]  # of `AcousticModel`
    embeddings_from_codec: bool

    def __post_init__(self) -> None:
        require(self.n_quantizers >= 2, "n_quantizers", self.n_quantizers, "must be at least 2")


@dataclass(frozen=True, kw_only=True)
class AcousticTrainingSettings:
    """The whole configuration; `machine` holds paths that the others refer to."""

    task: str
    data: CodesDataSettings
    model: AcousticModelSettings
    trainer: SpeechTrainerSettings
    machine: Any = None
