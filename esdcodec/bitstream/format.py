"""Layout of an `.esd` file: header, blocks with checksums, end marker. `docs/format.md` specifies it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..bundled import how_to_get
from ..errors import ESDCodecError

Codes = NDArray[np.int64]  # [n, L]

MAGIC, VERSION = b"ESDC", 2
BLOCK_FRAMES = 32  # 1.28 s at 25 frames a second; a multiple of 8, so that no bits are lost between blocks
END = 0
MAX_CODEBOOKS, MAX_BITS = 32, 24
MIN_RATE, MAX_RATE = 1_000, 1_000_000  # Hz: what recordings have, and room to spare
MAX_GAIN = 6_000  # hundredths of a dB
MAX_NAME = 255  # bytes
SPARE_BLOCKS = 8  # a damaged file may lack as many blocks as it has room for, and so many more
FIXED = struct.Struct(">IHI8sBBB")  # sample rate, hop length, original rate, fingerprint, block frames, name, codebooks
GAIN = struct.Struct(">h")  # since version 2
CRC = struct.Struct(">I")
END_MARKER = struct.Struct(">BQ")
END_BYTES = END_MARKER.size + CRC.size


class BitstreamError(ESDCodecError, ValueError):
    """A file is no whole `.esd` file; the message says what is wrong, and where."""


class DamagedBlock(BitstreamError):
    """A block is damaged or missing; `block` and `seconds` say which."""

    def __init__(self, message: str, block: int, seconds: tuple[float, float]) -> None:
        super().__init__(message)
        self.block, self.seconds = block, seconds


class WrongModel(BitstreamError):
    """The codes were made with another model than the one at hand."""


@dataclass(frozen=True)
class Header:
    """What all codes of a file have in common."""

    model: str  # name, at most 255 bytes of UTF-8
    fingerprint: bytes  # 8 bytes: the first of `ESDCodec.fingerprint`
    sample_rate: int  # Hz, of what is decoded
    hop_length: int  # samples of a frame
    original_rate: int  # Hz, of the recording
    bits: tuple[int, ...]  # of a code of each codebook in use
    block_frames: int = BLOCK_FRAMES
    gain: int = 0  # hundredths of a dB by which the recording was amplified before it was encoded

    def __post_init__(self) -> None:
        for what, value, low, high in (
            ("sample rate", self.sample_rate, MIN_RATE, MAX_RATE),
            ("rate of the recording", self.original_rate, MIN_RATE, MAX_RATE),
            ("hop length", self.hop_length, 1, 2**16 - 1),
            ("number of codebooks", len(self.bits), 1, MAX_CODEBOOKS),
            *(("number of bits of a code", bits, 1, MAX_BITS) for bits in self.bits),
            ("number of frames of a block", self.block_frames, 1, 255),
            ("gain in hundredths of a dB", self.gain, -MAX_GAIN, MAX_GAIN),
            ("number of bytes of the fingerprint", len(self.fingerprint), 8, 8),
        ):
            if not low <= value <= high:
                raise BitstreamError(f"the {what} in an .esd file is {low} to {high}, not {value}")

    @property
    def frame_rate(self) -> float:
        return self.sample_rate / self.hop_length

    @property
    def gain_db(self) -> float:
        """As `ESDCodec.decode` takes it."""
        return self.gain / 100

    @property
    def frame_bits(self) -> int:
        return sum(self.bits)

    def block_bytes(self, n_frames: int) -> int:
        """Size of a block: its number of frames, their bits, the checksum."""
        return 1 + -(-n_frames * self.frame_bits // 8) + CRC.size

    def body_bytes(self, n_frames: int) -> int:
        """Size of all blocks of a recording."""
        full, rest = divmod(n_frames, self.block_frames)
        return full * self.block_bytes(self.block_frames) + (self.block_bytes(rest) if rest else 0)

    def num_frames(self, original_samples: int) -> int:
        """Frames of a recording of `original_samples` at its own rate."""
        samples = -(-original_samples * self.sample_rate // self.original_rate)
        return -(-samples // self.hop_length)

    def to_bytes(self) -> bytes:
        name = self.model.encode(errors="replace")[:MAX_NAME].decode(errors="ignore").encode()  # no half character
        body = MAGIC + bytes([VERSION])
        body += FIXED.pack(
            self.sample_rate,
            self.hop_length,
            self.original_rate,
            self.fingerprint,
            self.block_frames,
            len(name),
            len(self.bits),
        )
        body += GAIN.pack(self.gain) + name + bytes(self.bits)
        return body + CRC.pack(zlib.crc32(body))

    def check_model(self, name: str, fingerprint: bytes) -> None:
        """
        Raises:
            WrongModel: the codes are not of the model with this fingerprint.
        """
        if self.fingerprint != fingerprint[:8]:
            advice = how_to_get(self.model) or "give that model, and that version of it"
            raise WrongModel(
                f"these codes are of the model {self.model!r} (fingerprint {self.fingerprint.hex()}), not of {name!r} "
                f"({fingerprint[:8].hex()}): {advice}"
            )

    def check_sizes(self, sample_rate: int, hop_length: int, codebook_sizes: Sequence[int]) -> None:
        """
        Raises:
            BitstreamError: codes of a model with this rate, hop length and these codebooks cannot have this header.
        """
        bits = tuple((size - 1).bit_length() for size in codebook_sizes[: len(self.bits)])
        for what, value, right in (
            ("sample rate", self.sample_rate, sample_rate),
            ("hop length", self.hop_length, hop_length),
            ("bits of a code", self.bits, bits),
        ):
            if value != right:
                raise BitstreamError(
                    f"the file names the model {self.model!r}, but its {what} is {value} and the model's {right}: "
                    "its header was made wrongly"
                )


def read_header(stream: BinaryIO) -> Header:
    """
    Raises:
        BitstreamError: this is no `.esd` file, one of a newer version, or its header is damaged.
    """
    start = stream.read(len(MAGIC) + 1)
    if start[: len(MAGIC)] != MAGIC or len(start) <= len(MAGIC):
        raise BitstreamError("this is no .esd file: it does not begin with ESDC")
    version = start[-1]
    if not 1 <= version <= VERSION:
        advice = "upgrade esdcodec" if version > VERSION else "it is damaged"
        raise BitstreamError(f"this .esd file is of version {version}, and 1 to {VERSION} are known: {advice}")
    fixed = _exactly(stream, FIXED.size, "the header")
    *_, name_length, n_codebooks = FIXED.unpack(fixed)
    gain = _exactly(stream, GAIN.size, "the header") if version > 1 else b""
    rest = _exactly(stream, name_length + n_codebooks + CRC.size, "the header")
    body, (crc,) = start + fixed + gain + rest[: -CRC.size], CRC.unpack(rest[-CRC.size :])
    if zlib.crc32(body) != crc:
        raise BitstreamError("the header is damaged: its checksum is wrong")
    sample_rate, hop_length, original_rate, fingerprint, block_frames, *_ = FIXED.unpack(fixed)
    name = rest[:name_length].decode(errors="replace")  # version 1 could cut a name within a character
    bits = tuple(rest[name_length : name_length + n_codebooks])
    amplified = GAIN.unpack(gain)[0] if gain else 0
    return Header(name, fingerprint, sample_rate, hop_length, original_rate, bits, block_frames, amplified)


def _exactly(stream: BinaryIO, size: int, what: str) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise BitstreamError(f"the file ends within {what}")
    return data


# ---- blocks and the end ---------------------------------------------------------------------------------------------


def pack(codes: Codes, bits: tuple[int, ...]) -> bytes:
    """Codes ``[n, L]`` frame by frame, each frame codebook by codebook, the highest bit of each code first."""
    every = (np.unpackbits(book.astype(">u4").view(np.uint8).reshape(-1, 4), axis=1) for book in codes)
    columns = [of_code[:, 32 - b :] for of_code, b in zip(every, bits)]
    return np.packbits(np.concatenate(columns, axis=1)).tobytes()


def unpack(data: bytes, bits: tuple[int, ...], n_frames: int) -> Codes:
    """The inverse of `pack`."""
    flat = np.unpackbits(np.frombuffer(data, np.uint8), count=n_frames * sum(bits)).reshape(n_frames, -1)
    codes, start = np.empty((len(bits), n_frames), np.int64), 0
    for i, b in enumerate(bits):
        codes[i] = flat[:, start : start + b] @ (1 << np.arange(b - 1, -1, -1, dtype=np.int64))
        start += b
    return codes


@dataclass(frozen=True)
class Block:
    """A block as it was read."""

    index: int
    codes: Codes | None  # [n, frames]; None where it is damaged
    n_frames: int
    error: DamagedBlock | None = None


def damaged_block(header: Header, index: int, n_frames: int, why: str) -> DamagedBlock:
    start = index * header.block_frames / header.frame_rate
    seconds = (start, start + n_frames / header.frame_rate)
    return DamagedBlock(f"block {index} ({seconds[0]:.2f} to {seconds[1]:.2f} s) {why}", index, seconds)


def read_block(header: Header, index: int, data: bytes, n_frames: int) -> Block:
    """A block of `n_frames`, whose bytes are `data`."""
    if data[0] != n_frames or CRC.unpack(data[-CRC.size :])[0] != zlib.crc32(data[: -CRC.size], index):
        return Block(index, None, n_frames, damaged_block(header, index, n_frames, "is damaged: its checksum is wrong"))
    return Block(index, unpack(data[1 : -CRC.size], header.bits, n_frames), n_frames)


def parse_end(data: bytes) -> int | None:
    if len(data) != END_BYTES or data[0] != END:
        return None
    _, samples = END_MARKER.unpack(data[: END_MARKER.size])
    if CRC.unpack(data[END_MARKER.size :])[0] != zlib.crc32(data[: END_MARKER.size]):
        return None
    return int(samples)
