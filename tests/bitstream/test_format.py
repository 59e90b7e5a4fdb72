"""docs/format.md is enough to write a reader: this one was written from it, and shares no code with the package."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esdcodec import bitstream
from esdcodec.loudness import LEVEL
from tests.bitstream.test_bitstream import HEADER, as_version_1, codes_of, written

DOCUMENT = (Path(__file__).parents[2] / "docs/format.md").read_text(encoding="utf-8")


def crc32(data, start=0):
    value = start ^ 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)  # 0x04C11DB7 reflected
    return value ^ 0xFFFFFFFF


def read(data):
    """Everything in a file as a dictionary; codes frame by frame."""
    stream = io.BytesIO(data)

    def number(size, signed=False):
        return int.from_bytes(stream.read(size), "big", signed=signed)

    def check(begin, start=0):
        covered = data[begin : stream.tell()]
        assert number(4) == crc32(covered, start)

    assert stream.read(4) == b"ESDC"
    version = number(1)
    assert version in (1, 2)
    file = {"sample rate": number(4), "hop length": number(2), "original rate": number(4)}
    file["fingerprint"] = stream.read(8)
    block_frames, m, n = number(1), number(1), number(1)
    file["gain"] = number(2, signed=True) if version == 2 else 0
    file["name"] = stream.read(m).decode(errors="replace")
    bits = list(stream.read(n))
    check(0)
    assert 1000 <= file["sample rate"] <= 1000000
    assert 1000 <= file["original rate"] <= 1000000
    assert file["hop length"] >= 1
    assert -6000 <= file["gain"] <= 6000
    frames, index = [], 0
    while True:
        begin = stream.tell()
        k = number(1)
        if k == 0:
            break
        assert k == block_frames or k < block_frames
        size = -(-k * sum(bits) // 8)
        value, left = number(size), 8 * size
        for _ in range(k):
            frame = []
            for b in bits:
                left -= b
                frame.append(value >> left & (1 << b) - 1)
            frames.append(frame)
        check(begin, index)
        index += 1
    file["length"] = number(8)
    check(begin)
    assert stream.read() == b""
    samples = -(-file["length"] * file["sample rate"] // file["original rate"])
    assert len(frames) == -(-samples // file["hop length"])
    return file | {"bits": bits, "frames": frames}


@given(
    bits=st.lists(st.integers(1, 24), min_size=1, max_size=32),
    n_frames=st.integers(0, 40),
    block_frames=st.sampled_from([1, 7, 8, 32, 255]),
    gain=st.integers(-6000, 6000),
    name=st.text(max_size=90),
)
@settings(deadline=None, max_examples=30)
def test_the_reader_of_the_document_reads_what_is_written(bits, n_frames, block_frames, gain, name):
    codes = codes_of(n_frames, bits)
    header = bitstream.Header(name, b"12345678", 24000, 960, 44100, tuple(bits), block_frames, gain)
    file = read(written(codes, header))
    assert file["frames"] == codes.T.tolist()
    assert file["bits"] == bits
    assert (file["name"], file["gain"], file["fingerprint"]) == (name, gain, b"12345678")
    assert file["length"] == n_frames * 960 * 44100 // 24000


def test_it_reads_version_1_too():
    file = read(as_version_1(written(codes_of(40))))
    assert file["frames"] == codes_of(40).T.tolist()
    assert (file["name"], file["gain"]) == (HEADER.model, 0)


@pytest.mark.parametrize("place", [0, 4, 9, 27, -1, -20, 70])
def test_it_sees_damage(place):
    data = bytearray(written(codes_of(40)))
    data[place] ^= 1
    with pytest.raises(AssertionError):
        read(bytes(data))


def test_the_example_of_the_document_is_a_file():
    example = bytes.fromhex("".join(re.search(r"```hex\n(.*?)```", DOCUMENT, re.S)[1].split()))
    file = read(example)
    header = bitstream.Header(
        file["name"], file["fingerprint"], 24000, 960, 16000, tuple(file["bits"]), gain=file["gain"]
    )
    assert example == written(np.array(file["frames"]).T, header, file["length"])


def test_the_numbers_of_the_document_are_those_of_the_code():
    for words in (
        f"| 1 | version | {bitstream.VERSION} ",
        f"{bitstream.MIN_RATE:,} to {bitstream.MAX_RATE:,}",
        f"{-bitstream.MAX_GAIN:,} to {bitstream.MAX_GAIN:,}".replace("-", "−"),
        f"{bitstream.BLOCK_FRAMES} as written here",
        f"1 to {bitstream.MAX_CODEBOOKS}",
        f"1 to {bitstream.MAX_BITS}",
        f"2 · ⌊room / full block⌋ + {bitstream.SPARE_BLOCKS}",
        f"{LEVEL:g} dBFS".replace("-", "−"),
    ):
        assert words in DOCUMENT, words
