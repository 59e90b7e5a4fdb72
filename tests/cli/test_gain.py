"""Quiet recordings are encoded at the codec's level, and come back as quiet as they were."""

import io
import json

import numpy as np
import pytest
import soundfile

from esdcodec.bitstream import Reader
from esdcodec.cli.main import main
from esdcodec.infer.files import encode_file
from esdcodec.loudness import gain_for
from tests.conftest import speech

RATE = 24000


def waveform(decibels=0.0, seconds=0.5):
    return (speech(seconds)[0, 0].numpy() * 10 ** (decibels / 20)).astype(np.float32)


def write(file, waveform, rate=RATE):
    soundfile.write(file, waveform, rate, subtype="FLOAT")
    return str(file)


def codes_in(file):
    with open(file, "rb") as stream:
        reader = Reader(stream)
        return reader.header.gain_db, reader.read()


class TestPython:
    @pytest.mark.parametrize("gain_db", [-60, -7.25, 0, 31.4, 60])
    def test_a_gain_is_an_amplification_before_and_an_attenuation_after(self, codec, gain_db):
        audio = waveform()
        factor = np.float32(10 ** (gain_db / 20))
        codes = codec.encode(audio, gain_db=gain_db)
        np.testing.assert_array_equal(codes, codec.encode(audio * factor))
        decoded = codec.decode(codes, length=len(audio), gain_db=gain_db)
        np.testing.assert_allclose(decoded, codec.decode(codes, length=len(audio)) / factor, rtol=1e-5)

    @pytest.mark.parametrize("rate", [RATE, 16000])
    def test_a_stream_and_a_segment_give_the_same_codes_and_audio(self, codec, rate):
        audio, gain_db = waveform(-30, 1.0), 24.5
        codes = codec.encode(audio, rate, gain_db=gain_db, chunk_seconds=0.2)
        encoder = codec.stream_encoder(rate, gain_db=gain_db)
        pieces = [encoder.push(piece) for piece in np.array_split(audio, 7)] + [encoder.finish()]
        np.testing.assert_array_equal(np.concatenate(pieces, axis=2), codes)
        decoder = codec.stream_decoder(gain_db=gain_db)
        parts = [decoder.push(piece) for piece in codes.split(9, dim=2)] + [decoder.finish()]
        np.testing.assert_allclose(np.concatenate(parts, axis=2), codec.decode(codes, gain_db=gain_db), atol=1e-6)

    def test_the_audio_that_was_given_stays_as_it_is(self, codec):
        audio = speech(0.1)
        before = audio.clone()
        codec.encode(audio, gain_db=20)
        codec.stream_encoder(gain_db=20).push(audio)
        assert audio.equal(before)

    @pytest.mark.parametrize("gain_db", [61, -60.01, float("nan"), float("inf"), None, "6", 1j])
    def test_other_gains_are_refused(self, codec, gain_db):
        codes = codec.encode(waveform(seconds=0.1))
        for function in (
            lambda: codec.encode(waveform(seconds=0.1), gain_db=gain_db),
            lambda: codec.decode(codes, gain_db=gain_db),
            lambda: codec.stream_encoder(gain_db=gain_db),
            lambda: codec.stream_decoder(gain_db=gain_db),
        ):
            with pytest.raises(ValueError, match="number of dB from -60 to 60"):
                function()


class TestFiles:
    def test_a_quiet_file_has_the_codes_of_a_loud_one_and_comes_back_quiet(self, model, tmp_path):
        decoded = {}
        for level in (0, -36):
            source = write(tmp_path / f"{-level}.wav", waveform(level))
            assert main(["encode", source, "--model", model]) == 0
            assert main(["decode", str(tmp_path / f"{-level}.esd"), "--model", model, "--overwrite"]) == 0
            decoded[level] = soundfile.read(tmp_path / f"{-level}.wav")[0]
        (gain, codes), (quiet_gain, quiet_codes) = codes_in(tmp_path / "0.esd"), codes_in(tmp_path / "36.esd")
        assert quiet_gain - gain == pytest.approx(36, abs=0.02)
        assert (quiet_codes == codes).mean() > 0.99  # but for a hundredth of a dB
        np.testing.assert_allclose(decoded[-36] * 10 ** (36 / 20), decoded[0], atol=36e-4)  # 16 bits, 36 dB down

    def test_a_file_a_pipe_and_the_library_agree(self, codec, tmp_path):
        audio = waveform(-40, 1.0)
        source = write(tmp_path / "a.wav", audio)
        coded = [io.BytesIO() for _ in range(3)]
        encode_file(codec, source, coded[0], 3)
        with open(source, "rb") as stream:
            encode_file(codec, stream, coded[1], 3)
        encode_file(codec, source, coded[2], 3, gain_db=gain_for(audio, RATE))
        assert coded[0].getvalue() == coded[1].getvalue() == coded[2].getvalue()
        expected = codec.encode(audio, n_quantizers=3, gain_db=gain_for(audio, RATE))[0]
        np.testing.assert_array_equal(Reader(coded[0]).read(), expected)

    @pytest.mark.parametrize(("given", "kept"), [("0", 0), ("-6.5", -6.5), ("12.346", 12.35)])
    def test_a_gain_can_be_given(self, codec, model, tmp_path, given, kept):
        source = write(tmp_path / "a.wav", waveform(-40))
        assert main(["encode", source, "--model", model, "--gain", given]) == 0
        gain, codes = codes_in(tmp_path / "a.esd")
        assert gain == kept
        np.testing.assert_array_equal(codes, codec.encode(waveform(-40), gain_db=kept)[0])

    @pytest.mark.parametrize("given", ["loud", "61", "nan", ""])
    def test_other_gains_are_a_wrong_command(self, given, capsys):
        with pytest.raises(SystemExit) as stopped:
            main(["encode", "a.wav", f"--gain={given}"])
        assert stopped.value.code == 2
        assert "neither auto nor a number of dB from -60 to 60" in capsys.readouterr().err

    def test_arrays_have_no_place_for_a_gain(self, codec, model, tmp_path):
        source = write(tmp_path / "a.wav", waveform(-40))
        assert main(["encode", source, "--model", model, "--format", "npy"]) == 0
        np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), codec.encode(waveform(-40))[0])

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_what_is_no_number_has_no_level(self, model, tmp_path, capsys, bad):
        audio = waveform()
        audio[4000] = bad
        assert main(["encode", write(tmp_path / "a.wav", audio), "--model", model]) == 1
        assert "a.wav: contains NaN or infinite samples" in capsys.readouterr().err
        assert not (tmp_path / "a.esd").exists()

    def test_silence_has_no_gain(self, model, tmp_path):
        source = write(tmp_path / "a.wav", np.zeros(RATE))
        assert main(["encode", source, "--model", model]) == 0
        assert codes_in(tmp_path / "a.esd")[0] == 0

    def test_info_shows_it_and_transcode_keeps_it(self, model, tmp_path, capsys):
        source = write(tmp_path / "a.wav", waveform())
        assert main(["encode", source, "--model", model, "--gain=-3.25"]) == 0
        arguments = [str(tmp_path / "a.esd"), "--n-quantizers", "1", "-o", str(tmp_path / "b.esd")]
        assert main(["transcode", *arguments]) == 0
        assert codes_in(tmp_path / "b.esd")[0] == -3.25
        capsys.readouterr()
        assert main(["info", "--json", str(tmp_path / "b.esd")]) == 0
        assert json.loads(capsys.readouterr().out)["gain_db"] == -3.25
        assert main(["info", str(tmp_path / "b.esd")]) == 0
        assert "-3.25 dB" in capsys.readouterr().out

    def test_a_roundtrip_gives_the_level_of_its_source(self, model, tmp_path):
        decoded = {}
        for level in (0, -30):
            source = write(tmp_path / f"{-level}.wav", waveform(level))
            assert main(["roundtrip", source, "--model", model, "-o", str(tmp_path / "out")]) == 0
            decoded[level] = soundfile.read(tmp_path / f"out/{-level}.wav")[0]
        ratio = np.square(decoded[0]).sum() / np.square(decoded[-30]).sum()
        assert 10 * np.log10(ratio) == pytest.approx(30, abs=0.3)
