"""FLAC without decoding: where files were joined, and whether frames follow the length that a header states."""

import re
from collections.abc import Iterator
from typing import BinaryIO

from .part import Part, bytes_at, search

_START = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
_BLOCK_SIZES = {1: 192, **{code: 576 << code - 2 for code in range(2, 6)}, **{c: 256 << c - 8 for c in range(8, 16)}}
_LONGEST_HEADER = 16  # bytes, of a frame


def flac_parts(file: BinaryIO, start: int, size: int) -> list[Part]:
    starts = [start, *search(file, _START, b"fLaC", start + 42, size)]
    ends = [*starts[1:], size]
    return [Part(begin, end, "flac", trusted=_states_length(file, begin, end)) for begin, end in zip(starts, ends)]


def _states_length(file: BinaryIO, start: int, stop: int) -> bool:
    """Whether the header states a length, and none of the last frames ends after it."""
    info = bytes_at(file, start + 8, 18).ljust(18, b"\0")
    total = (info[13] & 15) << 32 | int.from_bytes(info[14:18], "big")  # samples; 0 is not known
    first = max(start + 42, stop - 2**16 - int.from_bytes(info[7:10], "big"))  # the largest frame fits in between
    tail = bytes_at(file, first, stop - first)
    return total > 0 and all(end <= total for end in _frame_ends(tail, info))


def _frame_ends(block: bytes, info: bytes) -> Iterator[int]:
    """The number of samples until the end of each frame whose header is in a block."""
    block_size, channels = int.from_bytes(info[:2], "big"), (info[12] >> 1 & 7) + 1
    for found in re.finditer(rb"\xff[\xf8\xf9]", block):
        end = _frame_end(block[found.start() : found.start() + _LONGEST_HEADER], block_size, channels)
        if end is not None:
            yield end


def _frame_end(head: bytes, block_size: int, channels: int) -> int | None:
    """The same of one frame, or None where there is none: its header has a checksum (RFC 9639, section 9.1)."""
    if len(head) < 6:
        return None
    size, rate, layout = head[2] >> 4, head[2] & 15, head[3] >> 4
    if not size or rate == 15 or head[3] & 1 or (2 if 8 <= layout <= 10 else layout + 1) != channels:
        return None
    ones = 8 - (head[4] ^ 0xFF).bit_length()  # of a number as in UTF-8
    number, position = head[4] & 0x7F >> ones, 4 + max(1, ones)
    for byte in head[5:position]:
        number = number << 6 | byte & 63
    extra = {6: 1, 7: 2}.get(size, 0)
    n = int.from_bytes(head[position : position + extra], "big") + 1 if extra else _BLOCK_SIZES[size]
    position += extra + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if len(head) <= position or _crc8(head[:position]) != head[position]:
        return None
    return number + n if head[1] & 1 else number * block_size + n


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc << 1 & 0xFF ^ (7 if crc & 128 else 0)
    return crc
