"""Good blocks of a damaged `.esd` file, found by their checksums."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from .format import CRC, END, END_BYTES, SPARE_BLOCKS, Header, parse_end


@dataclass(frozen=True)
class FoundBlocks:
    """What a search of a damaged file gave."""

    offsets: dict[int, int]  # of good blocks by their number
    n_frames: int  # of the recording, as far as it is known
    samples: int  # at its own rate


def search(stream: BinaryIO, header: Header, start: int) -> FoundBlocks:
    """Find the blocks with a good checksum, at any offset from `start` and in any order.

    A checksum also depends on the number of its block. Bytes that are part of no block are stepped over one by one. A
    block shorter than the others is taken where the last one can be: a whole number of blocks after a good one, or
    before a good end marker. The end marker is believed if it promises no fewer frames than were found, and at most
    twice the blocks that the file has room for, and `SPARE_BLOCKS`; otherwise the recording ends with the last good
    block.
    """
    found = _BlockSearch(stream, header, start)
    position = start
    while position < found.size and found.samples is None:
        position += found.step(position)
    return found.result()


class _BlockSearch:
    def __init__(self, stream: BinaryIO, header: Header, start: int) -> None:
        self.header = header
        self.size = stream.seek(0, io.SEEK_END)
        self.full = header.block_bytes(header.block_frames)
        self.limit = 2 * ((self.size - start) // self.full) + SPARE_BLOCKS  # blocks
        self.numbers = _checksums_of_numbers(self.full - CRC.size, self.limit)
        self.window = _Window(stream, self.full + END_BYTES)
        self.offsets: dict[int, int] = {}
        self.short: tuple[int, int, int] | None = None  # number, frames, offset
        self.samples: int | None = None  # of the end marker, once it is found
        self.next_number, self.next_offset = 0, start  # of the block after the last good one

    def step(self, position: int) -> int:
        """Look at `position`; returns the size of the block or end marker there, or 1."""
        self.window.move(position)
        n_frames = self.window.take(0, 1)[0]
        if n_frames == END:
            return self._end()
        if n_frames == self.header.block_frames and position + self.full <= self.size:
            return self._full_block(position)
        if n_frames < self.header.block_frames and position + self.header.block_bytes(n_frames) <= self.size:
            return self._short_block(position, n_frames)
        return 1

    def _full_block(self, position: int) -> int:
        block = self.window.take(0, self.full)
        number = self.numbers.get(zlib.crc32(block[: -CRC.size]) ^ CRC.unpack(block[-CRC.size :])[0])
        if number is None:
            return 1
        self.offsets.setdefault(number, position)
        self.next_number, self.next_offset = number + 1, position + self.full
        return self.full

    def _end(self) -> int:
        samples = parse_end(self.window.take(0, END_BYTES))
        if samples is None or self.header.num_frames(samples) > self.limit * self.header.block_frames:
            return 1
        self.samples = samples
        return END_BYTES

    def _short_block(self, position: int, n_frames: int) -> int:
        length = self.header.block_bytes(n_frames)
        candidates = []  # numbers that it may have
        blocks_between, rest = divmod(position - self.next_offset, self.full)
        if rest == 0:
            candidates.append(self.next_number + blocks_between)
        samples = parse_end(self.window.take(length, END_BYTES))
        if samples is not None:
            number, last_frames = divmod(self.header.num_frames(samples), self.header.block_frames)
            candidates += [number] * (last_frames == n_frames)
        block = self.window.take(0, length) if candidates else b""
        crc = block[-CRC.size :]
        right = [i for i in candidates if i < self.limit and CRC.pack(zlib.crc32(block[: -CRC.size], i)) == crc]
        if not right:
            return 1
        self.short = right[0], n_frames, position
        return length

    def result(self) -> FoundBlocks:
        header, offsets = self.header, self.offsets
        n_frames = header.block_frames * (max(offsets, default=-1) + 1)
        if self.short and self.short[0] * header.block_frames >= n_frames:
            number, rest, offsets[number] = self.short
            n_frames = number * header.block_frames + rest
        if self.samples is not None and header.num_frames(self.samples) >= n_frames:
            return FoundBlocks(offsets, header.num_frames(self.samples), self.samples)
        return FoundBlocks(offsets, n_frames, n_frames * header.hop_length * header.original_rate // header.sample_rate)


def _checksums_of_numbers(length: int, limit: int) -> dict[int, int]:
    """What the numbers to below `limit` add to the checksum of `length` bytes, which CRC-32 makes the same for all."""
    zeros = bytes(length)
    nothing = zlib.crc32(zeros)
    return {zlib.crc32(zeros, number) ^ nothing: number for number in range(limit)}


class _Window:
    """A piece of a file in memory, so that moving on by a byte reads nothing."""

    SIZE = 2**16

    def __init__(self, stream: BinaryIO, ahead: int) -> None:
        self.stream, self.ahead = stream, ahead  # bytes that may be taken
        self.data, self.start, self.offset, self.to_end = b"", 0, 0, False

    def move(self, position: int) -> None:
        """Begin at `position` in the file."""
        self.offset = position - self.start
        if self.offset + self.ahead > len(self.data) and not self.to_end:
            self.stream.seek(position)
            self.data, self.start, self.offset = self.stream.read(self.ahead + self.SIZE), position, 0
            self.to_end = len(self.data) < self.ahead + self.SIZE

    def take(self, start: int, size: int) -> bytes:
        """Up to `size` bytes, `start` after the beginning."""
        return self.data[self.offset + start : self.offset + start + size]
