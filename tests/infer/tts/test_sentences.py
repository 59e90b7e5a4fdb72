"""Text becomes sentences that a model can say, and nothing of it is lost."""

import pytest

pytest.importorskip("sentencex")

from esdcodec.infer.tts.sentences import LONGEST, MAX_CHARACTERS, clean_text, sentences


def split(text: str) -> list[str]:
    return [sentence.text for sentence in sentences(text)]


def test_sentences_end_where_a_reader_pauses():
    text = "Dr. Smith arrived at 3.15 p.m. on Friday. “Where were you?” he asked quietly.\n\nIt cost $3.50 in the end."
    found = list(sentences(text))
    assert [sentence.text for sentence in found] == [
        "Dr. Smith arrived at 3.15 p.m. on Friday.",
        "“Where were you?” he asked quietly.",
        "It cost $3.50 in the end.",
    ]
    assert [sentence.ends_paragraph for sentence in found] == [False, True, True]


def test_a_word_alone_is_said_with_its_neighbour():
    assert split("No. I have never been there before. Yes.") == ["No. I have never been there before. Yes."]


@pytest.mark.parametrize(
    "text",
    [
        "word " * 400,
        "one, two, " * 200,
        "x" * 2000,
        "She said, " + "and then, " * 60 + "that was it. " * 40,
        "a.b" * 999,
    ],
    ids=["no comma", "commas", "no space", "mixed", "dots"],
)
def test_no_sentence_is_too_long_and_no_letter_is_lost(text):
    found = split(text)
    assert all(0 < len(sentence) <= LONGEST for sentence in found)
    assert "".join("".join(found).split()) == "".join(text.split())


def test_long_sentences_are_cut_at_commas():
    assert all(sentence.endswith((",", ".")) for sentence in split("Some words that go on, " * 40 + "and end."))


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "holds nothing to say: give at least a word"),
        (" \n\t ", "holds nothing to say"),
        ("... !?", "holds nothing to say"),
        ("a" * (MAX_CHARACTERS + 1), "100,001 characters, and 100,000 are the most: give it in parts"),
        ("caf\udce9", "is not UTF-8 at character 3: convert it"),
        (b"bytes", "is bytes: give a str"),
        (None, "is NoneType: give a str"),
    ],
)
def test_what_is_no_text_is_refused(text, advice):
    with pytest.raises(ValueError, match=advice):
        clean_text(text)


def test_control_characters_are_not_said():
    assert clean_text("\x1b[31mred\x00 words\x07\n") == "[31mred  words"


def test_a_language_that_is_not_known_is_split_all_the_same():
    assert len(list(sentences("One sentence stands here. And another one here.", "qq"))) == 2
