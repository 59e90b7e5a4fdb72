"""MPEG audio without decoding: where its frames begin, what the first of them states, and what is missing."""

import struct
from typing import BinaryIO, NamedTuple

from .part import BEGINNING, SHORT, Part, after_tags, bytes_at

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


def first_frame(file: BinaryIO, start: int, size: int) -> int | None:
    """Where the first of two frames begins, within 64 KB, or of one that fills the file."""
    block = bytes_at(file, start, 2**16 + 2 * _LARGEST)
    offset = block.find(b"\xff")
    while 0 <= offset < 2**16:
        if _is_frame(block, offset, start + len(block) == size):
            return start + offset
        offset = block.find(b"\xff", offset + 1)
    return None


def begins_frame(file: BinaryIO, start: int, size: int) -> bool:
    """Whether a frame begins here."""
    block = bytes_at(file, start, 2 * _LARGEST)
    return _is_frame(block, 0, start + len(block) == size)


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


class _Statement(NamedTuple):
    """What a first frame states in Xing's header."""

    frames: int = 0  # 0: not known
    n_bytes: int | None = None
    offset: int = 0  # of the number of frames, from the beginning of the frame


def _statement(frame: bytes) -> _Statement | None:
    """That of a first frame, None of any other."""
    if len(frame) < 4:
        return None
    mono, version_1 = frame[3] >> 6 == 3, frame[1] & 8
    offset = 4 + ((17 if mono else 32) if version_1 else (9 if mono else 17))
    if frame[offset : offset + 4] not in (b"Xing", b"Info") or len(frame) < offset + 16:
        return None
    flags, *numbers = struct.unpack_from(">III", frame, offset + 4)
    return _Statement(numbers.pop(0) if flags & 1 else 0, numbers.pop(0) if flags & 2 else None, offset + 8)


def mp3_parts(file: BinaryIO, start: int, size: int) -> list[Part]:
    return _Mp3Scan(file, start, size).parts() or [Part(start, size, "mp3", trusted=False)]


class _Mp3Scan:
    """Walks from frame to frame through a whole mp3 and finds where one was put behind another."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self.file, self.size = file, size
        self.starts: list[int] = []
        self.stated: list[_Statement] = []
        self.frames: list[int] = []  # found
        self.lost: list[bool] = []
        self.cut = False  # within the last frame
        self.kind = 0
        self.block, self.origin = b"", 0
        offset = start
        while offset < self.size:
            offset = self._step(offset)

    def _bytes(self, offset: int) -> int:
        """Where in `block` an offset of the file is, with `_LARGEST` bytes after it if there are as many."""
        index = offset - self.origin
        if not 0 <= index <= len(self.block) - 2 * _LARGEST:
            self.block, self.origin, index = bytes_at(self.file, offset, 2**20), offset, 0
        return index

    def _step(self, offset: int) -> int:
        index = self._bytes(offset)
        block = self.block
        if block[index] == 0xFF and index + 4 <= len(block):
            frame = _FRAMES.get(block[index + 1] << 8 | block[index + 2])
            if frame and offset + frame[0] <= self.size:
                stated = _statement(block[index : index + 64])
                if frame[1] != self.kind and not _is_frame(block, index, self.origin + len(block) == self.size):
                    return self._resume(offset)
                if stated is not None or frame[1] != self.kind:
                    self._begin(offset, stated, frame[1])
                self.frames[-1] += stated is None
                return offset + frame[0]
            if frame:
                self.cut = True
                return self.size
        if block[index : index + 3] == b"ID3":
            after = after_tags(self.file, offset)
            if after > offset:
                return after
        if block[index : index + 3] == b"TAG":
            return offset + 128
        if block[index : index + 8] == b"APETAGEX":
            n_bytes, flags = struct.unpack_from("<I4xI", block[index + 12 : index + 24])
            return offset + 32 + (n_bytes if flags & 1 << 29 else 0)
        if BEGINNING.match(block[index : index + 64]):
            self.size = offset
            return offset
        return self._resume(offset)

    def _begin(self, offset: int, stated: _Statement | None, kind: int) -> None:
        self.starts.append(offset)
        self.stated.append(stated or _Statement())
        self.frames.append(0)
        self.lost.append(False)
        self.kind = kind

    def _resume(self, offset: int) -> int:
        """Where frames go on after what is none."""
        search = offset + 1
        while search < self.size:
            index = self._bytes(search)
            found = self.block.find(b"\xff", index)
            if found < 0:
                search = self.origin + len(self.block)
                continue
            search = self.origin + found
            index = self._bytes(search)
            if _is_frame(self.block, index, self.origin + len(self.block) == self.size):
                self.lost[-1] = True
                return search
            search += 1
        return self.size

    def parts(self) -> list[Part]:
        ends = [*self.starts[1:], self.size]
        return [self._part(i, start, end) for i, (start, end) in enumerate(zip(self.starts, ends))]

    def _part(self, i: int, start: int, end: int) -> Part:
        stated, frames = self.stated[i], self.frames[i]
        cut = self.cut and end == self.size
        short = SHORT if frames + 1 < stated.frames else ""
        problem = short or ("damaged mp3 frames" if self.lost[i] else "cut inside an mp3 frame" if cut else "")
        if not stated.frames or problem:
            return Part(start, end, "mp3", trusted=False, problem=problem)
        n_bytes = end - start if stated.n_bytes is None else stated.n_bytes
        if abs(stated.frames - frames) <= 1 and abs(n_bytes - (end - start)) <= (end - start) // 200:
            return Part(start, end, "mp3")
        numbers = struct.pack(">II", frames, end - start)[: 4 if stated.n_bytes is None else 8]
        return Part(start, end, "mp3", lengths=((start + stated.offset, numbers),))
