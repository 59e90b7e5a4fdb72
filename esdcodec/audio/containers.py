"""What the bytes of an audio file say, without decoding: its kind, the files joined in it, what is missing.

A header's length is a claim. It is believed where the bytes agree with it; `Part.trusted` says so.
"""

import math
import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO


@dataclass(frozen=True)
class Part:
    """A byte range that is an audio file by itself; files put together by `cat` have several."""

    start: int
    stop: int
    kind: str  # wav, aiff, caf, w64, au, sph, voc, flac, ogg, mp3; "" for any other
    trusted: bool = True  # its header's length is that of the samples, or the kind has another safe way to tell it
    problem: str = ""  # what is missing or damaged


def parts_of(file: BinaryIO, *, thorough: bool = False) -> list[Part]:
    """The parts of a file that can seek; empty for an empty file.

    Args:
        thorough: look for damage too, which reads the whole file where a format has checksums (Ogg).
    """
    size = file.seek(0, os.SEEK_END)
    start = _after_tags(file, 0)
    head = _at(file, start, 64)
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
        missing = n_bytes not in _UNKNOWN and start + offset + n_bytes > size
        return [Part(start, size, "au", problem=_SHORT if missing else "")]
    if head[:19] == b"Creative Voice File":
        return [Part(start, size, "voc")]
    if head[:7] == b"NIST_1A":
        return [_sphere(file, start, size)]
    if head[:4] == b"fLaC":
        return _flac(file, start, size)
    if head[:4] == b"OggS":
        return _ogg(file, start, size, thorough)
    first = _first_mp3_frame(file, start, size)
    if first is not None:
        return _mp3(file, first, size)
    return [Part(0, size, "")]


_SHORT = "shorter than its header states"
_UNKNOWN = (0, 0xFFFFFFFF)  # lengths that programs write which don't know it yet


def _at(file: BinaryIO, offset: int, n_bytes: int) -> bytes:
    file.seek(offset)
    return file.read(n_bytes)


def _after_tags(file: BinaryIO, offset: int) -> int:
    """Where ID3v2 tags that begin at `offset` end."""
    while (head := _at(file, offset, 10))[:3] == b"ID3" and len(head) == 10 and max(head[6:]) < 128:
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        offset += 10 + size + (10 if head[5] & 16 else 0)
    return offset


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
        """Name, place and stated size of the content of each."""
        offset, header = start + self.first, self.name + struct.calcsize(self.size)
        while offset + header <= stop:
            head = _at(file, offset, header)
            size = struct.unpack_from(self.size, head, self.name)[0]
            content = offset + header
            yield head[: self.name], content, size - self.included
            if size < self.included:
                return
            offset = content + size - self.included
            offset += (start - offset) % self.align


def _checked(file: BinaryIO, part: Part, chunks: Chunks, name: bytes) -> Part:
    """The part, with a word where its audio chunk ends after the file."""
    for found, content, size in chunks.walk(file, part.start, part.stop):
        if found.startswith(name):
            short = part.stop < content + size < 2**62  # the largest numbers stand for a length that is not known
            return Part(part.start, part.stop, part.kind, problem=_SHORT if short else "")
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
    large = 0  # bytes of the audio of a file over 4 GB
    for name, content, size in chunks.walk(file, start, stop):
        if name == b"ds64":
            large = struct.unpack_from("<Q", _at(file, content + 8, 8).ljust(8, b"\0"))[0]
        if name in (b"RIFF", b"RF64") and _at(file, content, 4) == b"WAVE":
            return Part(start, content - 8, "wav"), content - 8
        if name != b"data":
            continue
        if size == 0xFFFFFFFF and large:
            return Part(start, stop, "wav", problem=_SHORT if content + large > stop else ""), None
        if size in _UNKNOWN or content + size > stop:
            streamed = size in _UNKNOWN and not _are_chunks(file, content, stop)
            streamed = streamed or size >= 0x7FFFF000  # the largest that a program could write, in its opinion
            short = content + size > stop and not streamed
            return Part(start, stop, "wav", trusted=size > 0 or not streamed, problem=_SHORT if short else ""), None
        if _holds_more(file, content + size, stop):
            more = f"{stop - content - size} bytes after the end that its header states are left out"
            return Part(start, stop, "wav", problem=more), None
    return Part(start, stop, "wav"), None


def _are_chunks(file: BinaryIO, start: int, stop: int) -> bool:
    """Whether chunks fill a range, which then is no audio."""
    end = start
    for name, content, size in Chunks(0, 4, "<I", 2).walk(file, start, stop):
        if not name.isascii() or not name.strip().isalnum():
            return False
        end = content + size
    return stop - end in (0, -1)


def _holds_more(file: BinaryIO, end: int, stop: int) -> bool:
    """Whether more than a little follows the stated audio that is no chunk, no tag and no filling."""
    head = _at(file, end, 2**16)
    named = any(head[pad : pad + 3].isascii() and head[pad : pad + 3].decode().isprintable() for pad in (0, 1))
    return stop - end > 4096 and not named and bool(head.strip(b"\0"))


def _sphere(file: BinaryIO, start: int, size: int) -> Part:
    fields = dict(re.findall(rb"\n(\w+) -i (\d{1,15})", _at(file, start, 1024)))
    names = (b"sample_count", b"channel_count", b"sample_n_bytes")
    n_bytes = math.prod(int(fields.get(name, b"0")) for name in names)
    return Part(start, size, "sph", problem=_SHORT if start + 1024 + n_bytes > size else "")


# ---- FLAC ------------------------------------------------------------------------------------------------------------

_FLAC = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")


def _flac(file: BinaryIO, start: int, size: int) -> list[Part]:
    starts = [start, *_search(file, _FLAC, b"fLaC", start + 42, size)]
    parts = []
    for begin, end in zip(starts, [*starts[1:], size]):
        info = _at(file, begin + 8, 18).ljust(18, b"\0")
        total = (info[13] & 15) << 32 | int.from_bytes(info[14:18], "big")  # samples; 0 is not known
        parts.append(Part(begin, end, "flac", trusted=total > 0))
    return parts


def _search(file: BinaryIO, pattern: re.Pattern[bytes], literal: bytes, start: int, stop: int) -> Iterator[int]:
    """Where a pattern of at most 64 bytes, which begins with `literal`, is found."""
    while start < stop:
        block = _at(file, start, 2**20)
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
        head = _at(file, offset, 27 + 255)
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
        if thorough and starts and not _ogg_page_is_whole(_at(file, offset, length)):
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


# ---- MPEG audio ------------------------------------------------------------------------------------------------------

_KBPS = {  # by version 1 or 2, and layer
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def _frame_sizes() -> dict[int, tuple[int, int]]:
    """From the second and third byte of an MPEG frame to its size in bytes, and its sample rate and layer as one."""
    table = {}
    for second in range(0xE0, 0x100):
        version, layer = {0: 3, 2: 2, 3: 1}.get(second >> 3 & 3, 0), 4 - (second >> 1 & 3)  # version 3 stands for 2.5
        if not version or layer == 4:
            continue
        for third in range(256):
            step, rate = third >> 4, third >> 2 & 3
            if not 0 < step < 15 or rate == 3:
                continue
            hz = (44100, 48000, 32000)[rate] >> version - 1
            bits = _KBPS[min(version, 2), layer][step - 1] * 1000
            padding = third >> 1 & 1
            samples = 384 if layer == 1 else 576 if layer == 3 and version > 1 else 1152
            size = (12 * bits // hz + padding) * 4 if layer == 1 else samples // 8 * bits // hz + padding
            table[second << 8 | third] = size, hz << 2 | layer
    return table


_FRAMES = _frame_sizes()
_LARGEST = 4096  # bytes; no frame is larger


def _first_mp3_frame(file: BinaryIO, start: int, size: int) -> int | None:
    """Where the first of two frames begins, within 64 KB, or of one that fills the file."""
    block = _at(file, start, 2**16 + 2 * _LARGEST)
    offset = block.find(b"\xff")
    while 0 <= offset < 2**16:
        if _is_frame(block, offset, start + len(block) == size):
            return start + offset
        offset = block.find(b"\xff", offset + 1)
    return None


def _is_frame(block: bytes, offset: int, at_end: bool) -> bool:
    """Whether a frame begins here, by its header and that of the next one."""
    kinds: list[int] = []
    for _ in range(2):
        if len(block) < offset + 4:
            return at_end and len(kinds) == 1 and offset == len(block)
        found = _FRAMES.get(block[offset + 1] << 8 | block[offset + 2]) if block[offset] == 0xFF else None
        if found is None:
            return bool(kinds) and at_end and block[offset : offset + 3] == b"TAG"
        kinds.append(found[1])
        offset += found[0]
    return kinds[0] == kinds[1]


def _statement(frame: bytes) -> tuple[int, int] | None:
    """Frames and bytes that a first frame states (Xing's header; 0: not stated), or None."""
    if len(frame) < 4:
        return None
    mono, version_1 = frame[3] >> 6 == 3, frame[1] & 8
    offset = 4 + ((17 if mono else 32) if version_1 else (9 if mono else 17))
    if frame[offset : offset + 4] not in (b"Xing", b"Info") or len(frame) < offset + 16:
        return None
    flags, *numbers = struct.unpack_from(">III", frame, offset + 4)
    return (numbers.pop(0) if flags & 1 else 0), (numbers.pop(0) if flags & 2 else 0)


def _mp3(file: BinaryIO, start: int, size: int) -> list[Part]:
    stated = _statement(_at(file, start, _LARGEST))
    if stated and min(stated) > 0 and abs(start + stated[1] - _before_end_tags(file, start, size)) < 16:
        return [Part(start, size, "mp3")]
    return _Mp3Scan(file, start, size).parts() or [Part(start, size, "mp3", trusted=False)]


def _before_end_tags(file: BinaryIO, start: int, stop: int) -> int:
    """Where the tags at the end of an mp3 begin."""
    if _at(file, max(start, stop - 128), 3) == b"TAG":
        stop -= 128
    footer = _at(file, max(start, stop - 32), 32)
    if footer[:8] == b"APETAGEX":
        stop -= struct.unpack_from("<I", footer, 12)[0] + (32 if footer[23] & 128 else 0)
    return stop


class _Mp3Scan:
    """Walks from frame to frame through a whole mp3 and finds where one was put behind another."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self.file, self.size = file, size
        self.starts: list[int] = []
        self.stated: list[int] = []  # frames
        self.frames: list[int] = []  # found
        self.lost: list[bool] = []
        self.kind = 0
        self.block, self.origin = b"", 0
        offset = start
        while offset < size:
            offset = self._step(offset)

    def _bytes(self, offset: int) -> int:
        """Where in `block` an offset of the file is, with `_LARGEST` bytes after it if there are as many."""
        place = offset - self.origin
        if not 0 <= place <= len(self.block) - 2 * _LARGEST:
            self.block, self.origin, place = _at(self.file, offset, 2**20), offset, 0
        return place

    def _step(self, offset: int) -> int:
        place = self._bytes(offset)
        block = self.block
        if block[place] == 0xFF and place + 4 <= len(block):
            frame = _FRAMES.get(block[place + 1] << 8 | block[place + 2])
            if frame and offset + frame[0] <= self.size:
                stated = _statement(block[place : place + 64])
                if frame[1] != self.kind and not _is_frame(block, place, self.origin + len(block) == self.size):
                    return self._resume(offset)
                if stated is not None or frame[1] != self.kind:
                    self._begin(offset, stated, frame[1])
                self.frames[-1] += stated is None
                return offset + frame[0]
            if frame:
                return self.size  # the last frame, cut
        if block[place : place + 3] == b"ID3":
            after = _after_tags(self.file, offset)
            if after > offset:
                return after
        if block[place : place + 3] == b"TAG":
            return offset + 128
        if block[place : place + 8] == b"APETAGEX":
            n_bytes, flags = struct.unpack_from("<I4xI", block[place + 12 : place + 24])
            return offset + 32 + (n_bytes if flags & 1 << 29 else 0)
        return self._resume(offset)

    def _begin(self, offset: int, stated: tuple[int, int] | None, kind: int) -> None:
        self.starts.append(offset)
        self.stated.append(stated[0] if stated else 0)
        self.frames.append(0)
        self.lost.append(False)
        self.kind = kind

    def _resume(self, offset: int) -> int:
        """Where frames go on after what is none."""
        search = offset + 1
        while search < self.size:
            place = self._bytes(search)
            found = self.block.find(b"\xff", place)
            if found < 0:
                search = self.origin + len(self.block)
                continue
            search = self.origin + found
            place = self._bytes(search)
            if _is_frame(self.block, place, self.origin + len(self.block) == self.size):
                self.lost[-1] = True
                return search
            search += 1
        return self.size

    def parts(self) -> list[Part]:
        ends = [*self.starts[1:], self.size]
        return [self._part(i, start, end) for i, (start, end) in enumerate(zip(self.starts, ends))]

    def _part(self, i: int, start: int, end: int) -> Part:
        short = self.frames[i] + 1 < self.stated[i]
        problem = _SHORT if short else "damaged mp3 frames" if self.lost[i] else ""
        return Part(start, end, "mp3", abs(self.stated[i] - self.frames[i]) <= 1 and not problem, problem)
