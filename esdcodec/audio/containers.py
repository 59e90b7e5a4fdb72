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
from itertools import islice
from typing import BinaryIO

from .flac import flac_parts
from .mpeg import begins_frame, first_frame, mp3_parts
from .part import BEGINNING, SHORT, Part, after_tags, bytes_at, search


def parts_of(file: BinaryIO, *, thorough: bool = False) -> list[Part]:
    """The parts of a file that can seek; empty for an empty file.

    Args:
        thorough: look for damage too, which reads the whole file where a format has checksums (Ogg).
    """
    size = file.seek(0, os.SEEK_END)
    parts: list[Part] = []
    while (start := parts[-1].stop if parts else 0) < size:
        found = _parts_from(file, start, size, thorough)
        if not found:
            break
        parts += found
    return parts


def _parts_from(file: BinaryIO, begin: int, size: int, thorough: bool) -> list[Part]:
    """The parts of one format from `begin` on. The last one stops before `size` if another format follows."""
    start = after_tags(file, begin)
    head = bytes_at(file, start, 64)
    if not head:
        return []
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return [_wav(file, start, size)]
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return [_chunked(file, Part(start, size, "aiff"), Chunks(12, 4, ">I", 2), b"SSND")]
    if head[:8] == b"caff\x00\x01\x00\x00":
        return [_chunked(file, Part(start, size, "caf"), Chunks(8, 4, ">q", 1), b"data")]
    if head[:4] == b"riff" and head[24:28] == b"wave":
        return [_chunked(file, Part(start, size, "w64"), Chunks(40, 16, "<Q", 8, 24), b"data")]
    if head[:4] == b".snd":
        offset, n_bytes = struct.unpack_from(">II", head, 4)
        part = _sized(Part(start, size, "au"), start + offset, n_bytes, start + 8, ">I")
        return [_up_to_next(file, part, start + offset + n_bytes, Chunks(0, 4, ">I", 1))]
    if head[:19] == b"Creative Voice File":
        return [Part(start, size, "voc")]
    if head[:7] == b"NIST_1A":
        return [_sphere(file, start, size)]
    if head[:4] == b"fLaC":
        return flac_parts(file, start, size)
    if head[:4] == b"OggS":
        return _ogg(file, start, size, thorough)
    if head[4:8] == b"ftyp":
        return [_mp4(file, begin, size)]
    for pattern in _SEARCHED:
        if pattern.match(head):
            starts = [begin, *search(file, pattern, head[:4], start + 4, size)]
            return [Part(first, stop, "") for first, stop in zip(starts, [*starts[1:], size])]
    first = first_frame(file, start, size)
    return [Part(begin, size, "")] if first is None else mp3_parts(file, first, size)


def _file_begins(file: BinaryIO, offset: int, size: int) -> bool:
    """Whether an audio file begins here, or its tags do."""
    after = after_tags(file, offset)
    return bool(BEGINNING.match(bytes_at(file, after, 64))) or begins_frame(file, after, size)


# Formats that FFmpeg alone reads, and of joined files only the first: flv, tta, amr, asf.
_SEARCHED = [
    re.compile(rb"FLV\x01[\x01\x04\x05]\x00\x00\x00\x09"),
    re.compile(rb"TTA1[\x01-\x03]\x00"),
    re.compile(rb"#!AMR(-WB)?\n"),
    re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c"),
]


def _mp4(file: BinaryIO, start: int, size: int) -> Part:
    """The boxes of mp4, mov or m4a, up to where another file was put behind them."""
    offset = start
    while offset + 8 <= size:
        if offset > start and _file_begins(file, offset, size):
            return Part(start, offset, "")
        head = bytes_at(file, offset, 16)
        length = int.from_bytes(head[8:16] if head[:4] == b"\0\0\0\1" else head[:4], "big")
        if length < 8:  # 0: to the end
            break
        offset += length
    return Part(start, size, "")


# ---- chunks: wav, aiff, caf, w64 -------------------------------------------------------------------------------------

MOST_CHUNKS = 1000  # behind the audio, that are looked at


@dataclass(frozen=True)
class Chunks:
    """How a format writes its chunks: name, size, content."""

    first: int  # bytes before the first
    name: int  # bytes
    size: str  # struct format
    align: int  # bytes
    included: int = 0  # bytes of name and size that the size counts

    @property
    def header(self) -> int:
        """Bytes before the content of a chunk."""
        return self.name + struct.calcsize(self.size)

    def walk(self, file: BinaryIO, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
        """Name, offset and stated size of the content of each chunk."""
        offset = start + self.first
        while offset + self.header <= stop:
            head = bytes_at(file, offset, self.header)
            size = struct.unpack_from(self.size, head, self.name)[0]
            content = offset + self.header
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


def _chunked(file: BinaryIO, part: Part, chunks: Chunks, name: bytes) -> Part:
    """The part, with the length of its audio chunk looked at, and without what was put behind it."""
    for found, content, size in chunks.walk(file, part.start, part.stop):
        if found.startswith(name):
            if size == 0 and chunks.fill(file, content, part.stop):
                return part
            field = content - struct.calcsize(chunks.size)
            sized = _sized(part, content, size, field, chunks.size, chunks.included)
            return _up_to_next(file, sized, content + size, chunks)
    return part


def _wav(file: BinaryIO, start: int, stop: int) -> Part:
    chunks = Chunks(12, 4, "<I", 2)
    part = Part(start, stop, "wav")
    ds64 = 0  # where a file over 4 GB has its lengths
    for name, content, size in chunks.walk(file, start, stop):
        if name == b"ds64":
            ds64 = content
        if name != b"data":
            continue
        if size == 0 and chunks.fill(file, content, stop):
            return part
        if ds64 and size in (0, 0xFFFFFFFF):
            size = struct.unpack("<Q", bytes_at(file, ds64 + 8, 8).ljust(8, b"\0"))[0]
            part = _sized(part, content, size, ds64 + 8, "<Q")
            if part.lengths:
                riff = ds64, struct.pack("<Q", stop - start - 8)
                part = replace(part, lengths=(riff, *part.lengths, (content - 4, b"\xff" * 4)))
        else:
            part = _sized(part, content, size, content - 4, "<I")
        return _up_to_next(file, part, content + size, chunks)
    return part


def _up_to_next(file: BinaryIO, part: Part, end: int, chunks: Chunks) -> Part:
    """The part without another file that follows the end of its audio; a problem where something else does."""
    if part.lengths or part.problem:
        return part  # all that follows is its audio
    end += (part.start - end) % chunks.align
    behind = replace(chunks, first=end - part.start).walk(file, part.start, part.stop)
    for name, content, _ in islice(behind, MOST_CHUNKS):
        offset = content - chunks.header
        if _file_begins(file, offset, part.stop):
            return replace(part, stop=offset)
        if not name.strip(b"\0"):
            break
    if part.kind != "w64" and _holds_more(file, end, part.stop):  # of a w64 all is read
        return replace(part, problem=f"{part.stop - end} bytes after the end that its header states are left out")
    return part


def _holds_more(file: BinaryIO, end: int, stop: int) -> bool:
    """Whether more than a little follows the stated audio that is no chunk, no tag and no filling."""
    head = bytes_at(file, end, 2**16)
    named = any(head[pad : pad + 3].isascii() and head[pad : pad + 3].decode().isprintable() for pad in (0, 1))
    return stop - end > 4096 and not named and bool(head.strip(b"\0"))


def _sphere(file: BinaryIO, start: int, size: int) -> Part:
    fields = dict(re.findall(rb"\n(\w+) -i (\d{1,15})", bytes_at(file, start, 1024)))
    names = (b"sample_count", b"channel_count", b"sample_n_bytes")
    end = start + 1024 + math.prod(int(fields.get(name, b"0")) for name in names)
    if _file_begins(file, end, size):
        return Part(start, end, "sph")
    return Part(start, size, "sph", problem=SHORT if end > size else "")


# ---- Ogg -------------------------------------------------------------------------------------------------------------

_BACKWARDS = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))


def _ogg(file: BinaryIO, start: int, size: int, thorough: bool) -> list[Part]:
    starts: list[int] = []
    problems: dict[int, str] = {}
    first_pages = mixed = False
    times: dict[bytes, int] = {}  # of the last page of each stream, in samples
    offset = start
    while offset < size:
        head = bytes_at(file, offset, 27 + 255)
        if starts and head[:4] != b"OggS" and _file_begins(file, offset, size):
            size = offset
            break
        n_segments = head[26] if len(head) >= 27 and head[:4] == b"OggS" else -1
        length = 27 + n_segments + sum(head[27 : 27 + n_segments])
        if n_segments < 0 or len(head) < 27 + n_segments or offset + length > size:
            if starts:
                problem = "cut inside an Ogg page" if n_segments >= 0 else "damaged Ogg pages"
                problems.setdefault(len(starts) - 1, problem)
            offset = next(search(file, re.compile(b"OggS"), b"OggS", offset + 1, size), size)
            continue
        if head[5] & 2:  # a stream begins here
            mixed |= first_pages
            if not first_pages:
                starts.append(offset)
                times.clear()
            first_pages = True
        else:
            first_pages = False
        time = int.from_bytes(head[6:14], "little", signed=True)  # -1: no packet ends in this page
        backwards = not mixed and time < times.get(head[14:18], 0) and (time != -1 or head[5] & 4)
        times[head[14:18]] = max(time, times.get(head[14:18], 0))
        if starts and (backwards or (thorough and not _ogg_page_is_whole(bytes_at(file, offset, length)))):
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
