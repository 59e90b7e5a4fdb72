"""Nothing is done that is not needed: decoding for a picture, packing for an array, a model that only waits."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from esdcodec.audio import read
from esdcodec.bitstream import writer
from esdcodec.cli import plot
from esdcodec.cli.main import main
from esdcodec.codec import load
from esdcodec.infer.files import encode_array
from esdcodec.model_codec.network import Network
from tests.conftest import make_tiny_codec, speech


@pytest.fixture
def run(model, tmp_path, monkeypatch):
    """A command in a folder that has `in/a.wav` and `in/b.wav`."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for seed, name in enumerate("ab"):
        soundfile.write(f"in/{name}.wav", speech(0.5, seed=seed)[0, 0].numpy(), 24000)

    def main_with_model(command, *args, model=model):
        return main([command, *map(str, args), "--model", model, "--device", "cpu"])

    return main_with_model


@pytest.fixture
def decoded(monkeypatch):
    """The number of frames of each time that a network made audio."""
    frames, synthesise = [], Network.synthesise

    def counted(self, latent, subband):
        frames.append(latent.shape[-1])
        return synthesise(self, latent, subband)

    monkeypatch.setattr(Network, "synthesise", counted)
    return frames


class TestPicture:
    def test_a_picture_beside_a_roundtrip_decodes_nothing_again(self, run, decoded):
        assert run("roundtrip", "in/a.wav", "-o", "plain") == 0
        plain = decoded.copy()
        decoded.clear()
        assert run("roundtrip", "in/a.wav", "-o", "drawn", "--plot") == 0
        assert decoded == plain
        assert Path("drawn/a.png").exists()

    def test_plot_encodes_and_decodes_once_and_writes_the_picture_alone(self, run, decoded):
        assert run("plot", "in/a.wav", "-o", "a.png") == 0
        assert decoded == [100]
        assert {path.name for path in Path().iterdir()} == {"in", "a.png"}

    def test_both_draw_the_same(self, run, monkeypatch):
        drawn = []
        monkeypatch.setattr(plot, "draw", lambda picture, codec, *signals: drawn.append(signals))
        assert run("roundtrip", "in/a.wav", "-o", "out", "--plot") == 0
        assert run("plot", "in/a.wav", "-o", "a.png") == 0
        for left, right in zip(*(signals[:3] for signals in drawn)):
            np.testing.assert_allclose(left, right, atol=1e-4)  # one is read from 16-bit wav
        assert drawn[0][3:] == drawn[1][3:]


class TestArrays:
    def test_an_array_is_made_of_codes_and_not_of_packed_bits(self, run, model, monkeypatch):
        def refuse(*args):
            raise AssertionError("bits were packed")

        monkeypatch.setattr(writer, "pack", refuse)
        assert run("encode", "in/a.wav", "-o", "a.npy", "-n", 3) == 0
        codes = np.load("a.npy")
        assert codes.dtype == np.uint16
        expected = load(model, device="cpu").encode(read("in/a.wav", 24000)[0], n_quantizers=3)
        np.testing.assert_array_equal(codes, expected[0])

    def test_codes_that_need_more_than_16_bits_are_refused(self, run):
        codec = make_tiny_codec()
        codec.codebook_sizes = (2**16 + 1, *codec.codebook_sizes[1:])
        with pytest.raises(ValueError, match="16 bits"):
            encode_array(codec, "in/a.wav", 3)


class TestSeveralProcesses:
    def test_the_process_that_waits_loads_no_model(self, run, monkeypatch, capsys):
        def refuse(*args, **kwargs):
            raise AssertionError("a model was loaded")

        monkeypatch.setattr("esdcodec.codec.load", refuse)
        assert run("encode", "in", "-o", "out", "-n", 3, "--jobs", 2) == 0
        assert "tiny on cpu, 3 of 6 codebooks" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("option", "value", "words"), [("-n", 7, "n_quantizers=7"), ("--device", "nowhere", "nowhere")]
    )
    def test_what_is_wrong_for_all_files_is_told_once(self, run, capsys, option, value, words):
        arguments = ["encode", "in", "-o", "out", "--jobs", 2, option, value]
        assert run(*arguments) == 2 if option == "-n" else main([*map(str, arguments)]) == 2
        errors = capsys.readouterr().err
        assert errors.startswith("esdcodec: ")
        assert errors.count("\n") == 1
        assert words in errors
        assert not Path("out").exists()

    def test_weights_that_are_damaged_are_told_once(self, run, model, capsys):
        Path("damaged").mkdir()
        Path("damaged/config.json").write_bytes(Path(model, "config.json").read_bytes())
        Path("damaged/model.safetensors").write_bytes(Path(model, "model.safetensors").read_bytes()[:1000])
        assert run("encode", "in", "-o", "out", "--jobs", 2, "--json", model="damaged") == 2
        printed = capsys.readouterr()
        assert printed.err.startswith("esdcodec: damaged/model.safetensors")
        assert printed.out == ""

    def test_the_summary_counts_what_all_processes_did(self, run, capsys):
        assert run("encode", "in", "-o", "out", "--jobs", 2, "--json") == 0
        *files, totals = map(json.loads, capsys.readouterr().out.splitlines())
        assert totals["files"] == len(files) == 2
        assert totals["coded_bytes"] == sum(file["coded_bytes"] for file in files)
