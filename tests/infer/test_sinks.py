"""Decoded audio in every format: the right samples, lengths that headers state rightly, and no error that gets lost."""

import io
import struct

import numpy as np
import pytest
import soundfile

from esdcodec.audio import AudioFileError
from esdcodec.infer import sinks
from esdcodec.infer.sinks import FORMATS, sink_into


def tone(rate: int, n: int) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 / rate * np.arange(n))).astype(np.float32)


def written(format: str, rate: int, audio: np.ndarray, known: bool = True, target=None) -> bytes:
    target = target or io.BytesIO()
    with sink_into(target, format)(rate, len(audio) if known else None) as write:
        for piece in np.array_split(audio, 3):
            write(piece)
    return target.getvalue()


class Pipe(io.BytesIO):
    def seekable(self):
        return False

    def seek(self, *args):
        raise OSError("a pipe cannot seek")

    tell = seek


@pytest.mark.parametrize("known", [True, False], ids=["length known", "length unknown"])
@pytest.mark.parametrize("target", [io.BytesIO, Pipe])
@pytest.mark.parametrize("format", FORMATS)
def test_every_format_holds_what_was_written(format, target, known):
    audio = tone(24000, 30000)
    data = written(format, 24000, audio, known, target())
    read, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    assert rate == 24000
    assert len(read) == len(audio)
    error = (read - audio)[2000:-2000]  # what encoders make of the ends is theirs
    assert np.abs(error).max() < 2 / 32768 if FORMATS[format].subtype == "PCM_16" else error.std() < 0.1 * audio.std()


@pytest.mark.parametrize("format", FORMATS)
def test_every_rate_that_a_format_has_can_be_written(format):
    for rate in FORMATS[format].rates or (1000, 7350, 8000, 44100, 192000):
        read, read_rate = soundfile.read(io.BytesIO(written(format, rate, tone(rate, rate // 2))))
        assert (len(read), read_rate) == (rate // 2, rate)


@pytest.mark.parametrize(
    ("format", "rate", "nearest"), [("opus", 44100, 48000), ("opus", 96000, 48000), ("mp3", 1, 8000), ("wav", 7, 7)]
)
def test_a_format_without_a_rate_takes_the_next_higher(format, rate, nearest):
    assert FORMATS[format].nearest_rate(rate) == nearest


class TestWav:
    def test_a_length_that_becomes_known_is_stated_in_the_end(self):
        for known in (True, False):
            data = written("wav", 8000, tone(8000, 1000), known)
            assert soundfile.info(io.BytesIO(data)).frames == 1000
            assert struct.unpack("<I", data[4:8]) == (len(data) - 8,)
        assert written("wav", 8000, tone(8000, 1000), False, Pipe())[40:44] == b"\xff" * 4

    def test_it_may_follow_something_else(self):
        target = io.BytesIO(b"before")
        target.seek(0, io.SEEK_END)
        data = written("wav", 8000, tone(8000, 1000), False, target)
        assert data[:6] == b"before"
        assert soundfile.info(io.BytesIO(data[6:])).frames == 1000

    @pytest.mark.parametrize("reserve", [False, True])
    def test_beyond_four_gigabytes_it_is_rf64(self, tmp_path, reserve):
        largest = (2**32 - 1 - 36 - 36 * reserve) // 2
        assert sinks._wav_header(8000, largest, reserve=reserve)[:4] == b"RIFF"
        for n in (largest + 1, 2**31 + 10, 2**33):
            header = sinks._wav_header(8000, n, reserve=reserve)
            assert header[:4] == b"RF64"
            with open(tmp_path / "sparse", "wb") as file:  # takes no space
                file.write(header)
                file.truncate(len(header) + 2 * n - 2)
                file.seek(0, io.SEEK_END)
                file.write(b"\x00\x40")
            with soundfile.SoundFile(tmp_path / "sparse") as sound:
                assert (sound.format, sound.frames, sound.samplerate) == ("RF64", n, 8000)
                sound.seek(n - 1)
                assert sound.read().tolist() == [0.5]

    def test_a_length_that_turns_out_large_gets_the_same_room(self, monkeypatch):
        assert len({len(sinks._wav_header(8000, n, reserve=True)) for n in (None, 1, 2**33)}) == 1
        monkeypatch.setattr(sinks, "LARGEST", 1000)
        for known in (True, False):
            data = written("wav", 8000, tone(8000, 1000), known)
            assert data[:4] == b"RF64"
            assert struct.unpack("<QQQ", data[20:44]) == (len(data) - 8, 2000, 1000)


class Full(io.BytesIO):
    """A disk with room for so many bytes."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, data):
        if self.tell() + len(data) > self.room:
            raise OSError(28, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("room", [0, 30, 4000])
@pytest.mark.parametrize("format", FORMATS)
def test_a_full_disk_is_told_as_such(format, room, capfd):
    rng = np.random.default_rng(0)
    with pytest.raises(OSError, match="No space left"):
        written(format, 24000, rng.uniform(-0.5, 0.5, 240000).astype(np.float32), target=Full(room))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("format", ["mp3", "opus", "ogg", "flac"])
def test_a_rate_that_a_format_lacks_is_told(format):
    with pytest.raises(AudioFileError, match="another --sample-rate may do"):
        written(format, 700000, tone(8000, 1000))


def test_what_stops_the_writing_is_not_hidden_by_the_file():
    def stopped():
        with sink_into(Full(100000), "flac")(24000, None) as write:
            write(tone(24000, 24000))
            raise SystemExit(143)

    with pytest.raises(SystemExit):
        stopped()
