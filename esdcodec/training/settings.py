"""The settings of a training run: the content of `conf/` as types that refuse what cannot be run."""

import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from difflib import get_close_matches
from inspect import Parameter, signature
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from ..dataset.filters import Filters
from ..errors import ESDCodecError

T = TypeVar("T")


class ConfigurationError(ESDCodecError, ValueError):
    """A setting cannot be used; the message is one line that names its key."""


# ---- the settings ---


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """`trainer.generator` and `trainer.discriminator`: how one network learns."""

    lr: float
    muon_lr: float | None  # radians a step
    betas: tuple[float, float]
    weight_decay: float
    warmup_steps: int
    decay_steps: int
    final_lr: float
    clip_grad_norm: float | None = None  # None: that of the trainer

    def __post_init__(self) -> None:
        require(self.lr > 0, "lr", self.lr, "must be positive")
        require(self.muon_lr is None or self.muon_lr >= 0, "muon_lr", self.muon_lr, "must not be negative")
        require(self.final_lr >= 0, "final_lr", self.final_lr, "must not be negative")
        require(all(0 <= beta < 1 for beta in self.betas), "betas", self.betas, "must be at least 0 and below 1")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "must not be negative")
        require(self.warmup_steps >= 0, "warmup_steps", self.warmup_steps, "must not be negative")
        clip = self.clip_grad_norm
        require(clip is None or clip > 0, "clip_grad_norm", clip, "must be positive, or null for the trainer's")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What of `trainer` is the same for every network: the loop, the output folder, what is logged and when."""

    output_dir: str
    resume: str
    seed: int
    gradient_accumulation: int
    mixed_precision: str
    tf32: bool
    compile: str | None = None  # backend of torch.compile
    max_steps: int
    clip_grad_norm: float
    max_skipped_steps: int
    process_timeout: int  # seconds
    tracker: str | None
    tracker_options: dict[str, Any]
    log_every: int
    validate_every: int
    sample_every: int
    checkpoint_every: int
    keep_checkpoints: int

    def __post_init__(self) -> None:
        for name in (
            "gradient_accumulation", "max_steps", "max_skipped_steps", "log_every", "validate_every", "sample_every",
            "checkpoint_every", "keep_checkpoints", "process_timeout",
        ):  # fmt: skip
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")
        require(self.resume in ("exact", "new_data"), "resume", self.resume, "must be 'exact' or 'new_data'")
        require(self.clip_grad_norm > 0, "clip_grad_norm", self.clip_grad_norm, "must be positive")
        require(
            self.mixed_precision in ("no", "bf16"),
            "mixed_precision",
            self.mixed_precision,
            "must be 'no' (float32) or 'bf16': exponentials and nearest neighbours do not survive float16",
        )
        require(
            self.compile in (None, "inductor", "aot_eager", "eager"),
            "compile",
            self.compile,
            "must be inductor, or aot_eager or eager to look for faults, or null",
        )
        if self.tracker is not None:
            from accelerate.tracking import get_available_trackers

            known = [str(name) for name in get_available_trackers()]
            require(self.tracker in known, "tracker", self.tracker, "its package is not installed, or set it to null")


@dataclass(frozen=True, kw_only=True)
class TrainerSettings(RunSettings):
    """`trainer` of a codec's training."""

    batch_size: int
    init: str | None
    init_discriminator: str | None
    freeze: tuple[str, ...]
    ema_decay: float | None
    discriminator_start: int
    continuous_steps: int
    fit_batches: int
    semantic_only_probability: float
    generator: OptimizerSettings
    discriminator: OptimizerSettings
    loss_weights: dict[str, float]

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.batch_size >= 1, "batch_size", self.batch_size, "must be at least 1")
        require_average(self.ema_decay)
        for name in ("discriminator_start", "continuous_steps", "fit_batches"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "must not be negative")
        share = self.semantic_only_probability
        require(0 <= share <= 1, "semantic_only_probability", share, "must be from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class SegmentSettings:
    """`data.segment_speech`."""

    segment_length: int  # samples
    per_utterance: int | None
    validation_length: int  # samples

    def __post_init__(self) -> None:
        for name in ("segment_length", "validation_length"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be a number of samples")
        require(
            self.per_utterance is None or self.per_utterance >= 1, "per_utterance", self.per_utterance,
            "must be at least 1, or null for as many as an utterance is long",
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """`data`: which speech, and how it is read."""

    train: Any  # whatever `Source.parse` takes
    validation: Any  # whatever `list_shards` takes; None: no validation
    manifests: str | None  # folder
    segment_speech: SegmentSettings
    filters: Filters
    max_broken_share: float
    shuffle_window: int
    shuffle_buffer: int
    num_workers: int

    def __post_init__(self) -> None:
        for name in ("shuffle_window", "shuffle_buffer", "num_workers"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "must not be negative")
        share = self.max_broken_share
        require(0 <= share <= 1, "max_broken_share", share, "must be from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class TeacherSettings:
    """`model.teacher`: the arguments of `W2vBert`."""

    path: str
    statistics: str | None
    layer: int
    pool: int

    def __post_init__(self) -> None:
        for name in ("layer", "pool"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """`model`: arguments of the networks' constructors."""

    codec: dict[str, Any]
    discriminator: dict[str, Any] | None
    teacher: TeacherSettings | None


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """The whole configuration of a codec's training; `machine` holds paths that the others refer to."""

    data: DataSettings
    model: ModelSettings
    trainer: TrainerSettings
    machine: Any = None


def require_average(decay: float | None) -> None:
    """
    Raises:
        ConfigurationError: `ema_decay` is no weight of a moving average.
    """
    require(decay is None or 0 < decay < 1, "ema_decay", decay, "must be between 0 and 1")


# ---- reading them ---


def parse(kind: type[T], values: Any, name: str = "") -> T:
    """An instance of the dataclass `kind` from a mapping, which is the group `name` of the configuration.

    Raises:
        ConfigurationError: a key is missing, unknown or of another type, or `kind` refuses its value.
    """
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"{name}={values!r} must be a group of settings")
    prefix = f"{name}." if name else ""
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    needed = [key for key, f in known.items() if f.default is MISSING and f.default_factory is MISSING]
    _check_keys(values, known, needed, name)
    hints = get_type_hints(kind)
    arguments = {key: _convert(hints[key], value, f"{prefix}{key}") for key, value in values.items()}
    try:
        return kind(**arguments)
    except ConfigurationError as error:
        raise ConfigurationError(f"{prefix}{error}") from None


def check_arguments(constructor: type, arguments: Mapping[str, Any], name: str) -> None:
    """Check that a constructor knows the keys of `arguments`, and misses none.

    Raises:
        ConfigurationError: it does not.
    """
    known = {key: p for key, p in signature(constructor).parameters.items() if key != "self"}
    _check_keys(arguments, known, [key for key, p in known.items() if p.default is Parameter.empty], name)


def _check_keys(values: Mapping[str, Any], known: Mapping[str, Any], needed: Sequence[str], name: str) -> None:
    prefix = f"{name}." if name else ""
    for key in values:
        if key not in known:
            close = get_close_matches(str(key), known, n=1)
            advice = f"did you mean {prefix}{close[0]}?" if close else f"known are {', '.join(sorted(known))}"
            raise ConfigurationError(f"{prefix}{key} is no setting: {advice}")
    for key in needed:
        if key not in values:
            raise ConfigurationError(f"{prefix}{key} is missing")


def _convert(kind: Any, value: Any, name: str) -> Any:
    """`value` as a field of type `kind`."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        (kind,) = (each for each in inner if each is not type(None))
        return None if value is None else _convert(kind, value, name)
    if is_dataclass(kind):
        return parse(kind, value, name)  # type: ignore[arg-type]
    if origin is tuple and isinstance(value, Sequence) and not isinstance(value, str):
        if inner[-1] is Ellipsis or len(inner) == len(value):
            each = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
            return tuple(_convert(k, v, f"{name}[{i}]") for i, (k, v) in enumerate(zip(each, value)))
    elif origin is dict and isinstance(value, Mapping):
        return {key: _convert(inner[1], each, f"{name}.{key}") for key, each in value.items()}
    elif kind is Any or (kind in (bool, str) and isinstance(value, kind)):
        return value
    elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif kind is int and isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
        return int(value)
    raise ConfigurationError(f"{name}={value!r} must be {_NAMES.get(origin or kind, kind)}")


_NAMES = {
    int: "a whole number", float: "a number", bool: "true or false", str: "a text", tuple: "a list", dict: "a mapping"
}  # fmt: skip


def require(holds: bool, name: str, value: Any, otherwise: str) -> None:
    """
    Raises:
        ConfigurationError: what a setting must be does not hold.
    """
    if not holds:
        raise ConfigurationError(f"{name}={value!r} {otherwise}")
