"""The `.esd` file: codes at their exact width, in checked blocks. `docs/format.md` specifies it.

Only numpy is needed here, so that looking into a file takes no time.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

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
_FIXED = struct.Struct(
    ">IHI8sBBB"
)  # sample rate, hop length, original rate, fingerprint, block frames, name, codebooks
_GAIN = struct.Struct(">h")  # since version 2
_CRC = struct.Struct(">I")
_END = struct.Struct(">BQ")
END_BYTES = _END.size + _CRC.size


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
        return 1 + -(-n_frames * self.frame_bits // 8) + _CRC.size

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
        body += _FIXED.pack(
            self.sample_rate,
            self.hop_length,
            self.original_rate,
            self.fingerprint,
            self.block_frames,
            len(name),
            len(self.bits),
        )
        body += _GAIN.pack(self.gain) + name + bytes(self.bits)
        return body + _CRC.pack(zlib.crc32(body))

    def check_model(self, name: str, fingerprint: bytes) -> None:
        """
        Raises:
            WrongModel: the codes are not of the model with this fingerprint.
        """
        if self.fingerprint != fingerprint[:8]:
            raise WrongModel(
                f"these codes are of the model {self.model!r} (fingerprint {self.fingerprint.hex()}), not of {name!r} "
                f"({fingerprint[:8].hex()}): give that model, and that version of it"
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
        raise BitstreamError(f"this .esd file is of version {version}, and {VERSION} is known: upgrade esdcodec")
    fixed = _exactly(stream, _FIXED.size, "the header")
    *_, name_length, n_codebooks = _FIXED.unpack(fixed)
    gain = _exactly(stream, _GAIN.size, "the header") if version > 1 else b""
    rest = _exactly(stream, name_length + n_codebooks + _CRC.size, "the header")
    body, (crc,) = start + fixed + gain + rest[: -_CRC.size], _CRC.unpack(rest[-_CRC.size :])
    if zlib.crc32(body) != crc:
        raise BitstreamError("the header is damaged: its checksum is wrong")
    sample_rate, hop_length, original_rate, fingerprint, block_frames, *_ = _FIXED.unpack(fixed)
    name = rest[:name_length].decode(errors="replace")  # version 1 could cut a name within a character
    bits = tuple(rest[name_length : name_length + n_codebooks])
    amplified = _GAIN.unpack(gain)[0] if gain else 0
    return Header(name, fingerprint, sample_rate, hop_length, original_rate, bits, block_frames, amplified)


def _exactly(stream: BinaryIO, size: int, what: str) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise BitstreamError(f"the file ends within {what}")
    return data


# ---- bits ------------------------------------------------------------------------------------------------------------


def pack(codes: Codes, bits: tuple[int, ...]) -> bytes:
    """Codes ``[n, L]`` frame by frame, each frame codebook by codebook, the highest bit of each code first."""
    columns = [(codes[i][:, None] >> np.arange(b - 1, -1, -1)) & 1 for i, b in enumerate(bits)]
    return np.packbits(np.concatenate(columns, axis=1).astype(np.uint8)).tobytes()


def unpack(data: bytes, bits: tuple[int, ...], n_frames: int) -> Codes:
    """The inverse of `pack`."""
    flat = np.unpackbits(np.frombuffer(data, np.uint8), count=n_frames * sum(bits)).reshape(n_frames, -1)
    codes, start = np.empty((len(bits), n_frames), np.int64), 0
    for i, b in enumerate(bits):
        codes[i] = flat[:, start : start + b] @ (1 << np.arange(b - 1, -1, -1, dtype=np.int64))
        start += b
    return codes


# ---- writing ---------------------------------------------------------------------------------------------------------


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
        end = _END.pack(END, original_samples)
        self._put(end + _CRC.pack(zlib.crc32(end)))

    def _put(self, data: bytes) -> None:
        self.stream.write(data)
        self.stream.flush()
        self.n_bytes += len(data)

    def _write_block(self, n_frames: int) -> None:
        codes, self.pending = self.pending[:, :n_frames], self.pending[:, n_frames:]
        block = bytes([n_frames]) + pack(codes, self.header.bits)
        index = self.n_frames // self.header.block_frames
        self._put(block + _CRC.pack(zlib.crc32(block, index)))
        self.n_frames += n_frames


# ---- reading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """A block as it was read."""

    index: int
    codes: Codes | None  # [n, frames]; None where it is damaged
    n_frames: int
    error: DamagedBlock | None = None


def _damaged(header: Header, index: int, n_frames: int, why: str) -> DamagedBlock:
    start = index * header.block_frames / header.frame_rate
    seconds = (start, start + n_frames / header.frame_rate)
    return DamagedBlock(f"block {index} ({seconds[0]:.2f} to {seconds[1]:.2f} s) {why}", index, seconds)


def _read_block(header: Header, index: int, data: bytes, n_frames: int) -> Block:
    """A block of `n_frames`, whose bytes are `data`."""
    if data[0] != n_frames or _CRC.unpack(data[-_CRC.size :])[0] != zlib.crc32(data[: -_CRC.size], index):
        return Block(index, None, n_frames, _damaged(header, index, n_frames, "is damaged: its checksum is wrong"))
    return Block(index, unpack(data[1 : -_CRC.size], header.bits, n_frames), n_frames)


@dataclass
class PipeReader:
    """Reads blocks one after the other from what cannot seek, as they come.

    After the last block `original_samples` is known.
    """

    stream: BinaryIO

    def __post_init__(self) -> None:
        self.header = read_header(self.stream)
        self.problem: BitstreamError | None = None  # with the end: it is not known before
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
                samples = _parse_end(size + self.stream.read(END_BYTES - 1))
                if samples is None or header.num_frames(samples) != n_frames or self.stream.read(1):
                    raise _damaged(header, index, 0, "should be the end of the file, and is damaged")
                self.original_samples = samples
                return
            if not size or last or size[0] > header.block_frames:
                what = "is missing: the file ends before its end marker" if not size else "is damaged: no such length"
                raise _damaged(header, index, header.block_frames, what)
            data = size + self.stream.read(header.block_bytes(size[0]) - 1)
            if len(data) < header.block_bytes(size[0]):
                raise _damaged(header, index, size[0], "is cut: the file ends within it")
            block = _read_block(header, index, data, size[0])
            if block.error:
                raise block.error
            n_frames += size[0]
            last = size[0] < header.block_frames
            yield block
            index += 1


def _parse_end(data: bytes) -> int | None:
    if len(data) != END_BYTES or data[0] != END:
        return None
    _, samples = _END.unpack(data[: _END.size])
    if _CRC.unpack(data[_END.size :])[0] != zlib.crc32(data[: _END.size]):
        return None
    return int(samples)


class Reader:
    """Reads any part of a file that can seek; blocks have known places, so nothing else is looked at.

    Args:
        stream: open for reading, seekable.
        recover: take what is whole of a damaged file. All of it is read and searched for good blocks, wherever they
            are; lost ones are in `read_blocks` without codes. `problem` says what is wrong with the file's end.

    Raises:
        BitstreamError: this is no `.esd` file, or not a whole one.
    """

    def __init__(self, stream: BinaryIO, *, recover: bool = False) -> None:
        self.stream, self.recover = stream, recover
        stream.seek(0)
        self.header = header = read_header(stream)
        self.start = stream.tell()
        size = stream.seek(0, io.SEEK_END) - self.start
        self.problem: BitstreamError | None = None  # with the file's end
        samples = None
        if size >= END_BYTES:
            stream.seek(-END_BYTES, io.SEEK_END)
            samples = _parse_end(stream.read(END_BYTES))
        if samples is None:
            whole_blocks = size // header.block_bytes(header.block_frames)
            self.problem = _damaged(
                header, whole_blocks, 0, "or the end after it is missing or damaged: the file was cut, or more follows"
            )
        elif size != header.body_bytes(header.num_frames(samples)) + END_BYTES:
            self.problem = BitstreamError(
                f"the file's end says {samples} samples, {header.num_frames(samples)} frames, but its size is "
                "not theirs: blocks are missing"
            )
        self.offsets: dict[int, int] | None = None  # of the good blocks of a damaged file
        if recover:
            found = search(stream, header, self.start)
            self.offsets, self.n_frames, self.original_samples = found.offsets, found.n_frames, found.samples
        elif self.problem is not None:
            raise self.problem
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
                yield Block(index, None, n_frames, _damaged(header, index, n_frames, "is damaged or missing"))
                continue
            self.stream.seek(self.start + index * full if self.offsets is None else self.offsets[index])
            data = self.stream.read(header.block_bytes(n_frames))
            if len(data) < header.block_bytes(n_frames):
                block = Block(index, None, n_frames, _damaged(header, index, n_frames, "is cut"))
            else:
                block = _read_block(header, index, data, n_frames)
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


@dataclass
class Found:
    """What a search of a damaged file gave."""

    offsets: dict[int, int]  # of good blocks by their number
    n_frames: int  # of the recording, as far as it is known
    samples: int  # at its own rate


def search(stream: BinaryIO, header: Header, start: int) -> Found:
    """Find the blocks with a good checksum, at any offset from `start` and in any order.

    A checksum tells the block's number too. What bytes cannot be explained are stepped over one by one. A block
    shorter than the others is taken where the last one can be: a whole number of blocks after a good one, or before a
    good end marker. The end marker is believed if it promises no fewer frames than were found, and at most twice the
    blocks that the file has room for, and `SPARE_BLOCKS`; otherwise the recording ends with the last good block.
    """
    size = stream.seek(0, io.SEEK_END)
    full = header.block_bytes(header.block_frames)
    limit = 2 * ((size - start) // full) + SPARE_BLOCKS  # blocks
    numbers = _numbers(full - _CRC.size, limit)
    offsets: dict[int, int] = {}
    short: tuple[int, int, int] | None = None  # number, frames, offset
    samples: int | None = None
    place, due, after = start, 0, start  # the block with the number `due` should begin at `after`
    window = _Window(stream, full + END_BYTES)
    while place < size:
        window.move(place)
        n_frames = window.take(0, 1)[0]
        if n_frames == header.block_frames and place + full <= size:
            block = window.take(0, full)
            number = numbers.get(zlib.crc32(block[: -_CRC.size]) ^ _CRC.unpack(block[-_CRC.size :])[0])
            if number is not None:
                offsets.setdefault(number, place)
                place += full
                due, after = number + 1, place
                continue
        elif n_frames == END and (told := _parse_end(window.take(0, END_BYTES))) is not None:
            if header.num_frames(told) <= limit * header.block_frames:
                samples = told
                break
        elif 0 < n_frames < header.block_frames and place + (length := header.block_bytes(n_frames)) <= size:
            candidates = []
            if (place - after) % full == 0:
                candidates.append(due + (place - after) // full)
            if (told := _parse_end(window.take(length, END_BYTES))) is not None:
                number, rest = divmod(header.num_frames(told), header.block_frames)
                candidates += [number] * (rest == n_frames)
            block = window.take(0, length) if candidates else b""
            crc = block[-_CRC.size :]
            right = [i for i in candidates if i < limit and _CRC.pack(zlib.crc32(block[: -_CRC.size], i)) == crc]
            if right:
                short = right[0], n_frames, place
                place += length
                continue
        place += 1
    n_frames = header.block_frames * (max(offsets, default=-1) + 1)
    if short and short[0] * header.block_frames >= n_frames:
        number, rest, offsets[number] = short
        n_frames = number * header.block_frames + rest
    if samples is not None and header.num_frames(samples) >= n_frames:
        return Found(offsets, header.num_frames(samples), samples)
    return Found(offsets, n_frames, n_frames * header.hop_length * header.original_rate // header.sample_rate)


def _numbers(length: int, limit: int) -> dict[int, int]:
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

    def move(self, place: int) -> None:
        """Begin at `place` in the file."""
        self.offset = place - self.start
        if self.offset + self.ahead > len(self.data) and not self.to_end:
            self.stream.seek(place)
            self.data, self.start, self.offset = self.stream.read(self.ahead + self.SIZE), place, 0
            self.to_end = len(self.data) < self.ahead + self.SIZE

    def take(self, start: int, size: int) -> bytes:
        """Up to `size` bytes, `start` after the beginning."""
        return self.data[self.offset + start : self.offset + start + size]


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
