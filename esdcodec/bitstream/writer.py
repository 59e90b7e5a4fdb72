"""Codes into an `.esd` file."""

from __future__ import annotations

import zlib
from typing import BinaryIO

import numpy as np

from .format import CRC, END, END_MARKER, Codes, Header, pack


class Writer:
    """Writes codes as they come. What was written stays readable: a crash loses the last block at most.

    Args:
        stream: open for writing; a pipe will do.
    """

    def __init__(self, stream: BinaryIO, header: Header) -> None:
        self.stream, self.header = stream, header
        self.pending: Codes = np.empty((len(header.bits), 0), np.int64)
        self.n_frames = self.n_bytes = 0
        self._put(header.to_bytes())

    def write(self, codes: Codes) -> None:
        """Add frames ``[n, L]``.

        Raises:
            ValueError: there are more or fewer codebooks than in the header, or a code needs more bits.
        """
        codes = np.asarray(codes)
        if codes.ndim != 2 or len(codes) != len(self.header.bits):
            raise ValueError(f"codes must be [{len(self.header.bits)}, L], not {list(codes.shape)}")
        limits = 1 << np.array(self.header.bits)[:, None]
        if ((codes < 0) | (codes >= limits)).any():
            raise ValueError(f"codes must be from 0 to below {limits[:, 0].tolist()}, each codebook its own limit")
        self.pending = np.concatenate([self.pending, codes], axis=1)
        while self.pending.shape[1] >= self.header.block_frames:
            self._write_block(self.header.block_frames)

    def finish(self, original_samples: int) -> None:
        """Write what is left and the end marker; `original_samples` is the recording's length at its own rate.

        Raises:
            ValueError: a recording of this length has another number of frames than was written.
        """
        n_frames = self.n_frames + self.pending.shape[1]
        if self.header.num_frames(original_samples) != n_frames:
            raise ValueError(
                f"{original_samples} samples at {self.header.original_rate} Hz are "
                f"{self.header.num_frames(original_samples)} frames, but {n_frames} were written"
            )
        if self.pending.shape[1]:
            self._write_block(self.pending.shape[1])
        end = END_MARKER.pack(END, original_samples)
        self._put(end + CRC.pack(zlib.crc32(end)))

    def _put(self, data: bytes) -> None:
        self.stream.write(data)
        self.stream.flush()
        self.n_bytes += len(data)

    def _write_block(self, n_frames: int) -> None:
        codes, self.pending = self.pending[:, :n_frames], self.pending[:, n_frames:]
        block = bytes([n_frames]) + pack(codes, self.header.bits)
        index = self.n_frames // self.header.block_frames
        self._put(block + CRC.pack(zlib.crc32(block, index)))
        self.n_frames += n_frames
