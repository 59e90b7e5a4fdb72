"""Limits of a server."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ServerSettings:
    """Where a server listens, and what it takes.

    Raises:
        ValueError: a number is not positive.
    """

    host: str = "127.0.0.1"
    port: int = 8024  # 0: any that is free
    token: str | None = None  # that a client must send as `Authorization: Bearer TOKEN`; None: anybody may ask
    max_megabytes: float = 64.0  # of a file that is sent
    max_seconds: float = 600.0  # of audio in a file, which may be compressed or coded
    max_characters: int = 4096  # of a text that is to be said
    workers: int = 1  # files that are coded at once
    queue: int = 32  # files that wait, or are still being sent
    streams: int = 8  # live ones at once
    stream_seconds: float = 3600.0  # of audio in a live stream
    timeout: float = 60.0  # seconds for a file to arrive, for its result, for a client to take the next part of it

    def __post_init__(self) -> None:
        for name in ("max_megabytes", "max_seconds", "max_characters", "workers", "stream_seconds", "timeout"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be more than 0")
        for name in ("port", "queue", "streams"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must be 0 or more")

    @property
    def max_bytes(self) -> int:
        return int(self.max_megabytes * 1e6)
