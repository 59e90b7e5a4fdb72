"""Entropy-coded `.esd` files: smaller, and as exact, seekable and recoverable as those at fixed width."""

import contextlib
import io

import numpy as np
import pytest
from conftest import make_tiny_codec, speech
from hypothesis import given, settings
from hypothesis import strategies as st

from esdcodec import load
from esdcodec.infer.bitstream import (
    BitstreamError,
    DamagedBlock,
    Header,
    PipeReader,
    Reader,
    Writer,
    WrongModel,
    transcode,
)
from esdcodec.infer.cli import main
from esdcodec.infer.entropy import FILE, TOTAL, CodeFrequencies, count, frequencies

SIZES = (1 << 14, 1 << 10, 1 << 10)
N_FRAMES = 200


def skewed(n_frames=N_FRAMES, sizes=SIZES, seed=0):
    """Codes of which few are frequent."""
    rng = np.random.default_rng(seed)
    return np.stack([np.minimum(rng.geometric(0.02, n_frames), size) - 1 for size in sizes])


FREQUENCIES = CodeFrequencies([np.bincount(row, minlength=n) for row, n in zip(skewed(20000, seed=9), SIZES)])
FIXED = Header("25hz_nano", b"\x01" * 8, 24000, 960, 24000, (14, 10, 10))
CODED = Header("25hz_nano", b"\x01" * 8, 24000, 960, 24000, (14, 10, 10), frequencies=FREQUENCIES.fingerprint)


def written(codes, header=CODED, frequencies=FREQUENCIES):
    stream = io.BytesIO()
    writer = Writer(stream, header, frequencies)
    writer.write(codes)
    writer.finish(codes.shape[1] * 960)
    return stream.getvalue()


class TestCoder:
    @given(data=st.data())
    @settings(deadline=None)
    def test_what_is_coded_is_decoded_in_no_more_than_its_information(self, data):
        sizes = data.draw(st.lists(st.integers(1, 3000), min_size=1, max_size=4))
        n_frames = data.draw(st.integers(0, 40))
        rng = np.random.default_rng(data.draw(st.integers(0, 99)))
        counts = [rng.integers(0, rng.choice([2, 1000]), size) for size in sizes]
        for each in counts:
            each[0] += 1
        tables = CodeFrequencies(counts)
        codes = np.stack([rng.integers(0, size, n_frames) for size in sizes])
        coded = tables.encode(codes)
        np.testing.assert_array_equal(tables.decode(coded, len(sizes), n_frames), codes)
        bits = -sum(np.log2(f[row] / TOTAL).sum() for f, row in zip(tables.frequencies, codes))
        # ⌊x / f⌋ loses a little where x is small: less than a code costs
        assert 8 * len(coded) <= bits + 8 + np.log2(TOTAL)

    @given(counts=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50).filter(any))
    def test_frequencies(self, counts):
        result = frequencies(np.array(counts, np.uint32))
        assert result.sum() == TOTAL
        assert result.min() >= 1
        most = int(np.argmax(counts))  # takes what is left over
        assert result[most] == result.max()
        others = np.delete(result, most)[np.argsort(np.delete(counts, most), kind="stable")]
        assert (np.diff(others) >= 0).all()

    def test_the_order_and_the_integers_are_those_of_the_specification(self):
        tables = CodeFrequencies([np.array([3, 1]), np.array([0, 1])])
        shares = [1 + 3 * (TOTAL - 2) // 4, 1 + (TOTAL - 2) // 4]
        shares[0] += TOTAL - sum(shares)
        assert tables.frequencies[0].tolist() == shares
        assert tables.frequencies[1].tolist() == [1, TOTAL - 1]
        x = 0
        for f, start in ((TOTAL - 1, 1), (shares[1], shares[0])):  # code 1 of the second codebook, then of the first
            x = x // f * TOTAL + start + x % f
        assert tables.encode(np.array([[1], [1]])) == x.to_bytes(-(-x.bit_length() // 8), "big")

    def test_bytes_that_hold_more_are_refused(self):
        with pytest.raises(ValueError, match="more than"):
            FREQUENCIES.decode(b"\xff" * 40, 3, 2)

    def test_saved_and_loaded(self, tmp_path):
        FREQUENCIES.save(tmp_path / FILE)
        assert CodeFrequencies.load(tmp_path / FILE).fingerprint == FREQUENCIES.fingerprint
        for content in (b"", b"PK\x03\x04 no zip", b"\x93NUMPY"):
            (tmp_path / FILE).write_bytes(content)
            with pytest.raises(ValueError, match="no counts"):
                CodeFrequencies.load(tmp_path / FILE)

    def test_what_cannot_be_counted_is_refused(self):
        with pytest.raises(ValueError, match="no frequencies"):
            CodeFrequencies([np.zeros(4, np.int64)])


class TestFile:
    def test_smaller_and_the_same(self):
        codes = skewed()
        coded, fixed = written(codes), written(codes, FIXED, None)
        assert len(coded) < 0.8 * len(fixed)
        np.testing.assert_array_equal(Reader(io.BytesIO(coded), FREQUENCIES).read(), codes)
        piped = PipeReader(io.BytesIO(coded), FREQUENCIES)
        np.testing.assert_array_equal(np.concatenate([b.codes for b in piped.read_blocks()], axis=1), codes)
        assert piped.original_samples == N_FRAMES * 960

    def test_any_part_is_read_alone(self):
        codes, reader = skewed(), Reader(io.BytesIO(written(skewed())), FREQUENCIES)
        for start, stop in ((0, 1), (31, 33), (150, 200), (7, 7), (199, 200)):
            np.testing.assert_array_equal(reader.read(start, stop), codes[:, start:stop])

    def test_transcoded_without_loss_both_ways_and_to_fewer_codebooks(self):
        fixed = written(skewed(), FIXED, None)
        coded, back, fewer = io.BytesIO(), io.BytesIO(), io.BytesIO()
        transcode(Reader(io.BytesIO(fixed)), coded, 3, FREQUENCIES)
        assert coded.getvalue() == written(skewed())
        transcode(Reader(coded, FREQUENCIES), back, 3)
        assert back.getvalue() == fixed
        transcode(Reader(coded, FREQUENCIES), fewer, 1, FREQUENCIES)
        np.testing.assert_array_equal(Reader(fewer, FREQUENCIES).read(), skewed()[:1])

    def test_frequencies_of_another_model_are_refused_and_none_tell_all_but_the_codes(self):
        data = written(skewed())
        others = CodeFrequencies([np.ones(size, np.int64) for size in SIZES])
        for wrong in (None, others):
            reader = Reader(io.BytesIO(data), wrong)
            assert (reader.n_frames, reader.header.model) == (N_FRAMES, "25hz_nano")
            reader.check()
            with pytest.raises(WrongModel, match="25hz_nano"):
                reader.read()
            with pytest.raises(WrongModel, match="25hz_nano"):
                next(PipeReader(io.BytesIO(data), wrong).read_blocks())
            with pytest.raises(WrongModel):
                Writer(io.BytesIO(), CODED, wrong)


class TestDamage:
    DATA = written(skewed())
    BEGIN = len(CODED.to_bytes())

    @pytest.mark.parametrize("place", range(BEGIN, len(DATA) - 13, 5))
    def test_one_wrong_byte_costs_one_block(self, place):
        data = bytearray(self.DATA)
        data[place] ^= 0x55
        with pytest.raises(BitstreamError):
            Reader(io.BytesIO(bytes(data)), FREQUENCIES).read()
        found = Reader(io.BytesIO(bytes(data)), FREQUENCIES, recover=True).read()
        lost = (found < 0).all(axis=0)
        assert found.shape[1] == N_FRAMES
        assert 0 < lost.sum() <= 32
        np.testing.assert_array_equal(found[:, ~lost], skewed()[:, ~lost])

    def test_a_crash_loses_the_last_block_at_most(self):
        for length in range(self.BEGIN, len(self.DATA), 7):
            reader = Reader(io.BytesIO(self.DATA[:length]), FREQUENCIES, recover=True)
            np.testing.assert_array_equal(reader.read(), skewed()[:, : reader.n_frames])
            # blocks have at most as many bytes as at fixed width here
            assert reader.n_frames >= 32 * ((length - self.BEGIN) // FIXED.block_bytes(32))

    def test_the_block_is_named(self):
        data = bytearray(self.DATA)
        data[-20] ^= 1
        with pytest.raises(DamagedBlock, match=r"block 6 .*7\.68 to 8\.00 s"):
            Reader(io.BytesIO(bytes(data)), FREQUENCIES).check()

    @given(data=st.data())
    @settings(deadline=None, max_examples=300)
    def test_fuzz(self, data):
        file = bytearray(self.DATA)
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(st.integers(0, len(file) - 1))
            if data.draw(st.booleans()):
                file[place] = data.draw(st.integers(0, 255))
            else:
                del file[place : place + data.draw(st.integers(1, 60))]
        for read in (
            lambda: Reader(io.BytesIO(bytes(file)), FREQUENCIES).read(),
            lambda: Reader(io.BytesIO(bytes(file)), FREQUENCIES, recover=True).read(),
            lambda: list(PipeReader(io.BytesIO(bytes(file)), FREQUENCIES).read_blocks()),
        ):
            with contextlib.suppress(BitstreamError):
                read()


class TestCommandLine:
    def test_counted_encoded_and_decoded(self, tmp_path, capsys):
        import soundfile

        model = tmp_path / "tiny"
        make_tiny_codec().save_pretrained(model)
        for i in range(2):
            soundfile.write(tmp_path / f"{i}.wav", speech(2.0, seed=i)[0, 0].numpy(), 24000)
        command = ["encode", str(tmp_path / "0.wav"), "--model", str(model), "--device", "cpu", "--entropy-coding"]
        assert main([*command, "-o", str(tmp_path / "0.esd")]) != 0
        assert FILE in capsys.readouterr().err

        plain = tmp_path / "plain"
        recordings = [str(tmp_path / f"{i}.wav") for i in range(2)]
        assert main(["encode", *recordings, "--model", str(model), "--device", "cpu", "-o", str(plain)]) == 0
        tables = count(sorted(plain.glob("*.esd")))
        assert [int(each.sum()) for each in tables.counts] == [2 * load(model, device="cpu").num_frames(48000)] * 3
        tables.save(model / FILE)
        assert load(model, device="cpu").frequencies.fingerprint == tables.fingerprint

        assert main([*command, "-o", str(tmp_path / "0.esd")]) == 0
        transcoding = ["transcode", str(plain / "0.esd"), "--entropy-coding", "--model", str(model)]
        assert main([*transcoding, "-o", str(tmp_path / "again.esd")]) == 0
        assert (tmp_path / "0.esd").read_bytes() == (tmp_path / "again.esd").read_bytes()
        assert (tmp_path / "0.esd").stat().st_size < (plain / "0.esd").stat().st_size
        decode = ["--model", str(model), "--device", "cpu", "-o"]
        assert main(["decode", str(tmp_path / "0.esd"), *decode, str(tmp_path / "a.wav")]) == 0
        assert main(["decode", str(plain / "0.esd"), *decode, str(tmp_path / "b.wav")]) == 0
        assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
        assert main(["info", str(tmp_path / "0.esd"), "--check"]) == 0
        assert "entropy-coded" in capsys.readouterr().out

    def test_frequencies_travel_with_a_model(self, tmp_path):
        codec = make_tiny_codec()
        codec.save_pretrained(tmp_path / "without")
        assert not (tmp_path / "without" / FILE).exists()
        codec.frequencies = CodeFrequencies([np.arange(size) for size in codec.codebook_sizes])
        codec.save_pretrained(tmp_path / "with")
        assert load(tmp_path / "with", device="cpu").frequencies.fingerprint == codec.frequencies.fingerprint
