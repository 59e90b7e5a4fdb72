"""What decides the codes of a corpus, apart from its audio."""

from dataclasses import dataclass

from ...dataset.token_shards import SUFFIXES, pyarrow_parquet


@dataclass(frozen=True)
class TokeniseSettings:
    """How a corpus becomes codes. Two runs with the same settings write the same bytes on the same kind of device.

    Args:
        model: name, folder, file or Hub id, as `esdcodec.load` takes it.
        n_quantizers: codebooks to use. Default: all.
        device: where the codec runs. Default: the first of cuda, mps and cpu that there is.
        dtype: `float32`, `bfloat16` or `auto`, of the convolutions.
        gain: bring every utterance to the level at which the codec codes best; its gain is written beside its codes.
        window: utterances among which those of equal length are looked for, to go through the network together.
        window_seconds: of audio, after which a window ends all the same. Two windows are in memory: the next one is
            read while one is in the network.
        batch_seconds: of audio that go through the network together. Default: 16 on a CPU, 60 elsewhere.
        long_seconds: an utterance longer than this is coded by itself, piece by piece.
        group_size: files of a folder or lines of a manifest that make one output shard.
        readers: threads that read, decode and resample ahead of the network.
        format: of the output shards: `tar`, `parquet` (extra `[parquet]`) or `packed`.

    Raises:
        ValueError: a setting is none of those that there are.
        ImportError: the format needs what is not installed.
    """

    model: str = "25hz_nano"
    n_quantizers: int | None = None
    device: str | None = None
    dtype: str = "float32"
    gain: bool = True
    window: int = 256
    window_seconds: float = 1800.0
    batch_seconds: float | None = None
    long_seconds: float = 120.0
    group_size: int = 1000
    readers: int = 2
    format: str = "tar"

    def __post_init__(self) -> None:
        for name in ("window", "window_seconds", "batch_seconds", "long_seconds", "group_size", "readers"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}={value} must be positive")
        if self.format not in SUFFIXES:
            raise ValueError(f"format={self.format!r} is none of {', '.join(SUFFIXES)}")
        if self.format == "parquet":
            pyarrow_parquet()  # says what is missing before the work begins
