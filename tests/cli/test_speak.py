"""`speak`, `convert` and `voice`, from a recording to a file in its voice."""

import io
import json
import sys

import pytest
import soundfile
import torch

from esdcodec.cli.main import main
from esdcodec.infer.tts.speech import TAG
from esdcodec.tts import Voice
from tests.conftest import write_speech

TEXT = "Something to say here. And one more sentence of it."


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def speak(tts_folder, here, tts, monkeypatch):
    """`esdcodec speak` with the small model, which is loaded once."""
    monkeypatch.setattr("esdcodec.tts.load_tts", lambda *args, **options: tts)
    return lambda *args: main(["speak", *args, "--model", str(tts_folder), "--device", "cpu"])


def test_a_recording_becomes_a_voice_that_speaks_and_is_converted_to(tts_folder, model, here, capsys):
    write_speech(here / "talk.wav", 1.5)
    with_codec, with_model = ["--model", model, "--device", "cpu"], ["--model", str(tts_folder), "--device", "cpu"]
    assert (
        main(["voice", "talk.wav", "--text", "What I say.", "-o", "me.voice", "--consent", "agreed", *with_codec]) == 0
    )
    assert vars(Voice.load("me.voice")) | {"codes": None} == {
        **vars(Voice.load("me.voice")), "codes": None, "name": "me", "text": "What I say.", "consent": "agreed",
    }  # fmt: skip
    assert main(["speak", TEXT, "--voice", "me.voice", "-o", "said.flac", *with_model]) == 0
    assert main(["convert", "talk.wav", "--voice", "me.voice", "-o", "converted.wav", *with_model]) == 0
    for name in ("said.flac", "converted.wav"):
        with soundfile.SoundFile(name) as file:
            assert (file.samplerate, file.comment) == (24000, TAG)
    assert soundfile.info("converted.wav").frames == soundfile.info("talk.wav").frames
    assert "voice me.voice" in capsys.readouterr().out


def test_the_options_are_those_of_a_call(speak, tts):
    assert (
        speak(TEXT, "--voice", "he", "--temperature", "0", "-n", "2", "--seed", "3", "--pause", "1", "-o", "x.wav") == 0
    )
    expected = tts(TEXT, "he", temperature=0, n_quantizers=2, seed=3, pause=1.0).audio
    written = torch.from_numpy(soundfile.read("x.wav", dtype="float32")[0])
    torch.testing.assert_close(written, expected.clamp(-1, 1), atol=1e-4, rtol=0)


def test_a_line_becomes_a_file_and_a_bad_one_is_named(speak, here, capsys):
    (here / "lines.txt").write_bytes(b"A first text.\n\nAnother|he\nA third|nobody\ncaf\xe9\n...\n")
    assert speak("--lines", "lines.txt", "-o", "said/", "--json") == 1
    assert sorted(path.name for path in (here / "said").iterdir()) == ["00001.wav", "00003.wav"]
    *files, totals = map(json.loads, capsys.readouterr().out.splitlines())
    assert {each["source"]: each.get("error", "")[:30] for each in files} == {
        "lines.txt:5": "this line is not UTF-8 at byte",
        "lines.txt:6": "the text '...' holds nothing t",
        "lines.txt:1": "",
        "lines.txt:3": "",
        "lines.txt:4": "there is no voice 'nobody': th",
    }
    assert (totals["files"], totals["failed"], totals["skipped"]) == (2, 3, 0)
    before = (here / "said/00001.wav").stat().st_mtime_ns
    (here / "lines.txt").write_text("A first text.\nA second one.\n")
    assert speak("--lines", "lines.txt", "-o", "said/", "--skip-existing") == 0
    assert (here / "said/00001.wav").stat().st_mtime_ns == before
    assert (here / "said/00002.wav").exists()
    assert speak("--lines", "lines.txt", "-o", "said/") == 1
    assert "exists: say --overwrite or --skip-existing" in capsys.readouterr().err


def test_a_sentence_that_did_not_end_by_itself_is_named(speak, tts, monkeypatch, capsys):
    batch = tts.batch

    def cut(texts, voice, **changes):
        return [
            type(speech)(speech.audio, speech.sample_rate, ("end", "loop")) for speech in batch(texts, voice, **changes)
        ]

    monkeypatch.setattr(tts, "batch", cut)
    assert speak(TEXT, "-o", "x.wav") == 1
    assert "check      text: sentence 2 of 2 repeated itself and was cut off" in capsys.readouterr().err


def test_a_stream_is_a_wav_of_the_same_text(speak, tts):
    assert speak(TEXT, "--stream", "--look-ahead-ms", "1e9", "-o", "x.wav") == 0
    assert soundfile.info("x.wav").frames == pytest.approx(len(tts(TEXT)), abs=1)


def test_text_comes_out_of_a_pipe(speak, monkeypatch, tmp_path):
    pipe = tmp_path / "pipe"
    pipe.write_bytes("\ufeffWörter, die man sagt.".encode())
    monkeypatch.setattr("esdcodec.cli.speech_lines.open_source", lambda path: pipe.open("rb"))
    assert speak("-", "-o", "x.mp3") == 0
    pipe.write_bytes(b"W\xf6rter")
    assert speak("-", "-o", "y.mp3") == 2
    assert not (tmp_path / "y.mp3").exists()


def test_voices_are_listed_with_whether_their_speakers_agreed(speak, capsys):
    assert speak("--list-voices") == 0
    assert [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()] == [
        ["he", "its speaker agreed"],
        ["she", "its speaker agreed; the default"],
    ]


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ([""], "holds nothing to say: give at least a word"),
        (["caf\udce9"], "not UTF-8"),
        (["x" * 100_001], "100,000 are the most"),
        (["Words.", "--voice", "nobody"], "there is no voice 'nobody': this model has he, she"),
        (["Words.", "--temperature", "-1"], "temperature=-1.0 must be at least 0"),
        (["Words.", "-n", "99"], "n_quantizers=99 but this model has 1 to 6"),
        (["Words.", "-o", "x.txt"], "no such format; known are .wav"),
        (["Words.", "--stream", "-o", "x.mp3"], "--stream writes one text, as wav"),
        (["--lines", "lines.txt"], "name a folder with --output"),
        (["--lines", "lines.txt", "-o", "x.wav"], "name a folder"),
        (["--lines", "nothing.txt", "-o", "x/"], "No such file"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_said_is_refused_with_advice(speak, here, arguments, advice, capsys):
    assert speak(*arguments) == 2
    assert advice in capsys.readouterr().err
    assert not list(here.iterdir())


def test_a_model_that_is_not_there_is_refused(here, monkeypatch, capsys):
    monkeypatch.setattr("esdcodec.infer.tts.folder.BUNDLED", {"25hz_nano_tts": here / "nothing"})
    write_speech(here / "talk.wav")
    for command in (["speak", "Words."], ["convert", "talk.wav", "-o", "x.wav"]):
        assert main(command) == 2
        assert "25hz_nano_tts does not come with this version of esdcodec: train one" in capsys.readouterr().err


def test_a_failure_leaves_what_was_there(speak, here, tts, monkeypatch, capsys):
    (here / "x.wav").write_text("mine")

    def fails(*args, **changes):
        yield torch.zeros(100)
        raise RuntimeError("no memory")

    monkeypatch.setattr(tts, "_stream", fails)
    assert speak("Words.", "--stream", "-o", "x.wav", "--overwrite") == 1
    assert "failed     text: no memory" in capsys.readouterr().err
    assert (here / "x.wav").read_text() == "mine"
    assert [path.name for path in here.iterdir()] == ["x.wav"]


def test_voices_of_a_folder_take_their_texts_from_beside_the_recordings(model, here, capsys):
    for name in ("a", "b"):
        write_speech(here / f"in/{name}.wav", 1.2)
    (here / "in/a.txt").write_text("What a says.\n")
    assert main(["voice", "in/", "-o", "out/", "--model", model, "--device", "cpu"]) == 1
    assert Voice.load("out/in/a.voice").text == "What a says."
    assert "b.wav: what is said in it is not known: give --text, or write it into" in capsys.readouterr().err
    assert main(["voice", "in/", "--text", "x", "-o", "out/", "--model", model]) == 2


def test_output_to_a_terminal_is_refused(speak, monkeypatch, capsys):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdout", terminal)
    assert speak("Words.", "-o", "-") == 2
    assert "binary data to the terminal" in capsys.readouterr().err
