"""Codes out of an `.esd` file, or of a pipe."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from .format import END, END_BYTES, BitstreamError, Block, Codes, damaged_block, parse_end, read_block, read_header
from .recovery import search


@dataclass
class PipeReader:
    """Reads blocks one after the other from what cannot seek, as they come.

    After the last block `original_samples` is known.
    """

    stream: BinaryIO

    def __post_init__(self) -> None:
        self.header = read_header(self.stream)
        self.error: BitstreamError | None = None  # with the end: it is not known before
        self.original_samples: int | None = None

    def read_blocks(self) -> Iterator[Block]:
        """
        Raises:
            DamagedBlock: a block is damaged, or the stream ends without end marker. What follows cannot be found.
        """
        header, index, n_frames = self.header, 0, 0
        last = False
        while True:
            size = self.stream.read(1)
            if size == bytes([END]):
                samples = parse_end(size + self.stream.read(END_BYTES - 1))
                if samples is None or header.num_frames(samples) != n_frames or self.stream.read(1):
                    raise damaged_block(header, index, 0, "should be the end of the file, and is damaged")
                self.original_samples = samples
                return
            if not size or last or size[0] > header.block_frames:
                what = "is missing: the file ends before its end marker" if not size else "is damaged: no such length"
                raise damaged_block(header, index, header.block_frames, what)
            data = size + self.stream.read(header.block_bytes(size[0]) - 1)
            if len(data) < header.block_bytes(size[0]):
                raise damaged_block(header, index, size[0], "is cut: the file ends within it")
            block = read_block(header, index, data, size[0])
            if block.error:
                raise block.error
            n_frames += size[0]
            last = size[0] < header.block_frames
            yield block
            index += 1


class Reader:
    """Reads any part of a file that can seek; blocks have known offsets, so nothing else is read.

    Args:
        stream: open for reading, seekable.
        recover: take what is whole of a damaged file. All of it is read and searched for good blocks, wherever they
            are; lost ones are in `read_blocks` without codes. `error` says what is wrong with the file's end.

    Raises:
        BitstreamError: this is no `.esd` file, or not a whole one.
    """

    def __init__(self, stream: BinaryIO, *, recover: bool = False) -> None:
        self.stream, self.recover = stream, recover
        stream.seek(0)
        self.header = header = read_header(stream)
        self.start = stream.tell()
        size = stream.seek(0, io.SEEK_END) - self.start
        self.error: BitstreamError | None = None  # with the file's end
        samples = None
        if size >= END_BYTES:
            stream.seek(-END_BYTES, io.SEEK_END)
            samples = parse_end(stream.read(END_BYTES))
        if samples is None:
            whole_blocks = size // header.block_bytes(header.block_frames)
            self.error = damaged_block(
                header, whole_blocks, 0, "or the end after it is missing or damaged: the file was cut, or more follows"
            )
        elif size != header.body_bytes(header.num_frames(samples)) + END_BYTES:
            self.error = BitstreamError(
                f"the file's end says {samples} samples, {header.num_frames(samples)} frames, but its size is "
                "not theirs: blocks are missing"
            )
        self.offsets: dict[int, int] | None = None  # of the good blocks of a damaged file
        if recover:
            found = search(stream, header, self.start)
            self.offsets, self.n_frames, self.original_samples = found.offsets, found.n_frames, found.samples
        elif self.error is not None:
            raise self.error
        else:
            assert samples is not None
            self.n_frames, self.original_samples = header.num_frames(samples), samples

    @property
    def n_blocks(self) -> int:
        return -(-self.n_frames // self.header.block_frames)

    @property
    def duration(self) -> float:
        """Seconds of the recording."""
        return self.original_samples / self.header.original_rate

    def read_blocks(self, first: int = 0, last: int | None = None) -> Iterator[Block]:
        """Blocks `first` to below `last` (default: all).

        Raises:
            DamagedBlock: a block is damaged, and `recover` was not asked for.
        """
        header = self.header
        full = header.block_bytes(header.block_frames)
        for index in range(first, self.n_blocks if last is None else min(last, self.n_blocks)):
            n_frames = min(header.block_frames, self.n_frames - index * header.block_frames)
            if self.offsets is not None and index not in self.offsets:
                yield Block(index, None, n_frames, damaged_block(header, index, n_frames, "is damaged or missing"))
                continue
            self.stream.seek(self.start + index * full if self.offsets is None else self.offsets[index])
            data = self.stream.read(header.block_bytes(n_frames))
            if len(data) < header.block_bytes(n_frames):
                block = Block(index, None, n_frames, damaged_block(header, index, n_frames, "is cut"))
            else:
                block = read_block(header, index, data, n_frames)
            if block.error and not self.recover:
                raise block.error
            yield block

    def read(self, start: int = 0, stop: int | None = None) -> Codes:
        """Codes ``[n, stop - start]`` of frames `start` to below `stop` (default: all). Lost ones are -1.

        Raises:
            ValueError: there are no such frames.
            DamagedBlock: as `read_blocks`.
        """
        stop = self.n_frames if stop is None else stop
        if not 0 <= start <= stop <= self.n_frames:
            raise ValueError(f"frames {start} to {stop} are not within the {self.n_frames} of this file")
        if start == stop:
            return np.empty((len(self.header.bits), 0), np.int64)
        size = self.header.block_frames
        first, last = start // size, -(-stop // size)
        codes = [
            np.full((len(self.header.bits), b.n_frames), -1, np.int64) if b.codes is None else b.codes
            for b in self.read_blocks(first, last)
        ]
        return np.concatenate(codes, axis=1)[:, start - first * size : stop - first * size]
