"""Files as people have them: what is read is what decodes, and what is missing is told."""

import io
import struct
import tempfile

import numpy as np
import pytest

from esdcodec.audio import EXTENSIONS, AudioFileError, opened, probe, read, read_segment
from esdcodec.audio.decoders import FFmpegDecoder, SoundfileDecoder
from tests.audio_bytes import SOUNDFILE_FORMATS, encoded, mp3
from tests.conftest import speech
from tests.corpora import audio

RATE = 24000


@pytest.fixture(scope="module")
def waveform():
    """Four seconds, loud, quiet and loud again, so that variable rates vary."""
    waveform = np.concatenate([speech(1.0, seed=i)[0, 0].numpy() for i in range(4)])
    waveform[RATE : 5 * RATE // 2] *= 1e-3
    return waveform


def told(content: bytes) -> tuple[np.ndarray, list[str]]:
    """All samples of a file, and what is said about it."""
    problems: list[str] = []
    with opened(io.BytesIO(content), problems=problems) as (_, blocks):
        return np.concatenate(list(blocks)), problems


def ogg(waveform, subtype="VORBIS"):
    return audio(waveform, RATE, format="OGG", subtype=subtype)


# ---- lengths that a header doesn't know, or has wrong ----------------------------------------------------------------

UNSURE = {
    "variable-rate mp3 without Xing header": lambda w: mp3(w, xing=False),
    "constant-rate mp3 without Xing header": lambda w: encoded(
        w, RATE, "mp3", "libmp3lame", options={"write_xing": "0"}, b="32000"
    ),
    "mp2": lambda w: encoded(w, RATE, "mp2", "mp2", b="64000"),
    "FLAC from a pipe": lambda w: encoded(w, RATE, "flac", "flac", pipe=True),
    "wav from a pipe": lambda w: encoded(w, RATE, "wav", "pcm_s16le", pipe=True),
    "wav of which the recorder was killed": lambda w: _data_size(audio(w, RATE, format="WAV"), 0),
    "wav with the largest size": lambda w: _data_size(audio(w, RATE, format="WAV"), 0x7FFFFFFF),
    "caf from a pipe": lambda w: encoded(w, RATE, "caf", "pcm_s16be", pipe=True),
    "w64 from a pipe": lambda w: encoded(w, RATE, "w64", "pcm_s16le", pipe=True),
    "au from a pipe": lambda w: encoded(w, RATE, "au", "pcm_s16be", pipe=True),
    "aiff from a pipe": lambda w: encoded(w, RATE, "aiff", "pcm_s16be", pipe=True),
    "wavpack from a pipe": lambda w: encoded(w, RATE, "wv", "wavpack", pipe=True),
    "matroska from a pipe": lambda w: encoded(w, RATE, "matroska", "flac", pipe=True),
    "joined mp3": lambda w: mp3(w[: 2 * RATE]) + mp3(w[2 * RATE :]),
    "joined mp3 with tags": lambda w: _tagged(mp3(w[: 2 * RATE])) + _tagged(mp3(w[2 * RATE :])),
    "joined mp3 without Xing headers": lambda w: mp3(w[: 2 * RATE], xing=False) + mp3(w[2 * RATE :], xing=False),
    "chained Vorbis": lambda w: ogg(w[: 2 * RATE]) + ogg(w[2 * RATE :]),
    "chained Opus": lambda w: ogg(w[: 2 * RATE], "OPUS") + ogg(w[2 * RATE :], "OPUS"),
    "the same Ogg twice": lambda w: 2 * ogg(w[: 2 * RATE]),
    "joined FLAC": lambda w: audio(w[: 2 * RATE], format="FLAC") + audio(w[2 * RATE :], format="FLAC"),
    "joined wav": lambda w: audio(w[: 2 * RATE], format="WAV") + audio(w[2 * RATE :], format="WAV"),
}


def _data_size(wav: bytes, size: int) -> bytes:
    place = wav.index(b"data") + 4
    return wav[:place] + struct.pack("<I", size) + wav[place + 4 :]


def _tagged(mp3: bytes) -> bytes:
    return b"ID3\x04\x00\x00\x00\x00\x00\x0a" + 10 * b"\xff" + mp3 + b"TAG" + bytes(125)


def test_what_follows_the_stated_end_of_a_wav_is_told(waveform):
    whole = audio(waveform, RATE, format="WAV")
    got, problems = told(_data_size(whole, RATE * 2))
    assert len(got) == RATE
    assert problems == [f"{2 * (len(waveform) - RATE)} bytes after the end that its header states are left out"]
    for tail in (bytes(9000), b"LIST" + struct.pack("<I", 9000) + bytes(range(1, 251)) * 36, b"TAG" + 125 * b"\xff"):
        assert told(whole + tail)[1] == []


def test_a_file_without_a_name_is_not_called_by_its_descriptor():
    with tempfile.TemporaryFile() as file, pytest.raises(AudioFileError, match=r"^audio: "):
        read(file)


@pytest.mark.parametrize("kind", UNSURE)
def test_all_samples_are_read_without_complaint(waveform, kind):
    got, problems = told(UNSURE[kind](waveform))
    padding = 2 * 1700  # samples that the encoder of an mp3 adds, where no header says how many
    assert len(waveform) <= len(got) <= len(waveform) + padding
    assert problems == []


@pytest.mark.parametrize("rate", [RATE, 16000])
@pytest.mark.parametrize("kind", UNSURE)
def test_a_segment_lies_inside_at_every_place(waveform, kind, rate):
    content = UNSURE[kind](waveform)
    whole, _ = read(io.BytesIO(content), rate)
    for place in (0.0, 0.2, 0.5, 0.9, 1.0):
        segment = read_segment(io.BytesIO(content), rate, rate, place).waveform
        start = round(place * (len(whole) - rate))
        assert len(segment) == rate
        found = min(
            np.abs(segment[2:-2] - whole[s + 2 :][: rate - 4]).max() for s in (start - 1, start, start + 1) if s >= 0
        )
        assert found < 5e-3


@pytest.mark.parametrize("kind", ["joined FLAC", "joined wav"])
def test_joined_files_are_one_behind_the_other(waveform, kind):
    np.testing.assert_allclose(told(UNSURE[kind](waveform))[0], waveform, atol=1e-4)


def test_parts_of_another_rate_are_resampled(waveform):
    halved = speech(1.0, sample_rate=16000)[0, 0].numpy()
    content = audio(waveform, RATE, format="FLAC") + audio(halved, 16000, format="FLAC")
    assert len(told(content)[0]) == len(waveform) + RATE


def test_a_wav_in_which_nothing_follows_the_header_is_empty():
    empty = audio(np.zeros(0), RATE, format="WAV")
    for content in (empty, empty + b"LIST\x04\x00\x00\x00INFO"):
        with pytest.raises(AudioFileError, match="no samples"):
            told(content)


# ---- what is missing or damaged is told, and the rest is read --------------------------------------------------------

WHOLE = {
    **SOUNDFILE_FORMATS,
    "m4a": lambda w: encoded(w, RATE, "ipod", "aac", options={"movflags": "frag_keyframe+empty_moov"}),
    "webm": lambda w: encoded(w, RATE, "webm", "libopus"),
    "wma": lambda w: encoded(w, RATE, "asf", "wmav2", b="48000"),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_whole_file_gives_no_complaint(waveform, kind):
    got, problems = told(WHOLE[kind](waveform))
    assert len(got) / len(waveform) == pytest.approx(2 if kind == "webm" else 1, abs=0.05)  # Opus is decoded at 48 kHz
    assert problems == []


@pytest.mark.parametrize("kind", WHOLE)
def test_a_file_cut_in_half_is_read_and_said_to_be_shorter(waveform, kind):
    content = WHOLE[kind](waveform)
    got, problems = told(content[: len(content) * 6 // 10])
    assert 0.3 * len(waveform) < len(got) / (2 if kind == "webm" else 1) < 0.9 * len(waveform)
    assert len(problems) in (1, 2)
    assert any(
        word in problems[-1] for word in ("shorter than its header", "damaged", "cut inside", "cannot be decoded")
    )


@pytest.mark.parametrize("kind", ["flac", "ogg"])
def test_damage_in_the_middle_is_told_and_what_follows_stays_in_its_place(waveform, kind):
    content = bytearray(WHOLE[kind](waveform))
    whole = told(bytes(content))[0]
    middle = len(content) // 2
    content[middle : middle + 100] = np.random.default_rng(0).bytes(100)
    got, problems = told(bytes(content))
    assert len(got) == len(whole)
    np.testing.assert_allclose(got[-RATE // 4 :], whole[-RATE // 4 :], atol=1e-3)
    assert ["damaged" in problem for problem in problems] == [True]
    with pytest.warns(UserWarning, match="damaged"):
        read(io.BytesIO(content))


def test_a_part_that_cannot_be_read_is_told(waveform):
    content = audio(waveform, RATE, format="FLAC")
    got, problems = told(content + content[:60])
    assert len(got) == len(waveform)
    assert ["part 2 of 2" in problem for problem in problems] == [True]


# ---- formats ---------------------------------------------------------------------------------------------------------

FORMATS = {
    ".wav": lambda w: audio(w, RATE, format="WAV"), ".wave": lambda w: audio(w, RATE, format="WAV", subtype="PCM_24"),
    ".w64": lambda w: audio(w, RATE, format="W64"), ".rf64": lambda w: audio(w, RATE, format="RF64"),
    ".aif": lambda w: audio(w, RATE, format="AIFF"), ".aiff": lambda w: audio(w, RATE, format="AIFF", subtype="FLOAT"),
    ".aifc": lambda w: audio(w, RATE, format="AIFF", subtype="ULAW"), ".au": lambda w: audio(w, RATE, format="AU"),
    ".snd": lambda w: audio(w, RATE, format="AU", subtype="ULAW"), ".caf": lambda w: audio(w, RATE, format="CAF"),
    ".sph": lambda w: audio(w, RATE, format="NIST"), ".nist": lambda w: audio(w, RATE, format="NIST", subtype="ULAW"),
    ".voc": lambda w: audio(w, RATE, format="VOC"), ".flac": lambda w: audio(w, RATE, format="FLAC"),
    ".ogg": ogg, ".oga": lambda w: encoded(w, RATE, "ogg", "flac"), ".opus": lambda w: ogg(w, "OPUS"),
    ".mp3": mp3, ".mp2": lambda w: encoded(w, RATE, "mp2", "mp2", b="64000"), ".mpga": lambda w: mp3(w, xing=False),
    ".m4a": lambda w: encoded(w, RATE, "ipod", "aac"), ".m4b": lambda w: encoded(w, RATE, "ipod", "alac"),
    ".mp4": lambda w: encoded(w, RATE, "mp4", "aac", channels=2), ".mov": lambda w: encoded(w, RATE, "mov", "aac"),
    ".3gp": lambda w: encoded(w, RATE, "3gp", "aac"), ".aac": lambda w: encoded(w, RATE, "adts", "aac"),
    ".webm": lambda w: encoded(w, RATE, "webm", "libopus"), ".mka": lambda w: encoded(w, RATE, "matroska", "flac"),
    ".mkv": lambda w: encoded(w, RATE, "matroska", "aac", channels=6),
    ".wma": lambda w: encoded(w, RATE, "asf", "wmav2", b="48000"),
    ".amr": lambda w: encoded(w[::3], 8000, "amr", "libopencore_amrnb"),
    ".ac3": lambda w: encoded(w, 48000, "ac3", "ac3", b="96000"), ".wv": lambda w: encoded(w, RATE, "wv", "wavpack"),
    ".tta": lambda w: encoded(w, RATE, "tta", "tta"), ".avi": lambda w: encoded(w, RATE, "avi", "libmp3lame"),
    ".flv": lambda w: encoded(w, 44100, "flv", "libmp3lame"),
}  # fmt: skip


def test_every_extension_is_tried():
    assert set(FORMATS) | {".spx"} == EXTENSIONS  # nothing here writes Speex


@pytest.mark.parametrize("extension", FORMATS)
def test_every_format_is_known_by_its_content(tmp_path, waveform, extension):
    content = FORMATS[extension](waveform)
    seconds = len(waveform) / {".ac3": 48000, ".flv": 44100}.get(extension, RATE)
    for name in (f"a{extension}", "a", "a.mp3", f"A{extension.upper()}"):
        (tmp_path / name).write_bytes(content)
        probe(tmp_path / name)
        got, rate = read(tmp_path / name)
        assert len(got) / rate == pytest.approx(seconds, abs=0.12)
        assert np.corrcoef(_envelope(got[: round(seconds * rate)]), _envelope(waveform))[0, 1] > 0.9
    assert read_segment(io.BytesIO(content), RATE, RATE, 1.0).waveform.shape == (RATE,)


def _envelope(waveform):
    return [np.sqrt((piece**2).mean()) for piece in np.array_split(waveform, 8)]


DECODERS = {"soundfile": SoundfileDecoder, "FFmpeg": FFmpegDecoder}


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_both_decoders_agree_on_the_scale(waveform, subtype, decoder):
    content = audio(waveform, RATE, format="WAV", subtype=subtype)
    got = np.concatenate(list(DECODERS[decoder](io.BytesIO(content)).blocks(RATE)))
    tolerance = {"PCM_U8": 0.01, "ULAW": 0.05, "ALAW": 0.05}.get(subtype, 1e-4)
    np.testing.assert_allclose(got, waveform, atol=tolerance)


@pytest.mark.parametrize("channels", [2, 6])
@pytest.mark.parametrize("decoder", DECODERS)
def test_channels_are_averaged_whoever_decodes(waveform, channels, decoder):
    several = np.stack([waveform * (i + 1) / channels for i in range(channels)], 1)
    content = audio(several, RATE, format="WAV", subtype="FLOAT")
    got = np.concatenate(list(DECODERS[decoder](io.BytesIO(content)).blocks(RATE)))
    np.testing.assert_allclose(got, several.mean(1), atol=1e-6)


# ---- what is no audio ------------------------------------------------------------------------------------------------


def picture_with(sound: np.ndarray | None) -> bytes:
    """A film of one frame in mp4, with or without a sound track."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width = video.height = 32
        track = container.add_stream("aac", rate=RATE, layout="mono") if sound is not None else None
        container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        container.mux(video.encode(None))
        if track is not None:
            frame = av.AudioFrame.from_ndarray((sound * 32767).astype(np.int16)[None], format="s16", layout="mono")
            frame.sample_rate = RATE
            container.mux(track.encode(frame))
            container.mux(track.encode(None))
    return buffer.getvalue()


def test_the_sound_of_a_film_is_read(waveform):
    assert len(told(picture_with(waveform))[0]) == pytest.approx(len(waveform), abs=2048)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"words, and no sound at all\n" * 500, "cannot be read as audio"),
        (b"\x89PNG\r\n\x1a\n" + bytes(5000), "cannot be read as audio"),
        (bytes(100_000), ""),
        (b"#EXTM3U\n#EXTINF:10,\n/etc/hostname\n", "cannot be read as audio"),
        (b"ffconcat version 1.0\nfile /etc/hostname\n", "cannot be read as audio"),
        (b"OggS" + bytes(100), "cannot be read as audio"),
        (b"fLaC" + bytes(100), "cannot be read as audio"),
        (b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(100), "cannot be read as audio"),
    ],
    ids=["empty", "text", "picture", "zeros", "playlist", "list of files", "Ogg magic", "FLAC magic", "a tag alone"],
)
def test_what_is_no_audio_is_refused_by_name(tmp_path, capfd, content, reason):
    for name in ("a.mp3", "a.wav", "a.bin"):
        (tmp_path / name).write_bytes(content)
        for look in (probe, read, lambda file: read_segment(file, 100, RATE, 0.5)):
            with pytest.raises(AudioFileError, match=rf"{name}: .*{reason}"):
                look(tmp_path / name)
    assert capfd.readouterr().err == ""  # the decoders print nothing by themselves


@pytest.mark.parametrize("rate", [1, 4_000_000_000])
def test_a_rate_that_no_recording_has_is_refused(waveform, rate):
    content = bytearray(audio(waveform, RATE, format="WAV"))
    content[24:28] = struct.pack("<I", rate)
    with pytest.raises(AudioFileError, match=r"sample rate|cannot be read"):
        read(io.BytesIO(content), RATE)


def test_a_film_without_sound_is_refused():
    with pytest.raises(AudioFileError, match="has no audio track"):
        probe(io.BytesIO(picture_with(None)))


@pytest.mark.parametrize("kind", WHOLE)
def test_any_cut_or_change_of_a_byte_gives_samples_or_a_named_error(waveform, kind):
    content = WHOLE[kind](waveform[: RATE // 2])
    rng = np.random.default_rng(0)
    for _ in range(25):
        damaged = bytearray(content[: rng.integers(1, len(content) + 1)])
        for place in rng.integers(0, min(len(damaged), 2000), 3):
            damaged[place] = rng.integers(256)
        try:
            got, _ = told(bytes(damaged))
            read_segment(io.BytesIO(damaged), 1000, RATE, 0.7)
        except AudioFileError:
            continue
        assert got.dtype == np.float32
