"""A voice is a small file, read with suspicion, of one codec."""

import json
import zlib

import numpy as np
import pytest
import soundfile
import torch

from esdcodec.infer.tts.voice import CRC, HEAD, MAX_BYTES
from esdcodec.tts import Voice, VoiceError
from tests.conftest import make_tiny_codec, write_speech


def test_what_was_saved_is_loaded(voice, tmp_path):
    voice.save(tmp_path / "me.voice")
    loaded = Voice.load(tmp_path / "me.voice")
    assert loaded.codes.equal(voice.codes)
    assert vars(loaded) | {"codes": None} == vars(voice) | {"codes": None}
    assert (loaded.consent, loaded.origin) == ("agreed", "made by rule")


def test_it_is_as_small_as_its_codes(voice):
    bits = sum((size - 1).bit_length() for size in voice.codebook_sizes) * voice.codes.shape[1]
    assert len(voice.to_bytes()) < bits / 8 + 400


def test_whether_the_speaker_agreed_is_not_known_where_nobody_says_it(codec, talk):
    voice = Voice.from_audio(talk, "What she says.", codec=codec)
    assert (voice.consent, voice.name) == ("unknown", "talk")
    with pytest.raises(ValueError, match="must be one of agreed, unknown"):
        Voice.from_audio(talk, "What she says.", codec=codec, consent="maybe")


def test_how_loud_the_recording_is_changes_nothing(codec, talk, tmp_path):
    samples, rate = soundfile.read(talk)
    soundfile.write(tmp_path / "quiet.wav", 0.1 * samples, rate, subtype="FLOAT")
    soundfile.write(tmp_path / "loud.wav", samples, rate, subtype="FLOAT")
    quiet, loud = (Voice.from_audio(tmp_path / f"{name}.wav", "Words.", codec=codec) for name in ("quiet", "loud"))
    assert (quiet.codes == loud.codes).float().mean() > 0.97  # the gain is in hundredths of a dB


@pytest.mark.parametrize(
    ("samples", "problem"),
    [
        (np.zeros(48000), "is silent"),
        (np.full(12000, 0.1), "has 0.50 s: give 1 to 30 s of one speaker"),
        (np.full(24000 * 31, 0.1), "has more than 30.00 s"),
        (np.full(48000, np.nan), "NaN"),
    ],
)
def test_recordings_that_make_no_voice_are_refused(samples, problem, codec, tmp_path):
    soundfile.write(tmp_path / "x.wav", samples.astype(np.float32), 24000, subtype="FLOAT")
    with pytest.raises(VoiceError, match=problem):
        Voice.from_audio(tmp_path / "x.wav", "Words.", codec=codec)


def test_a_voice_says_something(codec, talk):
    with pytest.raises(ValueError, match="holds nothing to say"):
        Voice.from_audio(talk, " … ", codec=codec)


def test_the_voice_of_another_codec_is_refused(voice):
    with pytest.raises(VoiceError, match=r"is of the codec 'tiny' .* this model speaks with .* make it anew"):
        voice.check_codec(make_tiny_codec(seed=1))


class TestHostileFiles:
    def file(self, voice, **changes) -> bytes:
        """A file with a good checksum and another header."""
        data = voice.to_bytes()
        n = HEAD.unpack(data[: HEAD.size])[2]
        about = json.loads(data[HEAD.size : HEAD.size + n]) | changes
        header = json.dumps({key: value for key, value in about.items() if value is not None}).encode()
        return self.checked(HEAD.pack(b"ESDVOICE", 1, len(header)) + header + data[HEAD.size + n : -CRC.size])

    def checked(self, body: bytes) -> bytes:
        return body + CRC.pack(zlib.crc32(body))

    @pytest.mark.parametrize(
        "changes",
        [
            {"frames": 4096}, {"frames": 0}, {"frames": -1}, {"frames": 1e9}, {"frames": True}, {"frames": "9"},
            {"codebook_sizes": []}, {"codebook_sizes": [0]}, {"codebook_sizes": [2**60] * 6}, {"codebook_sizes": 9},
            {"codebook_sizes": [256] * 1000}, {"text": ""}, {"text": 3}, {"text": "a" * 5000}, {"name": None},
            {"consent": "yes"}, {"fingerprint": []},
        ],
        ids=str,
    )  # fmt: skip
    def test_a_header_that_lies_is_refused(self, voice, changes):
        with pytest.raises(VoiceError, match=r"me\.voice: its header is wrong .* make the voice anew"):
            Voice.from_bytes(self.file(voice, **changes), "me.voice")

    def test_codes_that_no_codebook_has_are_refused(self, voice):
        sizes = [size - 1 if size > 2 else size for size in voice.codebook_sizes]
        voice = Voice(**vars(voice) | {"codes": torch.tensor(voice.codebook_sizes)[:, None] - 1})
        with pytest.raises(VoiceError, match="are not of codebooks"):
            Voice.from_bytes(self.file(voice, codebook_sizes=sizes))

    @pytest.mark.parametrize("header", [b"[" * 60000, b"\xff\xfe", b"[]", b"null", b"{}"], ids=len)
    def test_a_header_that_is_none_is_refused(self, header):
        with pytest.raises(VoiceError, match="its header is wrong"):
            Voice.from_bytes(self.checked(HEAD.pack(b"ESDVOICE", 1, len(header)) + header))

    def test_what_was_cut_or_changed_anywhere_is_refused(self, voice):
        data = voice.to_bytes()
        for n in range(len(data)):
            with pytest.raises(VoiceError):
                Voice.from_bytes(data[:n])
        for n in range(0, len(data), 7):
            with pytest.raises(VoiceError):
                Voice.from_bytes(data[:n] + bytes([data[n] ^ 1]) + data[n + 1 :])

    def test_another_file_and_a_newer_version_are_named(self, voice, tmp_path):
        with pytest.raises(VoiceError, match=r"x\.wav is no voice: make one from a recording by `esdcodec voice`"):
            Voice.load(write_speech(tmp_path / "x.wav"))
        with pytest.raises(VoiceError, match="of version 2, and 1 is known: upgrade"):
            Voice.from_bytes(self.checked(HEAD.pack(b"ESDVOICE", 2, 0)))
        with pytest.raises(VoiceError, match="is no voice"):
            Voice.from_bytes(voice.to_bytes() + bytes(MAX_BYTES))
