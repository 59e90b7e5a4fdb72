"""Fewer codebooks of an `.esd` file, without decoding."""

from __future__ import annotations

from dataclasses import replace
from typing import BinaryIO

from .reader import Reader
from .writer import Writer


def transcode(reader: Reader, stream: BinaryIO, n_quantizers: int) -> int:
    """Copy a file with its first `n_quantizers` codebooks only; nothing is decoded. Returns the bytes written.

    Raises:
        ValueError: the file has fewer codebooks.
        DamagedBlock: a block is damaged.
    """
    header = reader.header
    if not 1 <= n_quantizers <= len(header.bits):
        raise ValueError(f"n_quantizers={n_quantizers}, but this file has 1 to {len(header.bits)} codebooks")
    writer = Writer(stream, replace(header, bits=header.bits[:n_quantizers]))
    for block in reader.read_blocks():
        assert block.codes is not None
        writer.write(block.codes[:n_quantizers])
    writer.finish(reader.original_samples)
    return writer.n_bytes
