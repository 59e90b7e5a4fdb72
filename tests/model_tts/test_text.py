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
        ({"kind": "phonemes", "language": "en-us", "backend": "ear"}, "backend='ear' are not known: .* gruut, espeak"),
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
        ("backend", "language", "text"),
        [
            ("gruut", "en-us", "Hello, world! It's “25” — really?"),
            ("espeak", "en-us", "Hello, world! It's “25” — really?"),
            ("espeak", "de", "Schöne Grüße."),
            ("espeak", "ja", "こんにちは"),
            ("espeak", "vi", "các bạn"),
        ],
    )
    def test_a_text_is_said_where_its_phonemiser_is_installed(self, backend, language, text):
        for package in {"gruut": ["gruut"], "espeak": ["phonemizer", "espeakng_loader"]}[backend]:
            pytest.importorskip(package)
        front_end = make_text({"kind": "phonemes", "language": language, "backend": backend})
        front_end = make_text(pickle.loads(pickle.dumps(front_end)).config)
        assert len(front_end.ids(text)) >= 5
        assert front_end.ids(text) == front_end.ids_of_phonemes(front_end.phonemes(text))

    def test_a_language_that_the_backend_does_not_know_is_refused(self):
        with pytest.raises(ValueError, match=r"gruut has no phonemes of language='xx': ar, .*en-us"):
            PhonemeText("xx").ids("word")
        with pytest.raises(ImportError, match="pip install gruut-lang-sv"):
            PhonemeText("sv-se").ids("ord")
        pytest.importorskip("phonemizer")
        with pytest.raises(ValueError, match="no phonemes of language='xx'"):
            PhonemeText("xx", "espeak").ids("word")


@pytest.fixture(scope="module")
def english():
    return PhonemeText("en-us")


class TestGruut:
    @pytest.mark.parametrize(
        ("text", "as_read"),
        [
            ("Dr. Ng owes $3.50.", "Doctor Ng owes three dollars fifty cents."),
            ("It took 25%, didn't it?", "It took twenty five percent, didn't it?"),
            ("On 12 March 1998", "On twelve March nineteen ninety eight"),
            ("1914–1918", "nineteen fourteen to nineteen eighteen"),
            ("She — who? – left--now - and…", "She, who?, left, now, and..."),
            ("a naïve café", "a naive cafe"),
            ("he/she has x2", "he she has x two"),
        ],
    )
    def test_what_is_written_short_is_read_in_full(self, english, text, as_read):
        assert english.phonemes(text) == english.phonemes(as_read)

    def test_a_word_that_no_lexicon_has_is_said(self, english):
        assert english.phonemes("Blorvick!") == "blˈɔɹvɪk!"

    @pytest.mark.parametrize("text", ["Take ½ of it.", "日本語 text"])
    def test_what_cannot_be_said_is_named(self, english, text):
        with pytest.raises(ValueError, match="is no word that can be said: take it out, or write it in words"):
            english.ids(text)

    def test_a_text_of_punctuation_has_nothing_to_say(self, english):
        with pytest.raises(ValueError, match="holds nothing to say"):
            english.ids("... !")
