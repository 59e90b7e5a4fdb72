"""`.esd` files: nothing is lost, anything can be read alone, and damage is told."""

import contextlib
import io
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esdcodec.bitstream import (
    BitstreamError,
    DamagedBlock,
    Header,
    PipeReader,
    Reader,
    Writer,
    WrongModel,
    pack,
    read_header,
    transcode,
    unpack,
)

HEADER = Header("25hz_nano", b"\x01" * 8, 24000, 960, 16000, (14, 10, 10))


def codes_of(n_frames, bits=HEADER.bits, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, 1 << b, n_frames) for b in bits])


def written(codes, header=HEADER, samples=None):
    stream = io.BytesIO()
    writer = Writer(stream, header)
    writer.write(codes)
    n = codes.shape[1]
    writer.finish(n * header.hop_length * header.original_rate // header.sample_rate if samples is None else samples)
    assert writer.n_bytes == len(stream.getvalue())
    return stream.getvalue()


def piped(data):
    reader = PipeReader(io.BytesIO(data))
    blocks = [block.codes for block in reader.read_blocks()]
    return (np.concatenate(blocks, axis=1) if blocks else codes_of(0)), reader.original_samples


@given(
    bits=st.lists(st.integers(1, 24), min_size=1, max_size=12),
    n_frames=st.integers(0, 150),
    sizes=st.lists(st.integers(0, 70), min_size=1, max_size=5),
    rate=st.sampled_from([8000, 16000, 22050, 24000, 44100]),
    block_frames=st.sampled_from([1, 8, 32, 255]),
    gain=st.integers(-6000, 6000),
)
@settings(deadline=None)
def test_what_is_written_is_read(bits, n_frames, sizes, rate, block_frames, gain):
    header = Header("models/ñ", b"12345678", 24000, 960, rate, tuple(bits), block_frames, gain)
    codes, stream = codes_of(n_frames, bits), io.BytesIO()
    writer, place = Writer(stream, header), 0
    for size in sizes:
        writer.write(codes[:, place : place + size])
        place += size
    writer.write(codes[:, place:])
    samples = n_frames * 960 * rate // 24000
    writer.finish(samples)
    reader = Reader(io.BytesIO(stream.getvalue()))
    assert reader.header == header
    assert (reader.n_frames, reader.original_samples) == (n_frames, samples)
    np.testing.assert_array_equal(reader.read(), codes)
    read, length = piped(stream.getvalue())
    assert read.shape[1] == n_frames
    assert length == samples


def test_bits_are_packed_frame_by_frame_highest_first():
    codes = np.array([[0b101, 0b010], [0b1, 0b1]])
    assert pack(codes, (3, 1)) == bytes([0b1011_0101])
    np.testing.assert_array_equal(unpack(bytes([0b1011_0101]), (3, 1), 2), codes)


def test_size_of_a_minute():
    assert HEADER.frame_bits * 1500 // 8 == 6375
    assert len(written(codes_of(1500))) <= 1.05 * 6375


def test_any_part_is_read_alone():
    codes = codes_of(200)
    reader = Reader(io.BytesIO(written(codes)))
    for start, stop in ((0, 1), (31, 33), (32, 64), (199, 200), (5, 5), (0, 200)):
        np.testing.assert_array_equal(reader.read(start, stop), codes[:, start:stop])
    with pytest.raises(ValueError, match="not within the 200"):
        reader.read(0, 201)


def test_only_what_is_asked_for_is_looked_at():
    data = bytearray(written(codes_of(200)))
    data[-60] ^= 1  # in the last blocks
    reader = Reader(io.BytesIO(data))
    np.testing.assert_array_equal(reader.read(0, 64), codes_of(200)[:, :64])
    with pytest.raises(DamagedBlock):
        reader.read()


def test_codebooks_are_dropped_without_decoding():
    codes, stream = codes_of(77), io.BytesIO()
    transcode(Reader(io.BytesIO(written(codes))), stream, 2)
    assert stream.getvalue() == written(codes[:2], Header("25hz_nano", b"\x01" * 8, 24000, 960, 16000, (14, 10)))
    amplified = replace(HEADER, gain=-1234)
    transcode(Reader(io.BytesIO(written(codes, amplified))), stream := io.BytesIO(), 1)
    assert Reader(stream).header == replace(amplified, bits=(14,))
    with pytest.raises(ValueError, match="1 to 3"):
        transcode(Reader(io.BytesIO(written(codes))), io.BytesIO(), 4)


def as_version_1(data):
    """The file as the first version of the format had it: without a gain."""
    end = len(HEADER.to_bytes())
    header = data[:4] + b"\x01" + data[5:26] + data[28 : end - 4]
    return header + zlib.crc32(header).to_bytes(4, "big") + data[end:]


def test_version_1_is_still_read():
    data = as_version_1(written(codes_of(40)))
    reader = Reader(io.BytesIO(data))
    assert reader.header == HEADER
    np.testing.assert_array_equal(reader.read(), codes_of(40))
    np.testing.assert_array_equal(piped(data)[0], codes_of(40))
    transcode(reader, stream := io.BytesIO(), 3)
    assert stream.getvalue() == written(codes_of(40))


class TestModelName:
    @pytest.mark.parametrize("name", ["é" * 200, "日" * 100, "a" + "🙂" * 80], ids=["2 bytes", "3 bytes", "4 bytes"])
    def test_a_long_one_is_cut_between_characters(self, name):
        header = replace(HEADER, model=name)
        read = Reader(io.BytesIO(written(codes_of(3), header))).header.model
        assert name.startswith(read)
        assert 252 <= len(read.encode()) <= 255

    def test_one_that_was_cut_within_a_character_is_read(self):
        header = HEADER.to_bytes()
        broken = header[:-4].replace(b"25hz_nano", b"25hz_na\xe6\x97")
        data = broken + zlib.crc32(broken).to_bytes(4, "big") + written(codes_of(3))[len(header) :]
        assert Reader(io.BytesIO(data)).header.model == "25hz_na\ufffd"

    def test_one_that_is_no_text_is_written(self):
        assert Reader(io.BytesIO(written(codes_of(3), replace(HEADER, model="a\udcff")))).header.model == "a?"


def test_a_crash_loses_the_last_block_at_most():
    stream = io.BytesIO()
    writer = Writer(stream, HEADER)
    codes = codes_of(100)
    writer.write(codes)  # and never finished
    with pytest.raises(BitstreamError, match="cut"):
        Reader(io.BytesIO(stream.getvalue()))
    reader = Reader(io.BytesIO(stream.getvalue()), recover=True)
    np.testing.assert_array_equal(reader.read(), codes[:, :96])
    assert "cut" in str(reader.error)


class TestDamage:
    def test_block_and_time_are_named(self):
        data = bytearray(written(codes_of(200)))
        header = len(HEADER.to_bytes())
        data[header + 2 * HEADER.block_bytes(32) + 50] ^= 4
        with pytest.raises(DamagedBlock, match=r"block 2 \(2\.56 to 3\.84 s\)") as told:
            Reader(io.BytesIO(data)).read()
        assert (told.value.block, told.value.seconds) == (2, (2.56, 3.84))
        with pytest.raises(DamagedBlock, match="block 2"):
            piped(data)

    def test_good_blocks_are_recovered(self):
        codes, data = codes_of(200), bytearray(written(codes_of(200)))
        data[len(HEADER.to_bytes()) + 2 * HEADER.block_bytes(32) + 50] ^= 4
        read = Reader(io.BytesIO(data), recover=True).read()
        assert (read[:, 64:96] == -1).all()
        np.testing.assert_array_equal(np.delete(read, slice(64, 96), 1), np.delete(codes, slice(64, 96), 1))

    @pytest.mark.parametrize("wrong", ["swapped blocks", "a block missing"])
    def test_blocks_know_their_place(self, wrong):
        data, start, size = written(codes_of(96)), len(HEADER.to_bytes()), HEADER.block_bytes(32)
        blocks = [data[start + i * size : start + (i + 1) * size] for i in range(3)]
        blocks = [blocks[1], blocks[0], blocks[2]] if wrong == "swapped blocks" else blocks[1:]
        damaged = data[:start] + b"".join(blocks) + data[start + 3 * size :]
        with pytest.raises(BitstreamError):
            Reader(io.BytesIO(damaged)).read()
        with pytest.raises(BitstreamError):
            piped(damaged)

    def test_the_model_is_checked_by_its_weights(self):
        HEADER.check_model("another name", b"\x01" * 32)
        with pytest.raises(WrongModel, match=r"'25hz_nano' .*0101.* not of 'mine' .*0202"):
            HEADER.check_model("mine", b"\x02" * 32)

    def test_codes_of_another_version_of_a_bundled_model_say_how_to_get_it(self):
        with pytest.raises(WrongModel, match=r"'25hz_nano_v99' .*pip install --upgrade esdcodec"):
            replace(HEADER, model="25hz_nano_v99").check_model("mine", b"\x02" * 32)

    def test_other_files_and_versions(self):
        with pytest.raises(BitstreamError, match=r"no \.esd file"):
            read_header(io.BytesIO(b"RIFF....WAVE"))
        newer = bytearray(HEADER.to_bytes())
        newer[4] = 3
        with pytest.raises(BitstreamError, match="upgrade"):
            read_header(io.BytesIO(newer))

    @pytest.mark.parametrize("place", [5, 9, 12, 20, 21, 22, 25])
    def test_a_header_with_a_right_checksum_can_be_nonsense(self, place):
        header = bytearray(HEADER.to_bytes()[:-4])
        for value in range(256):
            header[place] = value
            data = bytes(header) + zlib.crc32(header).to_bytes(4, "big") + written(codes_of(40))[len(header) + 4 :]
            with contextlib.suppress(BitstreamError):
                Reader(io.BytesIO(data)).read()

    @settings(deadline=None, max_examples=500)
    @given(data=st.data())
    def test_fuzz(self, data):
        """Mutated files give the format's own errors or the codes of whole blocks, nothing else."""
        codes = codes_of(80)
        file = bytearray(written(codes))
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(st.integers(0, len(file) - 1))
            kind = data.draw(st.sampled_from("fitd"))
            if kind == "f":
                file[place] ^= 1 << data.draw(st.integers(0, 7))
            elif kind == "i":
                file[place:place] = data.draw(st.binary(max_size=9))
            elif kind == "d":
                del file[place : place + data.draw(st.integers(1, 40))]
            else:
                del file[place:]
            if not file:
                break
        for recover in (False, True):
            try:
                read = Reader(io.BytesIO(file), recover=recover).read()
            except BitstreamError:
                continue
            assert read.shape[1] <= 8 * len(file)
            for i in range(0, min(read.shape[1], 80) // 32 * 32, 32):
                block = read[:, i : i + 32]
                assert (block == -1).all() or (block == codes[: len(block), i : i + 32]).all()
        with contextlib.suppress(BitstreamError):
            piped(bytes(file))


def test_a_writer_refuses_what_does_not_fit():
    writer = Writer(io.BytesIO(), HEADER)
    with pytest.raises(ValueError, match=r"\[3, L\]"):
        writer.write(codes_of(4)[:2])
    with pytest.raises(ValueError, match="from 0 to below"):
        writer.write(codes_of(4) - (1 << 14))
    writer.write(codes_of(4))
    with pytest.raises(ValueError, match="4 were written"):
        writer.finish(5 * 640)
