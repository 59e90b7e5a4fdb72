"""Text that has the positions of the codes which are expected to say it."""

import pytest
import torch

pytest.importorskip("transformers")

from esdcodec.model_tts.decoding import DecodingSettings
from esdcodec.model_tts.sequence import Pace, SpeechVocabulary, SpokenText
from esdcodec.model_tts.text import ByteText
from esdcodec.model_tts.text_to_codes import SpeechTokens, TextToCodes
from tests.model_tts.tiny import CODEBOOK, TEXTS, corpus, fitted

PLAIN = SpeechVocabulary(10, 50)
SHARED = SpeechVocabulary(10, 50, Pace(codes=4.0, codes_per_token=2.0))
SAID = SpokenText([1, 2, 3], torch.arange(10))  # 10 codes are expected of it


def test_text_stands_where_its_codes_are_expected():
    sequence = SHARED.example(SAID)
    text, codes, end = sequence.positions[:4], sequence.positions[4:15], sequence.positions[15]
    assert text.tolist() == [0, 3, 5, 7]  # after half of the silence, two codes for each token
    assert codes.tolist() == list(range(11))
    assert end == 11


def test_the_second_utterance_begins_after_the_first_and_has_its_speed():
    slow = SpokenText([4, 5], torch.arange(16))  # 8 codes are expected
    sequence = SHARED.example(SAID, slow)
    own = sequence.positions[len(SHARED.given([4, 5])) + 16 :]
    assert own[:4].tolist() == [17, 17 + 1 + 4, 17 + 1 + 8, 17 + 1 + 12]
    assert own[4:].tolist() == list(range(17, 29))


def test_positions_of_what_is_given_are_those_of_the_whole():
    whole = SHARED.example(SAID, SAID)
    given = SHARED.given(SAID.text, SAID)
    assert SHARED.positions(given).equal(whole.positions[: whole.n_given])


def test_without_a_pace_positions_count_tokens():
    assert PLAIN.example(SAID, SAID).positions.equal(torch.arange(len(PLAIN.example(SAID, SAID))))


class TestModel:
    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls):
        tokens = SpeechTokens(
            codec="tiny", fingerprint="00" * 32, frame_rate=25.0, codebook_size=CODEBOOK, n_text=ByteText.n_tokens,
            text=ByteText().config, codes_per_text=10.0, codes_per_text_token=1.0, shared_positions=True,
        )  # fmt: skip
        items = corpus()
        sequences = [tokens.vocabulary.example(each, items[i - 1] if i % 2 else None) for i, each in enumerate(items)]
        return TextToCodes(fitted(sequences)[0], tokens)

    def test_it_repeats_what_it_was_taught_with_and_without_a_cache_alone_and_in_a_batch(self, trained):
        items, greedy = corpus(), DecodingSettings(temperature=0, ramp=0)
        voices = [items[i - 1] if i % 2 else None for i in range(len(items))]
        together = trained(TEXTS, voices, greedy)
        for text, voice, said, result in zip(TEXTS, voices, items, together):
            assert result.codes.tolist() == said.codes.tolist()
            assert trained([text], voice, greedy, use_cache=False)[0].codes.equal(result.codes)

    def test_an_export_has_them(self, trained, tmp_path):
        trained.save(tmp_path)
        assert TextToCodes.load(tmp_path, bytes(32)).vocabulary.pace == (10.0, 1.0)
