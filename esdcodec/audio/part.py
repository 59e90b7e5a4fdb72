"""A part of an audio file, and reading of bytes, tags and beginnings, which all formats share."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

SHORT = "shorter than its header states"
BEGINNING = re.compile(  # of an audio file that is no mp3, so long that nothing else looks like it
    rb"(RIFF|RF64|BW64)....WAVE|FORM....AIF[FC]|caff\x00\x01\x00\x00|riff.{20}wave|\.snd\x00\x00|NIST_1A\n"
    rb"|fLaC[\x00\x80]\x00\x00\x22|OggS\x00\x02|\x00...ftyp",
    re.DOTALL,
)


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


def search(file: BinaryIO, pattern: re.Pattern[bytes], literal: bytes, start: int, stop: int) -> Iterator[int]:
    """Where a pattern of at most 64 bytes, which begins with `literal`, is found."""
    while start < stop:
        block = bytes_at(file, start, 2**20)
        for found in pattern.finditer(block) if literal in block else ():  # the latter is ten times as fast
            yield start + found.start()
        if len(block) < 2**20:
            return
        start += 2**20 - 64  # found twice only if it begins in the last 64 bytes and ends there
