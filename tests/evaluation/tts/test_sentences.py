"""Lists of sentences that are to be said."""

import pytest

from esdcodec.evaluation.tts.sentences import ListedSentence, read_sentences


@pytest.fixture
def read(tmp_path):
    for name in ("one.wav", "prompt.wav"):
        (tmp_path / name).write_bytes(b"")

    def written(text: str) -> list[ListedSentence]:
        (tmp_path / "list.txt").write_text(text, encoding="utf-8")
        return read_sentences(tmp_path / "list.txt")

    return written


def test_lines_are_a_text_its_voice_and_its_recording(read, tmp_path):
    assert read("Hello.\n\nIt's 5 | anna\nYes.|anna|one.wav\nNo.||one.wav\n") == [
        ListedSentence("00001", "Hello."),
        ListedSentence("00003", "It's 5", "anna"),
        ListedSentence("00004", "Yes.", "anna", None, tmp_path / "one.wav"),
        ListedSentence("00005", "No.", None, None, tmp_path / "one.wav"),
    ]


def test_a_voice_that_is_a_file_beside_the_list_is_that_file(read, tmp_path):
    (sentence,) = read("Hello.|prompt.wav")
    assert sentence.voice == str(tmp_path / "prompt.wav")


def test_the_format_of_seed_tts_eval_is_read(read, tmp_path):
    prompt = str(tmp_path / "prompt.wav")
    assert read("a-1|What she said.|prompt.wav|What to say.\na-2|Hm.|prompt.wav|Yes.|one.wav") == [
        ListedSentence("a-1", "What to say.", prompt, "What she said."),
        ListedSentence("a-2", "Yes.", prompt, "Hm.", tmp_path / "one.wav"),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no sentences: write one a line"),
        ("Hello.\n|anna", r"list.txt:2: '\|anna' is no sentence: write text"),
        ("a|b|c|d|e|f", r"list.txt:1: .* is no sentence"),
        ("Hello.|anna|none.wav", r"list.txt:1: there is no file .*none.wav"),
        ("a|Hm.|none.wav|Yes.", r"list.txt:1: there is no file .*none.wav"),
        ("a|Hm.|one.wav|Yes.\na|Hm.|one.wav|No.", "several sentences called a: give each its own name"),
    ],
)
def test_what_is_no_list_is_named_by_its_line(read, text, words):
    with pytest.raises(ValueError, match=words):
        read(text)
