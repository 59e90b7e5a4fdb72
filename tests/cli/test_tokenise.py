"""`esdcodec tokenise`."""

import json
import sys

import pytest

from esdcodec.cli.main import main
from esdcodec.cli.tokenise import FORMATS
from esdcodec.dataset.token_shards import SUFFIXES
from tests.conftest import write_speech


@pytest.fixture
def folder(tmp_path) -> str:
    for name in "ab":
        write_speech(tmp_path / f"speech/{name}.wav", 0.2)
    return str(tmp_path / "speech")


@pytest.mark.parametrize("name", ["tokenise", "tokenize"])
def test_a_folder_becomes_shards_that_are_whole(name, model, folder, tmp_path, capsys):
    command = [name, folder, "-o", str(tmp_path / "out"), "--model", model, "--device", "cpu", "-n", "2"]
    assert main(command) == 0
    assert "2 utterances" in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["finished"] == 1
    assert main([name, "--verify", str(tmp_path / "out")]) == 0
    (tmp_path / "out/speech-000000.tar").write_bytes(b"")
    assert main([name, "--verify", str(tmp_path / "out")]) == 1
    assert "not the one" in capsys.readouterr().err


def test_what_is_skipped_is_said_and_the_exit_code_says_so(model, folder, tmp_path, capsys):
    (tmp_path / "speech/c.wav").write_bytes(b"no audio")
    assert main(["tokenise", folder, "-o", str(tmp_path / "out"), "--model", model, "--device", "cpu"]) == 1
    assert "1 utterances: audio cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["x"], "--output"),
        (["-o", "out"], "say what to tokenise"),
        (["--verify", "missing"], "no folder"),
        (["missing.list", "-o", "out"], "missing.list"),
    ],
)
def test_wrong_commands_say_what_is_wrong(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["tokenise", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "module", "extra"),
    [(["--format", "parquet"], "pyarrow.parquet", "parquet"), (["--engine", "ray"], "ray", "ray")],
)
def test_without_an_extra_it_says_what_to_install(options, module, extra, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["tokenise", folder, "-o", str(tmp_path / "out"), *options]) == 2
    assert f"pip install 'esdcodec[{extra}]'" in capsys.readouterr().err


def test_every_format_that_there_is_can_be_asked_for():
    assert list(FORMATS) == list(SUFFIXES)
