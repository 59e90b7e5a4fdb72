"""Speech from text: whole, in batches, in pieces, always the same."""

import numpy as np
import pytest
import soundfile
import torch

from esdcodec.infer.tts import silence
from esdcodec.infer.tts.speech import TAG
from esdcodec.tts import Voice
from tests.conftest import make_tiny_codec

TEXT = "Here is a first sentence. The second one is somewhat longer than that.\n\nA paragraph follows it."
TEXTS = ["A first text that is said.", TEXT, "Some other words."]


@pytest.fixture(scope="module")
def whole(tts):
    """TEXT, said as one."""
    return tts(TEXT, temperature=0.9, seed=2)


def test_speech_is_audio_and_why_each_sentence_ended(whole):
    assert whole.audio.dtype == torch.float32
    assert whole.audio.dim() == 1
    assert whole.sample_rate == 24000
    assert whole.seconds == len(whole) / 24000 > 0.5
    assert whole.stops == ("end",) * 3
    assert whole.stop == "end"
    assert np.asarray(whole).shape == whole.audio.shape


def test_a_stream_gives_the_same_samples(tts, whole):
    stream = tts.stream(TEXT, temperature=0.9, seed=2, look_ahead_ms=None)
    pieces = list(stream)
    torch.testing.assert_close(torch.cat(pieces), whole.audio, atol=1e-5, rtol=1e-4)
    assert tuple(stream.stops) == whole.stops
    assert len(pieces) > 6


def test_with_less_look_ahead_it_comes_earlier_and_is_as_long(tts, whole):
    def codes_before_the_first_audio(look_ahead_ms: float | None) -> int:
        stream = tts.text_to_codes.stream
        count = 0

        def counted(*args):
            nonlocal count
            generated = stream(*args)

            class Counted:
                stop = "end"

                def __iter__(self):
                    nonlocal count
                    for code in generated:
                        count += 1
                        yield code

            return Counted()

        tts.text_to_codes.stream = counted
        try:
            next(tts.stream(TEXT, temperature=0.9, seed=2, look_ahead_ms=look_ahead_ms))
        finally:
            del tts.text_to_codes.stream
        return count

    chunk = tts.acoustic.chunk_frames
    early = codes_before_the_first_audio(0)
    assert early < codes_before_the_first_audio(None)
    assert early <= 3 * chunk  # a chunk, and what the measure of silence waits for
    pieces = torch.cat(list(tts.stream(TEXT, temperature=0.9, seed=2, look_ahead_ms=0)))
    assert abs(len(pieces) - len(whole.audio)) < 0.05 * len(whole.audio)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_a_batch_gives_what_each_text_gives_alone(tts, batch_size):
    together = tts.batch(TEXTS, ["he", "she", "he"], temperature=0, batch_size=batch_size)
    for text, voice, speech in zip(TEXTS, ["he", "she", "he"], together):
        alone = tts(text, voice, temperature=0)
        assert speech.stops == alone.stops
        torch.testing.assert_close(speech.audio, alone.audio, atol=1e-5, rtol=1e-4)


def test_voice_and_seed_decide_what_is_heard(tts):
    said = {
        key: tts("A few words.", voice, seed=seed) for key, voice, seed in [(0, "he", 1), (1, "she", 1), (2, "he", 2)]
    }
    assert tts("A few words.", "he", seed=1).audio.equal(said[0].audio)
    assert not any(said[0].audio.shape == said[i].audio.shape and said[0].audio.equal(said[i].audio) for i in (1, 2))


def test_between_sentences_are_the_pauses_that_were_chosen(tts, monkeypatch):
    monkeypatch.setattr(silence, "THRESHOLD", -200.0)  # nothing is silent in what an untrained model says
    sentences = ["Here is a first sentence.", "The second one is somewhat longer than that.", "A paragraph follows it."]
    alone = [len(tts(sentence)) for sentence in sentences]
    together = tts(TEXT, pause=0.25, paragraph_pause=0.75).audio
    assert len(together) == sum(alone) + 24000
    assert together[alone[0] : alone[0] + 6000].abs().max() == 0
    assert together[alone[0] + 6000 + alone[1] :][:18000].abs().max() == 0


def test_a_long_text_is_decoded_sentence_by_sentence(tts, monkeypatch):
    """However long it is: what waits for the next piece is at most a sentence."""
    text = " ".join(f"This is sentence number {n} of a long text." for n in range(30))
    frames = []
    decoder = tts.codec.stream_decoder
    monkeypatch.setattr(tts.codec, "stream_decoder", lambda **kw: frames.append(0) or Watched(decoder(**kw), frames))
    pieces = iter(tts.stream(text))
    for _ in range(40):
        next(pieces)
    assert len(frames) < 15  # decoders, of which each has a sentence: the rest has not begun
    assert max(frames) < 500


class Watched:
    """A decoder whose frames are counted."""

    def __init__(self, decoder, frames):
        self.decoder, self.frames = decoder, frames

    def push(self, codes):
        self.frames[-1] += codes.shape[-1]
        return self.decoder.push(codes)

    def finish(self):
        return self.decoder.finish()


@pytest.mark.parametrize("format", ["wav", "flac", "mp3", "ogg", "opus"])
def test_a_file_says_that_it_was_generated(whole, format, tmp_path):
    whole.save(tmp_path / f"x.{format}")
    whole.save(tmp_path / f"untagged.{format}", tag=False)
    for name, comment in (("x", TAG), ("untagged", "")):
        with soundfile.SoundFile(tmp_path / f"{name}.{format}") as file:
            assert file.comment == comment
            assert (file.samplerate, file.channels) == (24000, 1)
            assert abs(len(file) - len(whole)) <= 2000


def test_a_voice_may_be_a_name_a_file_or_itself(tts, tts_folder):
    expected = tts("A few words.").audio
    for choice in ("she", tts.voice("she"), tts_folder / "voices/she.voice", str(tts_folder / "voices/she.voice")):
        assert tts("A few words.", choice).audio.equal(expected)


class TestErrors:
    def test_an_unknown_voice(self, tts):
        with pytest.raises(ValueError, match="no voice 'it': this model has he, she; or give the file of one"):
            tts("Words.", "it")

    def test_the_voice_of_another_codec(self, tts, talk):
        with pytest.raises(ValueError, match="make it anew"):
            tts("Words.", Voice.from_audio(talk, "Words.", codec=make_tiny_codec(seed=1)))

    def test_a_text_of_several_is_named(self, tts):
        with pytest.raises(ValueError, match=r"text 2 of 2: the text '' holds nothing to say"):
            tts.batch(["Words.", ""])

    def test_what_the_front_end_does_not_know_is_found_before_anything_is_said(self, tts, monkeypatch):
        def ids(text: str) -> list[int]:
            if "☃" in text:
                raise ValueError("☃ is no letter")
            return list(text.encode())

        monkeypatch.setattr(tts.text_to_codes.front_end, "ids", ids)
        monkeypatch.setattr(tts.text_to_codes.language_model, "forward", None)
        with pytest.raises(ValueError, match="☃ is no letter"):
            tts("A long enough first sentence. And one with ☃ in the middle of it.")

    @pytest.mark.parametrize("call", ["__call__", "stream"])
    @pytest.mark.parametrize(
        ("changes", "advice"),
        [
            ({"warmth": 3}, "no setting is called warmth; there are .*temperature"),
            ({"temperature": -1}, "temperature=-1 must be at least 0"),
            ({"pause": -1}, "pause=-1 must be 0 to 10 seconds"),
        ],
    )
    def test_wrong_settings(self, tts, call, changes, advice):
        with pytest.raises(ValueError, match=advice):
            getattr(tts, call)("Words.", **changes)

    def test_more_codebooks_than_there_are(self, tts):
        with pytest.raises(ValueError, match="n_quantizers=99 but this model has 1 to 6"):
            tts("Words.", n_quantizers=99)

    def test_one_text_where_a_list_should_be_and_voices_that_do_not_match(self, tts):
        with pytest.raises(ValueError, match="give a list of them"):
            tts.batch("Words.")
        with pytest.raises(ValueError, match="1 voices for 2 texts"):
            tts.batch(["One.", "Two."], ["he"])

    def test_a_wrong_look_ahead(self, tts):
        with pytest.raises(ValueError, match="look_ahead_ms=-1 must be 0 or more"):
            tts.stream("Words.", look_ahead_ms=-1)
