"""Headers that do not know how long their audio is, as pipes and killed recorders leave them: all samples are read."""

import io
import struct

import numpy as np
import pytest

from esdcodec.audio import AudioFileError, opened, read, read_segment
from tests.audio_bytes import mp3
from tests.conftest import speech
from tests.corpora import audio

RATE = 24000
WAVEFORM = np.round(speech(1.0)[0, 0].numpy() * 2**15) / 2**15

W64_DATA = b"data\xf3\xac\xd3\x11"
FIELDS = {  # a chunk's name, the offset from it, and the layout: of the audio's length, then of what goes with it
    "WAV": [(b"data", 4, "<I"), (b"RIFF", 4, "<I")],
    "WAVEX": [(b"data", 4, "<I"), (b"RIFF", 4, "<I"), (b"fact", 8, "<I")],
    "RF64": [(b"ds64", 16, "<Q"), (b"ds64", 8, "<Q"), (b"ds64", 24, "<Q"), (b"data", 4, "<I")],
    "AIFF": [(b"SSND", 4, ">I"), (b"FORM", 4, ">I"), (b"COMM", 10, ">I")],
    "AU": [(b".snd", 8, ">I")],
    "W64": [(W64_DATA, 16, "<Q"), (b"riff", 16, "<Q")],
    "CAF": [(b"data", 4, ">Q")],
}
UNKNOWN = {"0": 0, "all ones": 2**64 - 1, "all ones of 32 bits": 2**32 - 1, "the largest with a sign": 2**63 - 1}


def stating(format: str, length: int, n_fields: int, subtype: str = "PCM_16") -> bytes:
    """A file of which the first fields state a length; of a number with too many bits they take those that fit."""
    content = bytearray(audio(WAVEFORM, RATE, format=format, subtype=subtype))
    for name, offset, layout in FIELDS[format][:n_fields]:
        bits = 8 * struct.calcsize(layout)
        value = length >> 32 if length == 2**63 - 1 and bits == 32 else length % 2**bits
        struct.pack_into(layout, content, content.index(name) + offset, value)
    return bytes(content)


def told(content: bytes) -> tuple[np.ndarray, list[str]]:
    """All samples of a file, and what is said about it."""
    problems: list[str] = []
    with opened(io.BytesIO(content), problems=problems) as (_, blocks):
        return np.concatenate(list(blocks)), problems


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("n_fields", [1, 4], ids=["of the audio", "all"])
@pytest.mark.parametrize("length", UNKNOWN.values(), ids=UNKNOWN)
@pytest.mark.parametrize("format", FIELDS)
def test_all_samples_are_read_without_complaint(format, length, n_fields, subtype):
    got, problems = told(stating(format, length, n_fields, subtype))
    np.testing.assert_array_equal(got, WAVEFORM)
    assert problems == []


@pytest.mark.parametrize("format", FIELDS)
def test_they_are_read_from_a_path_and_in_segments(tmp_path, format):
    path = tmp_path / "a"
    path.write_bytes(stating(format, 0, 1))
    np.testing.assert_array_equal(read(path)[0], WAVEFORM)
    for position in (0.0, 0.3, 1.0):
        start = round(position * (len(WAVEFORM) - 1000))
        segment = read_segment(path, 1000, RATE, position).waveform
        np.testing.assert_array_equal(segment, WAVEFORM[start : start + 1000])


@pytest.mark.parametrize("format", FIELDS)
def test_a_file_without_samples_stays_one(format):
    with pytest.raises(AudioFileError, match="no samples"):
        told(audio(np.zeros(0), RATE, format=format))


@pytest.mark.parametrize("format", ["WAV", "AIFF", "CAF"])
def test_chunks_after_an_empty_one_are_no_audio(format):
    order = "<" if format == "WAV" else ">"
    content = audio(np.zeros(0), RATE, format=format)
    content += b"note" + struct.pack(f"{order}{'q' if format == 'CAF' else 'I'}", 400) + bytes(400)
    with pytest.raises(AudioFileError, match="no samples"):
        told(content)


@pytest.mark.parametrize("format", FIELDS)
def test_a_length_that_could_be_is_no_unknown_one(format):
    got, problems = told(stating(format, 10**6, 1))
    np.testing.assert_array_equal(got, WAVEFORM)
    assert problems == ["shorter than its header states"]


# ---- lengths that are wrong ------------------------------------------------------------------------------------------


def flac_stating(total: int, waveform: np.ndarray = WAVEFORM) -> bytes:
    content = bytearray(audio(waveform, RATE, format="FLAC"))
    field = int.from_bytes(content[18:26], "big") >> 36 << 36 | total
    content[18:26] = field.to_bytes(8, "big")
    return bytes(content)


@pytest.mark.parametrize("total", [0, 1, 4096, len(WAVEFORM) // 2, len(WAVEFORM) - 1])
def test_a_flac_of_more_samples_than_it_states_is_read_whole(total):
    got, problems = told(flac_stating(total))
    np.testing.assert_array_equal(got, WAVEFORM)
    assert problems == []
    segment = read_segment(io.BytesIO(flac_stating(total)), 1000, RATE, 1.0).waveform
    np.testing.assert_array_equal(segment, WAVEFORM[-1000:])


@pytest.mark.parametrize("total", [2 * len(WAVEFORM), 2**36 - 1])
def test_a_flac_of_fewer_is_said_to_be_shorter(total):
    got, problems = told(flac_stating(total))
    np.testing.assert_array_equal(got, WAVEFORM)
    assert ["shorter than its header states" in problem for problem in problems] == [True]
    assert len(read_segment(io.BytesIO(flac_stating(total)), 1000, RATE, 0.5).waveform) == 1000


def xing(frames: int | None = None, n_bytes: int | None = None) -> bytes:
    """An mp3 whose first frame states other numbers of frames or bytes."""
    content = bytearray(mp3(WAVEFORM))
    place = max(content.find(b"Xing"), content.find(b"Info"))
    for offset, number in ((8, frames), (12, n_bytes)):
        if number is not None:
            struct.pack_into(">I", content, place + offset, number)
    return bytes(content)


@pytest.mark.parametrize("numbers", [{"frames": 1}, {"frames": 20}, {"frames": 0}, {"n_bytes": 5000}, {"n_bytes": 0}])
def test_an_mp3_of_more_frames_or_bytes_than_it_states_is_read_whole(capfd, numbers):
    content = xing(**numbers)
    got, problems = told(content)
    assert len(WAVEFORM) <= len(got) <= len(WAVEFORM) + 3400  # what the encoder adds, where nothing says how much
    assert problems == []
    assert len(read_segment(io.BytesIO(content), RATE // 2, RATE, 1.0).waveform) == RATE // 2
    assert capfd.readouterr().err == ""  # the decoder does not complain by itself


@pytest.mark.parametrize("has_xing", [True, False])
def test_an_mp3_that_ends_within_a_frame_says_so(has_xing):
    got, problems = told(mp3(WAVEFORM, xing=has_xing)[:-3])
    assert len(got) > len(WAVEFORM) - 1200
    assert problems == ["cut inside an mp3 frame"]


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("samples", [0, 1, -1], ids=["0", "1", "unknown"])
def test_of_an_ogg_whose_last_page_states_no_end_nearly_all_is_read(subtype, samples):
    """libsndfile would read less or nothing of it, or search for a segment without end."""
    content = bytearray(audio(np.concatenate([WAVEFORM] * 3), RATE, format="OGG", subtype=subtype))
    page = content.rindex(b"OggS")
    struct.pack_into("<q", content, page + 6, samples)
    content[page + 22 : page + 26] = bytes(4)
    struct.pack_into("<I", content, page + 22, ogg_checksum(content[page:]))
    problems: list[str] = []
    with opened(io.BytesIO(content), problems=problems) as (rate, blocks):
        assert 2.7 < sum(map(len, blocks)) / rate < 3.1
    assert set(problems) <= {"damaged Ogg pages"}
    assert len(read_segment(io.BytesIO(content), 1000, RATE, 0.5).waveform) == 1000


def ogg_checksum(page: bytes) -> int:
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = crc << 1 & 0xFFFFFFFF ^ (0x04C11DB7 if crc >> 31 else 0)
    return crc
