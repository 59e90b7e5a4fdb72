import io
import os

import numpy as np
import pytest
import soundfile

from esdcodec.audio import AudioFileError, audio_files, probe, read, read_segment, resample, write
from tests.conftest import speech


@pytest.fixture
def waveform():
    return speech(0.5)[0, 0].numpy()


@pytest.mark.parametrize(
    ("suffix", "options", "tolerance"),
    [
        ("wav", {}, 1e-4),
        ("flac", {}, 1e-4),
        ("ogg", {"format": "OGG", "subtype": "VORBIS"}, 0.1),
        ("opus", {"format": "OGG", "subtype": "OPUS"}, 0.2),
        ("mp3", {"format": "MP3"}, 0.1),
    ],
)
def test_formats(tmp_path, waveform, suffix, options, tolerance):
    file = tmp_path / f"speech.{suffix}"
    soundfile.write(file, waveform, 24000, **options)
    got, rate = read(file)
    assert rate == 24000
    assert len(got) == pytest.approx(len(waveform), abs=1500)  # mp3 pads
    if suffix in ("wav", "flac", "ogg"):
        np.testing.assert_allclose(got[: len(waveform)], waveform, atol=tolerance)


def test_channels_are_averaged(tmp_path, waveform):
    soundfile.write(tmp_path / "stereo.wav", np.stack([waveform, 0 * waveform], 1), 24000, subtype="FLOAT")
    np.testing.assert_allclose(read(tmp_path / "stereo.wav")[0], waveform / 2, atol=1e-6)


def test_bytes_in_memory_and_resampling(waveform):
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, 24000, format="WAV")
    buffer.seek(0)
    got, rate = read(buffer, 8000)
    assert (rate, len(got)) == (8000, 4000)


@pytest.mark.parametrize("rates", [(24000, 16000), (16000, 24000), (44100, 24000), (8000, 24000)])
def test_resampling_keeps_a_tone(rates):
    before, after = rates
    tone = np.sin(2 * np.pi * 440 * np.arange(before) / before).astype(np.float32)
    got = resample(tone, before, after)
    expected = np.sin(2 * np.pi * 440 * np.arange(after) / after)
    assert got.shape == expected.shape
    assert np.abs(got - expected)[after // 10 : -after // 10].max() < 1e-3


@pytest.mark.parametrize("length", [1, 2, 999, 1001])
def test_resampled_length(length):
    assert len(resample(np.zeros(length, np.float32), 44100, 24000)) == -(-length * 24000 // 44100)


def test_written_audio_is_clipped_not_wrapped(tmp_path):
    write(tmp_path / "loud.wav", np.array([2.0, -2.0, 0.5], np.float32), 24000)
    np.testing.assert_allclose(read(tmp_path / "loud.wav")[0], [1, -1, 0.5], atol=1e-4)


@pytest.mark.parametrize("content", [None, b"", b"no audio", b"RIFF\x00\x00\x00\x00WAVE"])
def test_unreadable_files_are_named(tmp_path, content):
    file = tmp_path / "broken.wav"
    if content is not None:
        file.write_bytes(content)
    for look in (read, probe):
        with pytest.raises(AudioFileError, match=r"broken\.wav"):
            look(file)


def test_a_probe_leaves_a_stream_where_it_was(waveform):
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, 24000, format="WAV")
    buffer.seek(0)
    probe(buffer)
    assert len(read(buffer)[0]) == len(waveform)


def test_a_header_that_lies_about_the_length(tmp_path, waveform):
    soundfile.write(tmp_path / "speech.flac", waveform, 24000)
    data = bytearray((tmp_path / "speech.flac").read_bytes())
    for total in (0, 2**36 - 1):  # "unknown", as streams are written, and far too long
        data[21] = data[21] & 0xF0 | total >> 32
        data[22:26] = (total & 0xFFFFFFFF).to_bytes(4, "big")
        (tmp_path / "other.flac").write_bytes(data)
        try:
            got, _ = read(tmp_path / "other.flac")
        except AudioFileError as error:
            assert "other.flac" in str(error)  # noqa: PT017
        else:
            np.testing.assert_allclose(got, read(tmp_path / "speech.flac")[0])


def test_unwritable_file(tmp_path, waveform):
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(AudioFileError, match=r"folder\.wav: cannot be written"):
        write(tmp_path / "folder.wav", waveform, 24000)


def test_file_without_samples(tmp_path):
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 24000)
    with pytest.raises(AudioFileError, match="no samples"):
        read(tmp_path / "empty.wav")


class TestSegment:
    """A piece read alone is that piece of the whole."""

    @pytest.mark.parametrize("rate", [16000, 24000, 44100, 48000])
    @pytest.mark.parametrize(
        ("extension", "options", "tolerance"),
        [
            ("wav", {}, 1e-6), ("flac", {}, 1e-6), ("ogg", {}, 1e-6), ("mp3", {}, 1e-6),
            ("opus", {"format": "OGG", "subtype": "OPUS"}, 5e-3),
        ],
    )  # fmt: skip
    def test_of_every_format(self, tmp_path, rate, extension, options, tolerance):
        if extension == "opus" and rate == 44100:
            pytest.skip("Opus has no such rate")
        rng = np.random.default_rng(0)
        waveform = np.concatenate([speech(1.0, seed=i, sample_rate=rate)[0, 0].numpy() for i in range(6)])
        file = tmp_path / f"a.{extension}"
        soundfile.write(file, waveform + 0.01 * rng.standard_normal(len(waveform)), rate, **options)
        whole, _ = read(file, 24000)
        length = 20000
        for place in (0.0, 1.0, *rng.random(4)):
            segment = read_segment(file, length, 24000, place)
            frames = soundfile.info(file).frames
            start = round(place * (frames * 24000 // rate - length))
            reference = whole[start : start + length]
            assert abs(len(segment.waveform) - length) <= 2  # the last sample of a resampled recording may be cut
            n = min(len(reference), len(segment.waveform))
            assert np.abs(segment.waveform[:n] - reference[:n]).max() < tolerance
            assert (segment.channels, segment.from_rate) == (1, rate)

    def test_of_a_shorter_recording_is_all_of_it(self, tmp_path):
        soundfile.write(tmp_path / "a.wav", np.full((100, 2), 0.5), 24000)
        segment = read_segment(tmp_path / "a.wav", 4800, 24000, 0.7)
        assert len(segment.waveform) == 100
        assert segment.channels == 2

    def test_nothing_is_an_error(self, tmp_path):
        soundfile.write(tmp_path / "a.wav", np.zeros(0), 24000)
        with pytest.raises(AudioFileError, match="holds no samples"):
            read_segment(tmp_path / "a.wav", 4800, 24000, 0)


def test_a_long_mp3_has_no_seams(tmp_path):
    """Read in blocks, the decoder begins anew at each."""
    waveform = np.concatenate([speech(2.0, seed=i)[0, 0].numpy() for i in range(13)])
    soundfile.write(tmp_path / "a.mp3", waveform, 24000)
    at_once, _ = soundfile.read(tmp_path / "a.mp3", dtype="float32")
    assert len(at_once) > 2 * 2**18
    np.testing.assert_allclose(read(tmp_path / "a.mp3")[0], at_once, rtol=0, atol=1e-6)


class TestFolder:
    """What lies in a folder is taken, or left out with a reason."""

    @pytest.fixture
    def folder(self, tmp_path):
        for name in ("in/a.wav", "in/b.WAV", "in/below/c.Flac", "in/notes.txt", "in/.hidden", "in/._a.wav", "in/bare"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path / "in"

    def test_takes_extensions_in_any_case(self, folder):
        found = audio_files(folder)
        assert found.files == [folder / "a.wav", folder / "b.WAV", folder / "below/c.Flac"]
        assert found.left_out == {
            folder / "._a.wav": "attributes that macOS keeps beside a file",
            folder / "bare": "no extension",
            folder / "notes.txt": "extension .txt",
        }
        assert audio_files(folder, [".TXT"]).files == [folder / "notes.txt"]

    def test_follows_links_to_files_and_folders(self, folder, tmp_path):
        (tmp_path / "elsewhere/deep").mkdir(parents=True)
        (tmp_path / "elsewhere/deep/d.wav").touch()
        (folder / "linked").symlink_to(tmp_path / "elsewhere")
        (folder / "e.wav").symlink_to(tmp_path / "elsewhere/deep/d.wav")
        assert {folder / "linked/deep/d.wav", folder / "e.wav"} < set(audio_files(folder).files)

    @pytest.mark.parametrize("target", [".", "..", "/", "below/up"])
    def test_never_walks_in_a_circle(self, folder, target):
        before = audio_files(folder).files
        (folder / "below/up").symlink_to(folder / target)
        found = audio_files(folder)
        assert found.files == before
        assert found.left_out[folder / "below/up"] == "link in a circle"

    def test_two_folders_that_link_to_each_other(self, folder, tmp_path):
        for name in ("x", "y"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "a.wav").touch()
        (tmp_path / "x/other").symlink_to(tmp_path / "y")
        (tmp_path / "y/other").symlink_to(tmp_path / "x")
        (folder / "x").symlink_to(tmp_path / "x")
        found = audio_files(folder)
        assert {folder / "x/a.wav", folder / "x/other/a.wav"} < set(found.files)
        assert found.left_out[folder / "x/other/other"] == "folder that is searched under another name"

    @pytest.mark.parametrize("names", ["123", "321"])
    def test_searches_a_folder_once(self, folder, tmp_path, names):
        (tmp_path / "outside/inner").mkdir(parents=True)
        (tmp_path / "outside/inner/f.wav").touch()
        for name, target in zip(names, [folder / "below", tmp_path / "outside", tmp_path / "outside/inner"]):
            (folder / name).symlink_to(target)
        found = audio_files(folder).files
        assert len([f for f in found if f.name in ("c.Flac", "f.wav")]) == 2
        assert folder / "below/c.Flac" in found

    def test_tells_of_links_to_nothing_and_of_pipes(self, folder):
        (folder / "gone.wav").symlink_to(folder / "nowhere.wav")
        os.mkfifo(folder / "pipe.wav")
        left_out = audio_files(folder).left_out
        assert left_out[folder / "gone.wav"] == "link to nothing"
        assert left_out[folder / "pipe.wav"] == "no regular file"

    def test_of_which_there_is_none(self, tmp_path):
        assert audio_files(tmp_path / "none").left_out == {tmp_path / "none": "no such folder"}

    def test_report_counts_and_gives_examples(self, folder):
        for i in range(5):
            (folder / f"{i}.txt").touch()
        assert f"extension .txt: 6 ({folder}/0.txt, {folder}/1.txt, {folder}/2.txt, …)" in audio_files(folder).report()
