"""What the command line says: help, defaults, and what is wrong with a command."""

import argparse

import numpy as np
import pytest
import soundfile
import torch

from esdcodec.audio import EXTENSIONS
from esdcodec.bitstream import Reader
from esdcodec.cli.main import main, parser
from tests.conftest import make_tiny_codec

(SUBCOMMANDS,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
COMMANDS = SUBCOMMANDS.choices
CODING = ("encode", "roundtrip", "plot", "transcode")


def told(capsys, *command: str) -> tuple[int, str]:
    """Exit code and what is printed of a command that ends at once."""
    with pytest.raises(SystemExit) as stopped:
        main(command)
    printed = capsys.readouterr()
    return int(stopped.value.code or 0), printed.out + printed.err


@pytest.mark.parametrize("name", COMMANDS)
class TestHelp:
    def test_teaches_by_example(self, name, capsys):
        code, text = told(capsys, name, "--help")
        assert code == 0
        assert f"  esdcodec {name}" in text

    def test_every_default_is_said(self, name, capsys):
        for action in COMMANDS[name]._actions:
            if action.default not in (None, False, argparse.SUPPRESS, []):
                shown = COMMANDS[name].formatter_class("")._get_help_string(action) or ""
                assert "(default: " in shown, action.option_strings

    def test_an_option_that_it_does_not_have_is_answered_by_its_own_usage(self, name, capsys):
        code, text = told(capsys, name, "x", *["y"] * (name == "plot"), "--no-such-option")
        assert code == 2
        assert f"usage: esdcodec {name}" in text.replace("plot y", "plot")


def test_formats_are_in_the_help(capsys):
    text = told(capsys, "encode", "--help")[1]
    assert all(extension[1:] in text.split() or f"{extension[1:]}," in text.split() for extension in EXTENSIONS)


def test_what_may_have_been_meant_is_said(capsys):
    code, text = told(capsys, "encode", "a.wav", "--overwrites")
    assert code == 2
    assert "is --overwrite meant?" in text


@pytest.mark.parametrize("name", CODING)
def test_codebooks_have_a_short_option(name):
    required = ["x.wav", *["-o", "x.png"] * (name == "plot")]
    assert parser().parse_args([name, *required, "-n", "2"]).n_quantizers == 2


def test_without_a_number_all_codebooks_are_coded_as_in_python(tmp_path):
    codec = make_tiny_codec()
    codec.save_pretrained(tmp_path / "tiny")
    audio = 0.1 * np.random.default_rng(0).standard_normal(9600).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", audio, 24000)
    assert main(["encode", str(tmp_path / "a.wav"), "--model", str(tmp_path / "tiny"), "--device", "cpu"]) == 0
    with open(tmp_path / "a.esd", "rb") as file:
        assert len(Reader(file).read()) == codec.encode(torch.from_numpy(audio)[None]).shape[1] == codec.n_codebooks
