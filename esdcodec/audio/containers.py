"""What the bytes of an audio file say, without decoding: its kind, the files joined in it, what is missing.

The length in a header may be wrong. `Part.trusted` says whether the bytes agree with it.
"""

import math
import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from .mpeg import first_frame, mp3_parts
from .part import SHORT, Part, after_tags, bytes_at


def parts_of(file: BinaryIO, *, thorough: bool = False) -> list[Part]:
    """The parts of a file that can seek; empty for an empty file.

    Args:
        thorough: look for damage too, which reads the whole file where a format has checksums (Ogg).
    """
    size = file.seek(0, os.SEEK_END)
    start = after_tags(file, 0)
    head = bytes_at(file, start, 64)
    if not head:
        return []
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return _wav(file, start, size)
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return [_checked(file, Part(start, size, "aiff"), Chunks(12, 4, ">I", 2), b"SSND")]
    if head[:8] == b"caff\x00\x01\x00\x00":
        return [_checked(file, Part(start, size, "caf"), Chunks(8, 4, ">q", 1), b"data")]
    if head[:4] == b"riff" and head[24:28] == b"wave":
        return [_checked(file, Part(start, size, "w64"), Chunks(40, 16, "<Q", 8, 24), b"data")]
    if head[:4] == b".snd":
        offset, n_bytes = struct.unpack_from(">II", head, 4)
        return [_sized(Part(start, size, "au"), start + offset, n_bytes, start + 8, ">I")]
    if head[:19] == b"Creative Voice File":
        return [Part(start, size, "voc")]
    if head[:7] == b"NIST_1A":
        return [_sphere(file, start, size)]
    if head[:4] == b"fLaC":
        return _flac(file, start, size)
    if head[:4] == b"OggS":
        return _ogg(file, start, size, thorough)
    first = first_frame(file, start, size)
    if first is not None:
        return mp3_parts(file, first, size)
    return [Part(0, size, "")]


# ---- chunks: wav, aiff, caf, w64 -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chunks:
    """How a format writes its chunks: name, size, content."""

    first: int  # bytes before the first
    name: int  # bytes
    size: str  # struct format
    align: int  # bytes
    included: int = 0  # bytes of name and size that the size counts

    def walk(self, file: BinaryIO, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
        """Name, offset and stated size of the content of each chunk."""
        offset, header = start + self.first, self.name + struct.calcsize(self.size)
        while offset + header <= stop:
            head = bytes_at(file, offset, header)
            size = struct.unpack_from(self.size, head, self.name)[0]
            content = offset + header
            yield head[: self.name], content, size - self.included
            if size < self.included:
                return
            offset = content + size - self.included
            offset += (start - offset) % self.align

    def fill(self, file: BinaryIO, start: int, stop: int) -> bool:
        """Whether chunks fill a range, which then is no audio."""
        end = start
        for name, content, size in replace(self, first=0).walk(file, start, stop):
            if not name[:4].isascii() or not name[:4].strip().isalnum():
                return False
            end = content + size
        return stop - end in (0, -1)


def _sized(part: Part, content: int, stated: int, field: int, layout: str, included: int = 0) -> Part:
    """The part, whose audio begins at `content`, with a problem where it would end after the file.

    A length that is not known is given to the decoder as that of all that follows.

    Args:
        stated: bytes of audio.
        field: where in the file they are stated, with `included` bytes more.
        layout: of that field, as `struct` has it.
    """
    there = part.stop - content
    if 0 < stated <= there or there <= 0:
        return part
    bits = 8 * struct.calcsize(layout)
    largest = stated + included == 0xFFFFFFFF or stated + included >= 2 ** (bits - 1) - 4096
    if stated > 0 and not largest:  # the largest, or nearly, stands for one that is not known
        return replace(part, problem=SHORT)
    limit = 2 ** (bits - layout.endswith("q")) - 1  # q: with a sign
    return replace(part, lengths=((field, struct.pack(layout, min(there + included, limit))),))


def _checked(file: BinaryIO, part: Part, chunks: Chunks, name: bytes) -> Part:
    """The part, with the length of its audio chunk looked at."""
    for found, content, size in chunks.walk(file, part.start, part.stop):
        if found.startswith(name):
            if size == 0 and chunks.fill(file, content, part.stop):
                return part
            field = content - struct.calcsize(chunks.size)
            return _sized(part, content, size, field, chunks.size, chunks.included)
    return part


def _wav(file: BinaryIO, start: int, size: int) -> list[Part]:
    parts = []
    following: int | None = start
    while following is not None:
        part, following = _one_wav(file, following, size)
        parts.append(part)
    return parts


def _one_wav(file: BinaryIO, start: int, stop: int) -> tuple[Part, int | None]:
    """The first wav from `start` on, and where another one begins that was put behind it."""
    chunks = Chunks(12, 4, "<I", 2)
    part = Part(start, stop, "wav")
    ds64 = 0  # where a file over 4 GB has its lengths
    for name, content, size in chunks.walk(file, start, stop):
        if name == b"ds64":
            ds64 = content
        if name in (b"RIFF", b"RF64") and bytes_at(file, content, 4) == b"WAVE":
            return Part(start, content - 8, "wav"), content - 8
        if name != b"data":
            continue
        if size == 0 and chunks.fill(file, content, stop):
            return part, None
        if ds64 and size in (0, 0xFFFFFFFF):
            large = struct.unpack("<Q", bytes_at(file, ds64 + 8, 8).ljust(8, b"\0"))[0]
            part = _sized(part, content, large, ds64 + 8, "<Q")
            if part.lengths:
                riff = ds64, struct.pack("<Q", stop - start - 8)
                part = replace(part, lengths=(riff, *part.lengths, (content - 4, b"\xff" * 4)))
            return part, None
        if size == 0 or content + size > stop:
            return _sized(part, content, size, content - 4, "<I"), None
        if _holds_more(file, content + size, stop):
            more = f"{stop - content - size} bytes after the end that its header states are left out"
            return replace(part, problem=more), None
    return part, None


def _holds_more(file: BinaryIO, end: int, stop: int) -> bool:
    """Whether more than a little follows the stated audio that is no chunk, no tag and no filling."""
    head = bytes_at(file, end, 2**16)
    named = any(head[pad : pad + 3].isascii() and head[pad : pad + 3].decode().isprintable() for pad in (0, 1))
    return stop - end > 4096 and not named and bool(head.strip(b"\0"))


def _sphere(file: BinaryIO, start: int, size: int) -> Part:
    fields = dict(re.findall(rb"\n(\w+) -i (\d{1,15})", bytes_at(file, start, 1024)))
    names = (b"sample_count", b"channel_count", b"sample_n_bytes")
    n_bytes = math.prod(int(fields.get(name, b"0")) for name in names)
    return Part(start, size, "sph", problem=SHORT if start + 1024 + n_bytes > size else "")


# ---- FLAC ------------------------------------------------------------------------------------------------------------

_FLAC = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")


def _flac(file: BinaryIO, start: int, size: int) -> list[Part]:
    starts = [start, *_search(file, _FLAC, b"fLaC", start + 42, size)]
    parts = []
    for begin, end in zip(starts, [*starts[1:], size]):
        info = bytes_at(file, begin + 8, 18).ljust(18, b"\0")
        total = (info[13] & 15) << 32 | int.from_bytes(info[14:18], "big")  # samples; 0 is not known
        parts.append(Part(begin, end, "flac", trusted=total > 0))
    return parts


def _search(file: BinaryIO, pattern: re.Pattern[bytes], literal: bytes, start: int, stop: int) -> Iterator[int]:
    """Where a pattern of at most 64 bytes, which begins with `literal`, is found."""
    while start < stop:
        block = bytes_at(file, start, 2**20)
        for found in pattern.finditer(block) if literal in block else ():  # the latter is ten times as fast
            yield start + found.start()
        if len(block) < 2**20:
            return
        start += 2**20 - 64  # found twice only if it begins in the last 64 bytes and ends there


# ---- Ogg -------------------------------------------------------------------------------------------------------------

_BACKWARDS = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))


def _ogg(file: BinaryIO, start: int, size: int, thorough: bool) -> list[Part]:
    starts: list[int] = []
    problems: dict[int, str] = {}
    first_pages = mixed = False
    offset = start
    while offset < size:
        head = bytes_at(file, offset, 27 + 255)
        n_segments = head[26] if len(head) >= 27 and head[:4] == b"OggS" else -1
        length = 27 + n_segments + sum(head[27 : 27 + n_segments])
        if n_segments < 0 or len(head) < 27 + n_segments or offset + length > size:
            if starts:
                problem = "cut inside an Ogg page" if n_segments >= 0 else "damaged Ogg pages"
                problems.setdefault(len(starts) - 1, problem)
            offset = next(_search(file, re.compile(b"OggS"), b"OggS", offset + 1, size), size)
            continue
        if head[5] & 2:  # a stream begins here
            mixed |= first_pages
            if not first_pages:
                starts.append(offset)
            first_pages = True
        else:
            first_pages = False
        if thorough and starts and not _ogg_page_is_whole(bytes_at(file, offset, length)):
            problems.setdefault(len(starts) - 1, "damaged Ogg pages")
        offset += length
    if not starts:
        return [Part(start, size, "")]
    ends = [*starts[1:], size]
    return [_ogg_part(begin, end, mixed, problems.get(i, "")) for i, (begin, end) in enumerate(zip(starts, ends))]


def _ogg_part(start: int, stop: int, mixed: bool, problem: str) -> Part:
    # soundfile reads no sound beside pictures, and what follows a lost page too early
    return Part(start, stop, "" if mixed else "ogg", trusted="damaged" not in problem, problem=problem)


def _ogg_page_is_whole(page: bytes) -> bool:
    """Its checksum is CRC-32 as zlib has it, but with all bits the other way round and neither end inverted."""
    blank = page[:22] + bytes(4) + page[26:]
    crc = zlib.crc32(blank.translate(_BACKWARDS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{crc:032b}"[::-1], 2) == int.from_bytes(page[22:26], "little")
