"""Laws of the systems: all are treated alike, and a file is taken for what it is."""

import shutil

import numpy as np
import pytest
import soundfile

from esdcodec.audio import read
from esdcodec.bitstream import Reader
from esdcodec.cli.main import main
from esdcodec.evaluation.alignment import delay_ms
from esdcodec.evaluation.metrics import si_sdr
from esdcodec.evaluation.systems import (
    PEERS,
    SystemFailed,
    command_system,
    decoded_file,
    folder_system,
    model_systems,
    peer_system,
    weights_hash,
)
from tests.conftest import speech, write_speech
from tests.evaluation.recordings import reference, three_files


@pytest.fixture
def folder(tmp_path):
    return three_files(tmp_path / "speech")


class TestModel:
    @pytest.mark.parametrize("rate", [24000, 8000, 44100])
    def test_it_does_what_the_command_line_does(self, tmp_path, model, codec, rate):
        file = write_speech(tmp_path / "one.wav", rate=rate)
        for n, system in zip((1, 3), model_systems(codec, (3, 1))):
            decoded = system.run(reference(file))
            coded, out = tmp_path / f"{n}.esd", tmp_path / f"{n}.wav"
            assert main(["encode", str(file), "-o", str(coded), "--model", str(model), "--n-quantizers", str(n)]) == 0
            assert main(["decode", str(coded), "-o", str(out), "--model", str(model)]) == 0
            assert system.name == f"tiny n={n}"
            assert decoded.n_bytes == coded.stat().st_size
            assert decoded.bitrate == codec.bitrate(n)
            assert decoded.megabytes is None or 0 <= decoded.megabytes < 500
            assert decoded.codes.shape == (n, codec.num_frames(24000))
            with open(coded, "rb") as stream:
                reader = Reader(stream)
                assert reader.header.gain != 0  # both at the codec's level
                np.testing.assert_array_equal(decoded.codes, reader.read())
            assert decoded.encode_seconds > 0
            assert decoded.decode_seconds > 0
            np.testing.assert_allclose(decoded.waveform, read(out, 24000)[0], atol=1e-3)  # 16 bits, resampled

    def test_it_has_the_numbers_of_codebooks_that_it_has(self, tiny_codec):
        assert [system.name for system in model_systems(tiny_codec)] == ["unnamed n=1", "unnamed n=3"]
        with pytest.raises(ValueError, match="n_quantizers=8"):
            model_systems(tiny_codec, [1, 8])

    def test_every_weight_counts(self, tiny_codec, tmp_path):
        file = reference(write_speech(tmp_path / "one.wav"))
        before = weights_hash(tiny_codec), model_systems(tiny_codec, [1])[0].identity(file)
        next(tiny_codec.encoder.parameters()).data.add_(1e-3)
        assert weights_hash(tiny_codec) != before[0]
        assert model_systems(tiny_codec, [1])[0].identity(file) != before[1]


class TestDecodedFiles:
    def test_files_of_another_codec(self, folder, tmp_path):
        other = tmp_path / "other"
        (other / "a").mkdir(parents=True)
        shutil.copy(folder / "one.wav", other / "one.wav")
        soundfile.write(other / "a/two.ogg", np.zeros(8000), 8000)
        system = folder_system("other", other)
        original, _ = soundfile.read(folder / "one.wav", dtype="float32")
        np.testing.assert_allclose(system.run(reference(folder / "one.wav", folder)).waveform, original, atol=1e-4)
        assert len(system.run(reference(folder / "a/two.flac", folder)).waveform) == 24000
        with pytest.raises(SystemFailed, match=r"there is no .*three\.wav"):
            system.run(reference(folder / "a/three.wav", folder))

    def test_another_file_is_another_system(self, folder, tmp_path):
        system, original = folder_system("other", tmp_path / "other"), reference(folder / "one.wav")
        decoded = write_speech(tmp_path / "other/one.wav", seed=5)
        before = system.identity(original)
        assert system.identity(original) == before
        write_speech(decoded, seed=6)
        assert system.identity(original) != before

    def test_originals_that_share_a_stem_have_their_own(self, tmp_path):
        originals, other = tmp_path / "speech", tmp_path / "other"
        wav, flac = (reference(write_speech(originals / name, seed=3)) for name in ("a.wav", "a.flac"))
        write_speech(other / "a.wav")
        assert decoded_file(wav, other).name == "a.wav"
        with pytest.raises(SystemFailed, match=r"call the one of a\.flac a\.flac\.wav"):
            decoded_file(flac, other)
        write_speech(other / "a.flac.wav")
        assert decoded_file(flac, other).name == "a.flac.wav"

    def test_two_that_could_be_meant_are_refused(self, tmp_path):
        original = reference(write_speech(tmp_path / "speech/a.mp3.wav"))
        for name in ("a.mp3.flac", "a.mp3.ogg"):
            write_speech(tmp_path / "other" / name)
        with pytest.raises(SystemFailed, match=r"a\.mp3\.flac, a\.mp3\.ogg .*may be of another"):
            decoded_file(original, tmp_path / "other")

    def test_the_original_is_not_taken_for_what_a_codec_made_of_it(self, folder, tmp_path):
        with pytest.raises(SystemFailed, match="is the original itself"):
            decoded_file(reference(folder / "one.wav"), folder)
        (tmp_path / "other").mkdir()
        (tmp_path / "other/one.wav").symlink_to(folder / "one.wav")
        with pytest.raises(SystemFailed, match="is the original itself"):
            decoded_file(reference(folder / "one.wav"), tmp_path / "other")


class TestPrograms:
    def test_a_program(self, folder):
        system = command_system("copy", "head -c 1000 {input} > {coded} && cp {input} {output}")
        original = reference(folder / "one.wav")
        decoded = system.run(original)
        assert decoded.n_bytes == 1000
        assert len(decoded.waveform) == len(original.waveform)
        assert si_sdr(decoded.waveform, original.waveform) > 10

    def test_a_program_that_fails_is_quoted(self, folder):
        with pytest.raises(SystemFailed, match=r"failed .3.: out of order"):
            command_system("x", "echo out of order >&2; exit 3").run(reference(folder / "one.wav"))

    @pytest.mark.parametrize(
        "template",
        ["f=${HOME}; cp {input} {output}", "cp {input} {output}; awk 'BEGIN {x = 1}'", "cp {input} {output} #{0} {}{"],
    )
    def test_other_braces_are_those_of_the_shell(self, folder, template):
        original = reference(folder / "one.wav")
        assert len(command_system("x", template).run(original).waveform) == len(original.waveform)

    @pytest.mark.parametrize("name", ["opus-6k", "codec2-1300", "codec2-700c"])
    def test_ready_made_peers_are_on_time(self, tmp_path, name):
        try:
            system = peer_system(name)
        except SystemFailed as error:
            pytest.skip(str(error))
        original = reference(write_speech(tmp_path / "one.wav", 3.0))
        decoded = system.run(original)
        assert abs(len(decoded.waveform) - len(original.waveform)) < 0.1 * 24000
        assert 100 < decoded.n_bytes < 5000
        delay = delay_ms(original.waveform, decoded.waveform, 24000)
        assert delay is None or abs(delay) <= 10

    @pytest.mark.parametrize("name", [name for name, peer in PEERS.items() if peer.delay])
    def test_a_peer_that_is_late_gives_the_end_of_a_recording_too(self, tmp_path, name):
        try:
            system = peer_system(name)
        except SystemFailed as error:
            pytest.skip(str(error))
        write_speech(tmp_path / "one.wav", 1.019)  # no whole number of its frames
        original = reference(tmp_path / "one.wav")
        decoded = system.run(original)
        assert len(decoded.waveform) == len(original.waveform)
        assert np.abs(decoded.waveform[-480:]).max() > 0.01

    def test_a_peer_that_is_not_installed_says_what_to_install(self, monkeypatch):
        monkeypatch.setattr(shutil, "which", lambda program: None)
        for name in PEERS:
            with pytest.raises(SystemFailed, match=r"needs the program .*Debian package"):
                peer_system(name)


class TestDelay:
    @pytest.mark.parametrize("ms", [-120, -20, 0, 6, 20, 400])
    @pytest.mark.parametrize("seconds", [2.0, 25.0], ids=["short", "longer than what is compared"])
    def test_it_is_found(self, ms, seconds):
        waveform = speech(seconds)[0, 0].numpy()
        n = abs(ms) * 24
        shifted = np.pad(waveform, (n, 0))[: len(waveform)] if ms > 0 else np.pad(waveform, (0, n))[n:]
        assert delay_ms(waveform, 0.3 * shifted, 24000) == pytest.approx(ms, abs=1)

    def test_other_sounds_have_none(self):
        rng = np.random.default_rng(0)
        assert delay_ms(speech(2.0)[0, 0].numpy(), rng.standard_normal(48000).astype(np.float32), 24000) is None
        assert delay_ms(np.zeros(48000, np.float32), np.zeros(48000, np.float32), 24000) is None
        assert delay_ms(np.zeros(100, np.float32), np.zeros(100, np.float32), 24000) is None
