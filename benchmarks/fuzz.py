"""100,000 damaged and forged `.esd` files: only the format's own errors may come, in bounded time and memory.

    python benchmarks/fuzz.py [--files 100000] [--seed 0]

Half of the files are whole ones that were changed at random, half were made to harm: hostile numbers in the header, the
blocks and the end marker, with right checksums. Every file is read four ways (whole, recovering, as a pipe, to another
file). Any other error, or more memory than a multiple of the file, ends the run with the file that did it.
"""

import argparse
import io
import random
import struct
import time
import tracemalloc
import zlib
from collections import Counter

import numpy as np

from esdcodec.bitstream import BitstreamError, Header, PipeReader, Reader, Writer, transcode

BOUND = 64  # bytes of memory for each byte of a file: codes are int64, and a bit may be a code


def original(rng: random.Random) -> bytes:
    bits = tuple(rng.choice((1, 8, 10, 14, 24)) for _ in range(rng.randint(1, 12)))
    header = Header("model" * rng.randint(0, 3), rng.randbytes(8), 24000, 960, rng.choice((8000, 24000, 44100)), bits)
    n_frames = rng.randint(0, 150)
    codes = np.array([[rng.getrandbits(b) for _ in range(n_frames)] for b in bits], np.int64).reshape(len(bits), -1)
    stream = io.BytesIO()
    writer = Writer(stream, header)
    writer.write(codes)
    writer.finish(n_frames * 960 * header.original_rate // 24000)
    return stream.getvalue()


def mutated(data: bytes, rng: random.Random) -> bytes:
    file = bytearray(data)
    for _ in range(rng.randint(1, 5)):
        if not file:
            break
        place = rng.randrange(len(file))
        kind = rng.randrange(6)
        if kind == 0:
            file[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            file[place] = rng.choice((0, 1, 127, 128, 255))
        elif kind == 2:
            file[place:place] = rng.randbytes(rng.randint(1, 40))
        elif kind == 3:
            del file[place : place + rng.randint(1, 200)]
        elif kind == 4:
            del file[place:]
        else:
            other = rng.randrange(len(file))
            file[place : place + 50] = file[other : other + 50]
    return bytes(file)


def forged(rng: random.Random) -> bytes:
    """A file with right checksums and numbers that nobody would write."""
    rates = [24000] * 80 + [0, 1, 999, 1000, 10**6, 10**6 + 1, 2**31, 2**32 - 1]
    hop = rng.choice([960] * 30 + [0, 1, 65535])
    block_frames = rng.choice([32] * 4 + [0, 1, 7, 255])
    n = rng.choice([1, 2, 3, 12, 32] * 6 + [33, 255, 0])
    bits = bytes(rng.choice([1, 10, 10, 14, 24, rng.randrange(256)]) if rng.random() < 0.02 else 10 for _ in range(n))
    name = rng.randbytes(rng.choice([0, 9, 255]))
    version = rng.choice([1] * 8 + [2] * 8 + [3, 255])
    sizes = rng.choice(rates), hop, rng.choice(rates), rng.randbytes(8), block_frames, len(name), n
    header = b"ESDC" + bytes([version]) + struct.pack(">IHI8sBBB", *sizes)
    header += struct.pack(">h", rng.choice([0, 325, 6000, -6000] * 5 + [6001, -32768])) * (version > 1) + name + bits
    data = [checked(header)]
    n_blocks = rng.choice([0, 1, 2, 5])
    for index in range(n_blocks):
        k = block_frames if rng.random() < 0.9 else rng.randrange(256)
        number = index if rng.random() < 0.9 else rng.choice([0, index + 1, 2**16, 2**32 - 1])
        data.append(checked(bytes([k]) + rng.randbytes(-(-k * sum(bits) // 8)), number))
    n_samples = n_blocks * block_frames * hop
    told = rng.choice([n_samples] * 6 + [n_samples - 1, n_samples + 1, 2 * n_samples, 2**32, 2**63, 2**64 - 1, 0])
    for _ in range(rng.choice([0, 1, 1, 1, 1, 2])):
        data.append(checked(b"\0" + max(0, told).to_bytes(8, "big")))
    return b"".join(data)


def checked(data: bytes, start: int = 0) -> bytes:
    return data + zlib.crc32(data, start).to_bytes(4, "big")


def read(data: bytes, way: str) -> str:
    try:
        if way == "pipe":
            for _ in PipeReader(io.BytesIO(data)).read_blocks():
                pass
        elif way == "transcode":
            size = transcode(Reader(io.BytesIO(data)), io.BytesIO(), 1)
            assert size <= len(data) + 2 + 255, "a gain, and a name in UTF-8"
        elif way == "recover":  # as decoding does, which takes lost blocks one by one
            for _ in Reader(io.BytesIO(data), recover=True).read_blocks():
                pass
        else:
            Reader(io.BytesIO(data)).read()
    except BitstreamError as error:
        return type(error).__name__
    return "read"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    outcomes: Counter[str] = Counter()
    slowest = largest = 0.0
    originals = [original(rng) for _ in range(200)]
    tracemalloc.start()
    for number in range(args.files):
        data = mutated(rng.choice(originals), rng) if number % 2 else forged(rng)
        if number % 8 == 0:
            data = mutated(data, rng)
        for way in ("whole", "recover", "pipe", "transcode"):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            started = time.process_time()
            try:
                outcome = read(data, way)
            except Exception as error:
                raise SystemExit(f"file {number}, {way}: {error!r}\n{data.hex()}") from error
            slowest = max(slowest, time.process_time() - started)
            used = tracemalloc.get_traced_memory()[1] - before
            largest = max(largest, used / (len(data) + 1000))
            if used > BOUND * (len(data) + 1000):
                raise SystemExit(f"file {number}, {way}: {used} bytes for {len(data)}\n{data.hex()}")
            outcomes[f"{way}: {outcome}"] += 1
    for outcome, count in sorted(outcomes.items()):
        print(f"{outcome:24} {count:8}")
    print(f"slowest {slowest * 1000:.0f} ms of processor time")
    print(f"at most {largest:.0f} bytes of memory for a byte of a file (and 1,000)")


if __name__ == "__main__":
    main()
