"""A part of an audio file, and reading of bytes and tags, which all formats share."""

from dataclasses import dataclass
from typing import BinaryIO

SHORT = "shorter than its header states"


@dataclass(frozen=True)
class Part:
    """A byte range that is an audio file by itself; files put together by `cat` have several."""

    start: int
    stop: int
    kind: str  # wav, aiff, caf, w64, au, sph, voc, flac, ogg, mp3; "" for any other
    trusted: bool = True  # its header's length is that of the samples, or it is known in another safe way
    problem: str = ""  # what is missing or damaged
    lengths: tuple[tuple[int, bytes], ...] = ()  # for fields of the header that do not know it: offset and bytes


def bytes_at(file: BinaryIO, offset: int, n_bytes: int) -> bytes:
    file.seek(offset)
    return file.read(n_bytes)


def after_tags(file: BinaryIO, offset: int) -> int:
    """Where ID3v2 tags that begin at `offset` end."""
    while (head := bytes_at(file, offset, 10))[:3] == b"ID3" and len(head) == 10 and max(head[6:]) < 128:
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        offset += 10 + size + (10 if head[5] & 16 else 0)
    return offset
