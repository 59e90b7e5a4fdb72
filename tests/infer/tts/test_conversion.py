"""The same words in another voice: as long and as loud, in bounded memory."""

import numpy as np
import pytest
import soundfile
import torch

from esdcodec.audio import AudioFileError
from esdcodec.infer.tts import conversion
from esdcodec.infer.tts.conversion import semantic_parts
from tests.conftest import speech, write_speech


@pytest.mark.parametrize("rate", [24000, 16000, 44100])
def test_it_is_as_long_as_it_was(tts, rate, tmp_path):
    file = write_speech(tmp_path / "x.wav", 1.23, rate=rate)
    converted = tts.convert(file, "he")
    assert len(converted) == -(-len(soundfile.read(file)[0]) * 24000 // rate)
    assert converted.stop == "end"


def test_samples_give_what_their_file_gives(tts, talk):
    samples = soundfile.read(talk, dtype="float32")[0]
    from_file = tts.convert(talk, "he").audio
    for source in (samples, torch.from_numpy(samples)[None, None], np.round(samples * 32768).astype(np.int16)):
        assert tts.convert(source, "he").audio.equal(from_file)


def test_it_is_as_loud_as_it_was(tts, talk):
    samples = soundfile.read(talk, dtype="float32")[0]
    loud, quiet = tts.convert(0.5 * samples, "he").audio, tts.convert(0.05 * samples, "he").audio
    assert (loud.square().mean() / quiet.square().mean()).item() == pytest.approx(100, rel=0.05)


def test_the_voice_changes_what_is_heard_and_codebooks_are_chosen(tts, talk):
    assert not tts.convert(talk, "he").audio.equal(tts.convert(talk, "she").audio)
    assert not tts.convert(talk, "he", n_quantizers=1).audio.equal(tts.convert(talk, "he").audio)


def test_long_speech_is_cut_where_it_is_quiet(codec, monkeypatch):
    monkeypatch.setattr(conversion, "LONGEST", 1.0)
    said = speech(4.0)[0, 0].numpy()
    for at in (0.8, 1.6, 2.5):
        said[round(24000 * at) :][:2400] *= 1e-3
    blocks = np.split(said, range(1000, len(said), 1000))
    parts = list(semantic_parts(codec, 24000, blocks, 0.0))
    expected = codec.encode(torch.from_numpy(said), n_quantizers=1)[0, 0]
    assert torch.cat(parts).equal(expected)
    ends = [sum(map(len, parts[: i + 1])) / codec.frame_rate for i in range(3)]
    for end, pause in zip(ends, (0.8, 1.6, 2.5)):
        assert pause <= end <= pause + 0.1
    assert max(map(len, parts)) <= codec.frame_rate


def test_long_speech_comes_in_pieces_of_the_same_samples(tts, talk, monkeypatch):
    monkeypatch.setattr(conversion, "LONGEST", 0.4)
    pieces = list(tts.convert_pieces(talk, "he"))
    assert sum(len(piece) > 0 for piece in pieces) > 2
    assert torch.cat(pieces).equal(tts.convert(talk, "he").audio)


def test_what_is_no_recording_is_refused(tts, tmp_path):
    with pytest.raises(AudioFileError, match="no such file"):
        tts.convert(tmp_path / "nothing.wav", "he")
    with pytest.raises(ValueError, match="NaN or infinite"):
        tts.convert(torch.full((24000,), torch.nan), "he")
    with pytest.raises(ValueError, match="has 2 recordings"):
        tts.convert(torch.randn(2, 24000), "he")
