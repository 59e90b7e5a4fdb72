"""A damaged `.esd` file: every block with a good checksum comes back, wherever it is."""

import io
from dataclasses import replace

import numpy as np
import pytest

from esdcodec.bitstream import END_BYTES, BitstreamError, Reader
from tests.bitstream.test_bitstream import HEADER, codes_of, written

SMALL = replace(HEADER, bits=(7, 3), block_frames=4)
START, FULL = len(SMALL.to_bytes()), SMALL.block_bytes(4)
CODES = codes_of(14, SMALL.bits)  # three blocks of 4 frames and one of 2
SAMPLES = 14 * 640 - 100
DATA = written(CODES, SMALL, SAMPLES)
END = len(DATA) - END_BYTES


def recovered(data):
    reader = Reader(io.BytesIO(data), recover=True)
    codes = reader.read()
    assert codes.shape == (2, reader.n_frames)
    assert reader.original_samples <= reader.n_frames * 640
    return reader, codes


def blocks_of(data=DATA):
    return [data[START + i * FULL : min(END, START + (i + 1) * FULL)] for i in range(4)]


def test_a_whole_file_is_itself():
    reader, codes = recovered(DATA)
    assert reader.error is None
    assert reader.original_samples == SAMPLES
    np.testing.assert_array_equal(codes, CODES)


@pytest.mark.parametrize("length", range(START, len(DATA)))
def test_what_is_left_of_a_cut_file_is_a_prefix_with_all_whole_blocks(length):
    reader, codes = recovered(DATA[:length])
    whole = 14 if length >= END else (length - START) // FULL * 4
    np.testing.assert_array_equal(codes, CODES[:, :whole])
    assert reader.original_samples == whole * 640
    assert reader.error is not None
    with pytest.raises(BitstreamError, match="cut"):
        Reader(io.BytesIO(DATA[:length]))


@pytest.mark.parametrize("n_frames", [0, 1, 3, 4, 8, 13])
@pytest.mark.parametrize("damage", ["last byte lost", "one too many", "junk", "another file", "length damaged"])
def test_a_damaged_end_costs_no_codes(n_frames, damage):
    codes = codes_of(n_frames, SMALL.bits)
    data = written(codes, SMALL)
    data = {
        "last byte lost": data[:-1],
        "one too many": data + b"\0",
        "junk": data + bytes(range(256)) * 3,
        "another file": data + DATA,
        "length damaged": data[:-5] + b"\xff" + data[-4:],
    }[damage]
    reader, read = recovered(data)
    np.testing.assert_array_equal(read, codes)
    assert reader.original_samples == n_frames * 640
    assert reader.error is not None


@pytest.mark.parametrize("block", range(4))
@pytest.mark.parametrize("value", [0, 1, 3, 5, 255])
def test_a_damaged_length_costs_its_block(block, value):
    data = bytearray(DATA)
    data[START + block * FULL] = value
    reader, codes = recovered(bytes(data))
    expected = CODES.copy()
    expected[:, 4 * block : 4 * block + 4] = -1
    np.testing.assert_array_equal(codes, expected)
    assert reader.original_samples == SAMPLES
    assert [b.index for b in reader.read_blocks() if b.error] == [block]


@pytest.mark.parametrize("lost", [{0}, {1}, {2}, {3}, {0, 1}, {0, 1, 2}, {1, 3}, {0, 1, 2, 3}])
def test_a_missing_block_is_missed_where_it_was(lost):
    data = DATA[:START] + b"".join(b for i, b in enumerate(blocks_of()) if i not in lost) + DATA[END:]
    reader, codes = recovered(data)
    expected = CODES.copy()
    for block in lost:
        expected[:, 4 * block : 4 * block + 4] = -1
    np.testing.assert_array_equal(codes, expected)
    assert reader.original_samples == SAMPLES
    assert reader.error is not None


@pytest.mark.parametrize("place", range(START, END))
@pytest.mark.parametrize("change", ["a byte lost", "a byte more", "nine bytes more"])
def test_bytes_lost_or_inserted_cost_one_block(place, change):
    inserted = {"a byte lost": b"", "a byte more": b"\x04\x04", "nine bytes more": bytes(10)}[change]
    reader, codes = recovered(DATA[:place] + inserted + DATA[place + 1 :])
    block = (place - START) // FULL
    others = np.arange(14) // 4 != block
    np.testing.assert_array_equal(codes[:, others], CODES[:, others])
    assert reader.original_samples == SAMPLES


def test_blocks_in_disorder_are_put_in_order():
    a, b, c, d = blocks_of()
    _, codes = recovered(DATA[:START] + b"".join((c, a, b, d)) + DATA[END:])
    np.testing.assert_array_equal(codes, CODES)


def test_two_faults_at_once():
    data = bytearray(DATA[:-3])
    data[START + 2 * FULL + 2] ^= 1
    _, codes = recovered(bytes(data))
    expected = CODES.copy()
    expected[:, 8:12] = -1
    np.testing.assert_array_equal(codes, expected)


def test_an_end_that_promises_too_much_is_not_believed():
    end = written(codes_of(4000, SMALL.bits), SMALL)[-END_BYTES:]
    reader, codes = recovered(DATA[:END] + end)
    np.testing.assert_array_equal(codes, CODES)
    assert reader.original_samples == 14 * 640
    assert reader.error is not None


def test_an_end_that_promises_less_than_there_is_costs_no_blocks():
    end = written(codes_of(5, SMALL.bits), SMALL)[-END_BYTES:]
    reader, codes = recovered(DATA[:END] + end)
    np.testing.assert_array_equal(codes, CODES)
    assert reader.error is not None
