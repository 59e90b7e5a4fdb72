"""Files made to harm: right checksums around wrong numbers end in plain words, before anything is allocated."""

import io
import struct
import tracemalloc
import zlib
from contextlib import contextmanager

import numpy as np
import pytest
import soundfile

from esdcodec.bitstream import BitstreamError, Reader
from esdcodec.cli.info import describe, table
from esdcodec.cli.main import main
from esdcodec.infer.files import decode_file, encode_file

END_OF_TIME = 2**64 - 1


def checked(data, start=0):
    return data + zlib.crc32(data, start).to_bytes(4, "big")


def forged(codec, *, samples=None, n_blocks=1, version=2, gain=0, name=b"tiny", **values):
    """A small file of `codec`, some numbers replaced, with right checksums."""
    bits = values.pop("bits", (8, 6))
    fields = {"sample_rate": 24000, "hop_length": 120, "original_rate": 24000, "block_frames": 4} | values
    rates = (fields["sample_rate"], fields["hop_length"], fields["original_rate"])
    body = b"ESDC" + bytes([version])
    body += struct.pack(">IHI8sBBB", *rates, codec.fingerprint[:8], fields["block_frames"], len(name), len(bits))
    body += struct.pack(">h", gain) * (version > 1) + name + bytes(bits)
    frames = fields["block_frames"]
    block = bytes([frames]) + bytes(-(-frames * sum(bits) // 8))
    if samples is None:
        ours = n_blocks * frames * fields["hop_length"]
        samples = min(END_OF_TIME, ours * fields["original_rate"] // max(1, fields["sample_rate"]))
    blocks = b"".join(checked(block, i) for i in range(n_blocks))
    return checked(body) + blocks + checked(b"\0" + samples.to_bytes(8, "big"))


class Pipe(io.BytesIO):
    def seekable(self):
        return False


def decoded(codec, stream, **options):
    """Samples that come of a file; nothing of them is kept."""
    count = 0

    @contextmanager
    def sink(rate, n_samples):
        def write(waveform):
            nonlocal count
            count += len(waveform)

        yield write

    decode_file(codec, stream, sink, **options)
    return count


HOSTILE = {
    "sample rate 1": {"sample_rate": 1},
    "sample rate 0": {"sample_rate": 0},
    "largest sample rate": {"sample_rate": 2**32 - 1},
    "another sample rate": {"sample_rate": 1000},
    "longest hop": {"hop_length": 2**16 - 1},
    "no hop": {"hop_length": 0},
    "both": {"sample_rate": 1, "hop_length": 2**16 - 1},
    "largest rate of a recording": {"original_rate": 2**32 - 1},
    "rate of a recording 0": {"original_rate": 0},
    "rate of a recording 1": {"original_rate": 1},
    "all rates": {"sample_rate": 1, "hop_length": 2**16 - 1, "original_rate": 2**32 - 1},
    "no codebooks": {"bits": ()},
    "many codebooks": {"bits": (24,) * 255},
    "other bits": {"bits": (14, 10)},
    "more codebooks than the model": {"bits": (8,) + (6,) * 6},
    "largest gain": {"gain": 32767},
    "smallest gain": {"gain": -32768},
    "endless": {"samples": END_OF_TIME},
    "endless without blocks": {"samples": END_OF_TIME, "n_blocks": 0},
    "endless at the lowest rate": {"samples": END_OF_TIME, "n_blocks": 0, "original_rate": 1000},
    "no block length": {"block_frames": 0, "n_blocks": 0},
}


@pytest.mark.parametrize("values", HOSTILE.values(), ids=HOSTILE)
class TestHostileNumbers:
    @pytest.mark.parametrize("way", ["file", "recover", "pipe"])
    def test_decoding_refuses_them_in_little_memory(self, codec, values, way):
        data = forged(codec, **values)
        tracemalloc.start()
        try:
            with pytest.raises(BitstreamError) if way != "recover" or "samples" not in values else nothing():
                n = decoded(codec, Pipe(data) if way == "pipe" else io.BytesIO(data), recover=way == "recover")
                assert n <= 4 * 120 * 24  # what is left of an endless file: a block, at no more than its rate
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 4e6

    def test_the_command_line_says_so_in_a_line(self, codec, model, values, tmp_path, capsys):
        file = tmp_path / "hostile.esd"
        file.write_bytes(forged(codec, **values))
        assert main(["decode", str(file), "--model", model, "-o", str(tmp_path / "a.wav")]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert error.startswith(f"failed     {file}: ")
        assert "rror" not in error
        assert not (tmp_path / "a.wav").exists()

    def test_info_and_transcode_take_what_a_model_could_have(self, codec, values, tmp_path, capsys):
        """Without a model only what no file can have is refused; nothing is as large as the numbers say."""
        file = tmp_path / "hostile.esd"
        file.write_bytes(forged(codec, **values))
        assert main(["info", str(file), "--check"]) in (0, 1)
        assert main(["transcode", str(file), "--n-quantizers", "1", "-o", str(tmp_path / "b.esd")]) in (0, 1)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 20000


@contextmanager
def nothing():
    yield


def test_what_is_forged_without_harm_is_decoded(codec):
    assert decoded(codec, io.BytesIO(forged(codec))) == 480
    assert decoded(codec, Pipe(forged(codec, n_blocks=3, original_rate=16000))) == 3 * 320
    assert decoded(codec, io.BytesIO(forged(codec, version=1))) == 480


def test_the_output_rate_has_a_bound(codec, model, tmp_path, capsys):
    for rate in (0, -1, 999, 1_000_001, 2**32 - 1, 10**30):
        with pytest.raises(ValueError, match="must be 1000 to 1000000 Hz"):
            decoded(codec, io.BytesIO(forged(codec)), sample_rate=rate)
        assert main(["decode", "x.esd", "--model", model, "--sample-rate", str(rate)]) == 2
        assert "1000 to 1000000 Hz" in capsys.readouterr().err


@pytest.mark.parametrize("rate", [500, 2_000_000])
def test_a_recording_of_a_rate_that_no_file_can_hold_is_refused(codec, rate, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(1000), rate)
    with pytest.raises(ValueError, match=rf"1000 to 1000000, not {rate}|a sample rate of {rate} Hz"):
        encode_file(codec, tmp_path / "a.wav", io.BytesIO(), 2)


def test_lost_blocks_are_not_more_than_a_file_has_room_for(codec):
    data = forged(codec, n_blocks=1)
    for promised in (9 * 480, 11 * 480, 10**6, END_OF_TIME):
        reader = Reader(io.BytesIO(data[:-13] + checked(b"\0" + promised.to_bytes(8, "big"))), recover=True)
        assert reader.n_frames <= (2 * ((12 + 13) // 12) + 8) * 4  # blocks of 12 bytes, and 13 of the end


class TestHostileNames:
    NAME = "a\x1b[2J\x1b]0;owned\x07\r\n\u202eb"

    def test_no_escape_sequence_of_a_model_reaches_the_terminal(self, codec, model, tmp_path, capsys):
        file = tmp_path / "a.esd"
        file.write_bytes(forged(codec, name=self.NAME.encode()))
        assert self.clean(table(describe(file)))
        other = bytearray(forged(codec, name=self.NAME.encode()))
        other[15:23] = bytes(8)  # of another model
        end = len(other) - 13 - (1 + 7 + 4) - 4
        other[end : end + 4] = zlib.crc32(other[:end]).to_bytes(4, "big")
        file.write_bytes(other)
        assert main(["decode", str(file), "--model", model, "-o", str(tmp_path / "b.wav")]) == 1
        error = capsys.readouterr().err
        assert "these codes are of the model" in error
        assert self.clean(error.rstrip("\n"), lines=1)

    def test_none_of_a_file_name_does(self, model, tmp_path, capsys):
        for name in ("a\x1b[31m.esd", "b\nfailed.esd", "c\udcff.esd"):
            (tmp_path / name).write_bytes(b"nothing")
        assert main(["decode", str(tmp_path), "--model", model, "-o", str(tmp_path / "out")]) == 1
        assert main(["info", str(tmp_path)]) == 1
        error = capsys.readouterr().err.rstrip("\n")
        assert self.clean(error, lines=6)
        error.encode()  # so a terminal can show it
        for shown in (r"a\x1b[31m.esd", r"b\nfailed.esd", r"c\udcff.esd"):
            assert error.count(shown) >= 2

    def test_json_escapes_them_too(self, codec, tmp_path, capsys):
        (tmp_path / "a.esd").write_bytes(forged(codec, name=self.NAME.encode()))
        assert main(["info", "--json", str(tmp_path / "a.esd")]) == 0
        assert self.clean(capsys.readouterr().out.rstrip("\n"), lines=1)

    @staticmethod
    def clean(text, lines=None):
        assert lines is None or text.count("\n") == lines - 1
        return text.replace("\n", "").isprintable()


def test_a_gain_that_a_header_can_hold_is_taken_back(codec):
    loud = {}
    for gain in (-6000, 0, 6000):
        got = []

        @contextmanager
        def sink(rate, n_samples, got=got):
            yield got.append

        decode_file(codec, io.BytesIO(forged(codec, gain=gain)), sink)
        loud[gain] = np.concatenate(got)
    np.testing.assert_allclose(loud[-6000], loud[0] * 1000, rtol=1e-4)
    np.testing.assert_allclose(loud[6000], loud[0] / 1000, rtol=1e-4, atol=1e-9)
