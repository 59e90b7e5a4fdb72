"""Text front ends: numbers of text, and the same numbers from the tokenizer that is exported."""

import pickle

import pytest

pytest.importorskip("transformers")

from esdcodec.model_tts.text import ByteText, PhonemeText, TokenizerText, make_text
from tests.model_tts.conftest import LINES

NORMALISED = [" ".join(line.split()) for line in LINES]


def front_ends(bpe):
    return {"bytes": ByteText(), "tokenizer": TokenizerText(bpe)}


@pytest.mark.parametrize("kind", ["bytes", "tokenizer"])
def test_text_comes_back_from_its_numbers(bpe, kind):
    front_end = front_ends(bpe)[kind]
    for line, normalised in zip(LINES, NORMALISED):
        ids = front_end.ids(line)
        assert max(ids) < front_end.n_tokens
        assert front_end.tokenizer().decode(ids) == normalised


@pytest.mark.parametrize("kind", ["bytes", "tokenizer"])
def test_the_exported_tokenizer_has_the_same_numbers(bpe, kind):
    front_end = front_ends(bpe)[kind]
    for line in NORMALISED[:2]:
        assert front_end.tokenizer()(line, add_special_tokens=False).input_ids == front_end.ids(line)


@pytest.mark.parametrize("kind", ["bytes", "tokenizer"])
def test_a_front_end_is_made_again_from_its_configuration_and_in_another_process(bpe, kind):
    front_end = front_ends(bpe)[kind]
    for other in (make_text(front_end.config), pickle.loads(pickle.dumps(front_end))):
        assert (other.ids(LINES[1]), other.n_tokens) == (front_end.ids(LINES[1]), front_end.n_tokens)


def test_names_of_special_tokens_in_a_text_are_text(bpe):
    front_end = TokenizerText(bpe)
    assert front_end.tokenizer().eos_token_id not in front_end.ids("a <|end|> in words")


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_an_empty_text_is_refused(text):
    with pytest.raises(ValueError, match="holds nothing to say: give at least a word"):
        ByteText().ids(text)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"kind": "letters"}, "kind='letters' is not known: take one of bytes, tokenizer, phonemes"),
        ({}, "kind=None is not known"),
        ({"kind": "bytes", "language": "en"}, "text front end bytes: "),
        ({"kind": "phonemes"}, "text front end phonemes: .*language"),
    ],
)
def test_a_front_end_that_there_is_not_is_refused(config, words):
    with pytest.raises(ValueError, match=words):
        make_text(config)


class TestPhonemes:
    def test_letters_with_marks_are_letters_and_marks(self):
        front_end = PhonemeText("ja")
        assert front_end.ids_of_phonemes("ä") == front_end.ids_of_phonemes("a\u0308")
        assert front_end.tokenizer()("kˈɑ̃ ʃä!").input_ids == front_end.ids_of_phonemes("kˈɑ̃ ʃä!")

    def test_what_is_no_phoneme_is_named(self):
        with pytest.raises(ValueError, match=r"holds \['北'\], no phonemes"):
            PhonemeText("en-us").ids_of_phonemes("a北")

    @pytest.mark.parametrize(
        ("language", "text"),
        [
            ("en-us", "Hello, world! It's “25” — really?"),
            ("de", "Schöne Grüße."),
            ("ja", "こんにちは"),
            ("vi", "các bạn"),
        ],
    )
    def test_a_text_is_said_where_a_phonemiser_is_installed(self, language, text):
        pytest.importorskip("phonemizer")
        pytest.importorskip("espeakng_loader")
        front_end = pickle.loads(pickle.dumps(make_text({"kind": "phonemes", "language": language})))
        assert len(front_end.ids(text)) >= 5
        assert front_end.ids(text) == front_end.ids_of_phonemes(front_end.phonemes(text))

    def test_a_language_that_espeak_does_not_know_is_refused(self):
        pytest.importorskip("phonemizer")
        with pytest.raises(ValueError, match="no phonemes of language='xx'"):
            PhonemeText("xx").ids("word")
