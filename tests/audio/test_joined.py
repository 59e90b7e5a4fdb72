"""Files of any formats that were put one behind the other: all of them are read, or what is not is told."""

import io

import numpy as np
import pytest

from esdcodec.audio import opened, read_segment
from tests.audio_bytes import SOUNDFILE_FORMATS, encoded, mp3
from tests.conftest import speech

RATE = 24000
FORMATS = {
    **SOUNDFILE_FORMATS,
    "tagged mp3": lambda w: b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10) + mp3(w),
    "m4a": lambda w: encoded(w, RATE, "ipod", "aac"),
    "fragmented mp4": lambda w: encoded(w, RATE, "mp4", "aac", options={"movflags": "frag_keyframe+empty_moov"}),
    "webm": lambda w: encoded(w, RATE, "webm", "libopus"),
    "aac": lambda w: encoded(w, RATE, "adts", "aac"),
    "wma": lambda w: encoded(w, RATE, "asf", "wmav2", b="48000"),
    "tta": lambda w: encoded(w, RATE, "tta", "tta"),
    "flv": lambda w: encoded(w, 44100, "flv", "libmp3lame"),
    "amr": lambda w: encoded(w, 8000, "amr", "libopencore_amrnb"),
}
ONE_END = ["wav", "rf64", "aiff", "au", "caf", "w64", "sph", "ogg", "mp3", "m4a"]  # formats whose end can be seen


def told(content: bytes) -> tuple[float, list[str]]:
    """The seconds of a file, and what is said about it."""
    problems: list[str] = []
    with opened(io.BytesIO(content), problems=problems) as (rate, blocks):
        return sum(map(len, blocks)) / rate, problems


@pytest.fixture(scope="module")
def files():
    waveform = speech(1.0)[0, 0].numpy()
    return {name: write(waveform) for name, write in FORMATS.items()}


@pytest.mark.parametrize("kind", FORMATS)
def test_of_two_files_of_a_format_both_are_read(files, kind):
    seconds, _ = told(files[kind])
    both, problems = told(2 * files[kind])
    assert both == pytest.approx(2 * seconds, abs=0.1)
    assert problems == []


@pytest.mark.parametrize("kind", ONE_END)
def test_a_file_of_another_format_may_follow(files, kind):
    for other in ("wav", "flac", "ogg", "tagged mp3", "m4a"):
        seconds = told(files[kind])[0] + told(files[other])[0]
        both, problems = told(files[kind] + files[other])
        assert both == pytest.approx(seconds, abs=0.1)
        assert problems == []


@pytest.mark.parametrize("kind", ["aiff", "au", "caf", "sph", "m4a"])
def test_segments_lie_within_both(files, kind):
    content = files[kind] + files["flac"]
    for position in (0.0, 0.5, 1.0):
        assert read_segment(io.BytesIO(content), 3 * RATE // 2, RATE, position).waveform.shape == (3 * RATE // 2,)


@pytest.mark.parametrize("kind", ["wav", "rf64", "aiff", "au", "caf"])
def test_what_follows_and_is_no_file_is_told(files, kind):
    noise = np.random.default_rng(0).bytes(9000)
    seconds, problems = told(files[kind] + noise)
    assert seconds == 1.0
    assert problems == ["9000 bytes after the end that its header states are left out"]
    assert told(files[kind] + bytes(10**6))[1] == []  # filling
