"""The command `esdcodec evaluate-tts`."""

import json

import pytest

pytest.importorskip("transformers")
pytest.importorskip("resemblyzer")

from esdcodec.cli.main import main
from tests.conftest import write_speech


@pytest.fixture
def sentences(tmp_path):
    for i in range(2):
        write_speech(tmp_path / f"{i}.wav", 1.0, seed=i)
    file = tmp_path / "sentences.txt"
    file.write_text("Good day.|she|0.wav\nGood night.|he|1.wav\n")
    return file


def evaluate(*arguments: object) -> int:
    return main(["evaluate-tts", *map(str, arguments)])


def test_every_rung_is_scored_and_nothing_is_made_twice(sentences, tts_folder, tmp_path, capsys):
    theirs = tmp_path / "theirs"
    for i in (1, 2):
        write_speech(theirs / f"0000{i}.flac", 1.0, seed=i)
    out = tmp_path / "out"
    command = sentences, "--model", tts_folder, "--metrics", "speaker", "--output", out, "--spoken", f"them={theirs}"
    assert evaluate(*command) == 0
    shown = capsys.readouterr().out
    systems = json.loads((out / "summary.json").read_text())["systems"]
    assert list(systems) == ["original", "resynthesis", "true codebook 0", "text", "them"]
    for of in systems.values():
        assert -1 <= of["speaker"]["low"] <= of["speaker"]["value"] <= of["speaker"]["high"] <= 1
    assert systems["text"]["missed_ends"]["n_files"] == 2
    assert "missed ends of text: " in shown
    made = {path: path.stat().st_mtime_ns for path in (out / "spoken").rglob("*.wav")}
    assert len(made) == 2 * 3
    assert evaluate(*command) == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "spoken").rglob("*.wav")} == made
    assert capsys.readouterr().out == shown


def test_ends_are_counted_without_any_metric(sentences, tts_folder, tmp_path, capsys):
    sentences.write_text("Good day.\nGood night.|he\n")
    assert evaluate(sentences, "--model", tts_folder, "--metrics", "--output", tmp_path / "out") == 0
    assert "of 2 sentences" in capsys.readouterr().out


def test_a_sentence_that_cannot_be_said_is_named(sentences, tts_folder, tmp_path, capsys):
    sentences.write_text("Good day.|nobody\nGood night.|he\n")
    assert evaluate(sentences, "--model", tts_folder, "--metrics", "--output", tmp_path / "out") == 1
    assert "failed     00001: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "none"], "say with --spoken NAME=FOLDER what is to be scored"),
        (["--spoken", "them=nowhere"], "expected NAME=FOLDER, of a folder that is there"),
        (["--spoken", "text=."], "--spoken text=…: this name is taken"),
        (["--metrics", "beauty"], "no metric of speech from text is called beauty: words, distillmos, speaker"),
    ],
)
def test_what_cannot_be_done_is_refused(sentences, tmp_path, capsys, arguments, words):
    assert evaluate(sentences, *arguments, "--output", tmp_path / "out") == 2
    assert words in capsys.readouterr().err
