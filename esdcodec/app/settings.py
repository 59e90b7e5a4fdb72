"""What the page takes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DemoSettings:
    """Where the page is served, and what it takes."""

    host: str = "127.0.0.1"
    port: int = 7860  # 0: one that is free
    max_seconds: float = 30.0  # of a recording
    max_characters: int = 500  # of a text that is to be said
    max_megabytes: float = 20.0  # of a file
    queue: int = 16  # recordings that wait; one is coded at a time
