"""What the page says of a recording: real sizes, real audio, and a sentence for what is not possible."""

import io

import numpy as np
import pytest
import soundfile

from esdcodec import AudioFileError
from esdcodec.app.compare import compare
from esdcodec.infer.files import encode_file
from tests.conftest import write_speech


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    return write_speech(tmp_path_factory.mktemp("talk") / "talk.wav", 1.3, rate=16000)


def test_sizes_are_those_of_files_and_audio_is_what_they_decode_to(codec, talk):
    comparison = compare(codec, talk, [3, 1, 3], 30.0)
    assert [version.n_quantizers for version in comparison.versions] == [1, 3]
    for version in comparison.versions:
        file = io.BytesIO()
        encode_file(codec, talk, file, version.n_quantizers)
        assert version.n_bytes == len(file.getvalue())
        assert version.bitrate == codec.bitrate(version.n_quantizers)
        assert version.audio.shape == comparison.original.shape
    assert (comparison.sample_rate, comparison.seconds) == (16000, pytest.approx(1.3))
    assert comparison.codes.shape == (3, codec.num_frames(round(1.3 * codec.sample_rate)))
    more, less = ((version.audio - comparison.original) for version in reversed(comparison.versions))
    assert not np.array_equal(more, less)


def test_a_recording_that_is_too_long_is_not_read_to_its_end(codec, tmp_path):
    soundfile.write(tmp_path / "long.flac", np.zeros(8000 * 60, np.float32), 8000)
    with pytest.raises(ValueError, match="longer than 30 s"):
        compare(codec, tmp_path / "long.flac", [1], 30.0)


def test_what_is_not_possible_is_said(codec, talk, tmp_path):
    (tmp_path / "talk.txt").write_text("no audio")
    with pytest.raises(AudioFileError, match=r"talk\.txt"):
        compare(codec, tmp_path / "talk.txt", [1], 30.0)
    with pytest.raises(ValueError, match="at least one"):
        compare(codec, talk, [], 30.0)
    with pytest.raises(ValueError, match="1 to 6 codebooks"):
        compare(codec, talk, [99], 30.0)


def test_damage_is_named(codec, talk, tmp_path):
    (tmp_path / "cut.wav").write_bytes(talk.read_bytes()[:20_000])
    comparison = compare(codec, tmp_path / "cut.wav", [1], 30.0)
    assert comparison.problems
    assert 0 < comparison.seconds < 1.3
