"""The command line, run as a user runs it: right files, whole files, nothing overwritten, and a word on what failed."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from esdcodec.audio import read
from esdcodec.bitstream import Reader
from esdcodec.cli.main import main
from esdcodec.cli.paths import find_jobs
from esdcodec.loudness import gain_for
from tests.conftest import make_tiny_codec, write_speech

ROOT = Path(__file__).parents[2]
ESDCODEC = [sys.executable, "-m", "esdcodec.cli"]
HOP = 120


def run(*args, model=None, **options):
    arguments = [*map(str, args), *(["--model", model, "--device", "cpu"] if model else [])]
    return subprocess.run([*ESDCODEC, *arguments], capture_output=True, check=False, **options)


def hidden(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.name.endswith(".part")]


class TestInferPy:
    def test_without_arguments_it_reconstructs_the_bundled_recording(self, tmp_path):
        for _ in range(2):  # as often as one likes
            command = [sys.executable, str(ROOT / "infer.py")]
            result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert result.returncode == 0, result.stderr
        assert "850 bit/s" in result.stdout
        assert "real time" in result.stdout
        assert "--model 25hz_v1" in result.stdout
        original, _ = soundfile.read(ROOT / "esdcodec/assets/sample.flac")
        decoded, rate = soundfile.read(tmp_path / "reconstructed/sample.wav")
        assert (rate, len(decoded)) == (24000, len(original) * 24000 // 16000)
        with open(tmp_path / "reconstructed/sample.esd", "rb") as file:
            assert Reader(file).read().shape == (3, 124)
        assert (tmp_path / "reconstructed/sample.png").read_bytes()[1:4] == b"PNG"

    def test_folders_are_mirrored_and_broken_files_are_told_at_the_end(self, model, tmp_path):
        write_speech(tmp_path / "in/a.wav")
        write_speech(tmp_path / "in/deep/er/b.flac")
        write_speech(tmp_path / "in/d.mp3")
        write_speech(tmp_path / "in/e.opus", format="OGG", subtype="OPUS")
        (tmp_path / "in/broken.wav").write_bytes(b"RIFF nothing")
        (tmp_path / "in/notes.txt").write_text("not audio")
        result = run("roundtrip", "in", "--output", "out", model=model, cwd=tmp_path, text=True)
        assert result.returncode == 1
        assert "failed     in/broken.wav: cannot be read as audio (Format not recognised.)" in result.stderr
        assert "4 files" in result.stdout
        for suffix in ("wav", "esd"):
            found = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob(f"*.{suffix}")}
            assert found == {f"in/{name}.{suffix}" for name in ("a", "deep/er/b", "d", "e")}


class TestThereAndBack:
    @pytest.mark.parametrize("rate", [8000, 24000, 44100])
    def test_a_file_comes_back_at_its_own_rate_and_length(self, model, codec, tmp_path, rate):
        source = write_speech(tmp_path / "a.wav", rate=rate, seconds=0.7)
        assert main(["encode", str(source), "--model", model, "--n-quantizers", "2", "--chunk-seconds", "0.2"]) == 0
        audio, _ = read(source)
        expected = codec.encode(audio, rate, n_quantizers=2, gain_db=gain_for(audio, rate))[0].numpy()
        with open(tmp_path / "a.esd", "rb") as file:
            np.testing.assert_array_equal(Reader(file).read(), expected)
        assert main(["decode", str(tmp_path / "a.esd"), "-o", str(tmp_path / "b.wav"), "--model", model]) == 0
        decoded, decoded_rate = soundfile.read(tmp_path / "b.wav")
        assert (decoded_rate, len(decoded)) == (rate, len(audio))

    def test_samples_are_those_of_the_library(self, model, codec, tmp_path):
        source = write_speech(tmp_path / "a.wav", seconds=0.7)
        main(["encode", str(source), "--model", model])
        main(["decode", str(tmp_path / "a.esd"), "-o", str(tmp_path / "b.flac"), "--format", "flac", "--model", model])
        audio, _ = read(source)
        gain_db = gain_for(audio, 24000)
        codes = codec.encode(audio, gain_db=gain_db)
        expected = codec.decode(codes, length=len(audio), gain_db=gain_db)[0, 0].numpy()
        decoded, _ = soundfile.read(tmp_path / "b.flac")
        np.testing.assert_allclose(decoded, expected, atol=2 / 32768)

    def test_pipes(self, model, tmp_path):
        source = write_speech(tmp_path / "a.wav", seconds=0.7, rate=16000)
        encoded = run("encode", "-", model=model, input=source.read_bytes())
        assert encoded.returncode == 0, encoded.stderr
        main(["encode", str(source), "--model", model])
        assert encoded.stdout == (tmp_path / "a.esd").read_bytes()
        decoded = run("decode", "-", model=model, input=encoded.stdout)
        assert decoded.returncode == 0, decoded.stderr
        main(["decode", str(tmp_path / "a.esd"), "-o", str(tmp_path / "b.wav"), "--model", model])
        from_pipe, from_file = soundfile.read(io.BytesIO(decoded.stdout)), soundfile.read(tmp_path / "b.wav")
        assert from_pipe[1] == from_file[1] == 16000
        np.testing.assert_array_equal(from_pipe[0], from_file[0])

    def test_arrays_for_language_models(self, model, codec, tmp_path):
        source = write_speech(tmp_path / "a.wav")
        assert main(["encode", str(source), "--model", model, "--format", "npy"]) == 0
        codes = np.load(tmp_path / "a.npy")
        assert codes.dtype == np.uint16
        np.testing.assert_array_equal(codes, codec.encode(read(source)[0])[0].numpy())

    def test_transcode_and_info(self, model, tmp_path, capsys):
        source = write_speech(tmp_path / "a.wav", seconds=0.5)
        main(["encode", str(source), "--model", model, "--n-quantizers", "4"])
        esd, small = str(tmp_path / "a.esd"), str(tmp_path / "small.esd")
        assert main(["transcode", esd, "--n-quantizers", "1", "-o", small]) == 0
        capsys.readouterr()
        assert main(["info", esd, small, "--json", "--check"]) == 0
        four, one = map(json.loads, capsys.readouterr().out.splitlines())
        assert (four["codebooks"], one["codebooks"]) == (4, 1)
        assert four["model"] == one["model"] == "tiny"
        assert four["seconds"] == one["seconds"] == 0.5
        assert four["bits"] == [8, 6, 6, 6]
        assert main(["info", esd]) == 0
        assert "4 codebooks of 8, 6, 6, 6 bits, 100 frames" in capsys.readouterr().out

    def test_damaged_seconds_are_silent_and_told(self, model, tmp_path, capsys):
        source = write_speech(tmp_path / "a.wav", seconds=2.0)
        main(["encode", str(source), "--model", model])
        data = bytearray((tmp_path / "a.esd").read_bytes())
        data[len(data) // 2] ^= 1
        (tmp_path / "a.esd").write_bytes(data)
        args = ["decode", str(tmp_path / "a.esd"), "-o", str(tmp_path / "b.wav"), "--model", model]
        assert main(args) == 1
        assert "block 6" in capsys.readouterr().err
        assert not (tmp_path / "b.wav").exists()
        assert main([*args, "--recover"]) == 1
        assert "recovered" in capsys.readouterr().err
        decoded, _ = soundfile.read(tmp_path / "b.wav")
        assert len(decoded) == 48000
        silent = decoded.reshape(-1, 32 * HOP // 8)[6 * 8 : 7 * 8]
        assert (silent == 0).all()
        assert np.abs(decoded[: 6 * 32 * HOP]).max() > 0.01
        assert np.abs(decoded[7 * 32 * HOP :]).max() > 0.01

    def test_another_model_is_refused_by_name(self, model, tmp_path, capsys):
        source = write_speech(tmp_path / "a.wav")
        main(["encode", str(source), "--model", model])
        torch.manual_seed(1)
        make_tiny_codec(seed=1).save_pretrained(tmp_path / "other")
        args = ["decode", str(tmp_path / "a.esd"), "-o", str(tmp_path / "b.wav")]
        assert main([*args, "--model", str(tmp_path / "other")]) == 1
        assert "of the model 'tiny'" in capsys.readouterr().err
        assert not (tmp_path / "b.wav").exists()

    def test_pictures(self, model, tmp_path):
        source = write_speech(tmp_path / "short.wav", seconds=0.05)
        assert main(["plot", str(source), "-o", str(tmp_path / "p.svg"), "--model", model]) == 0
        assert b"<svg" in (tmp_path / "p.svg").read_bytes()
        args = [str(source), "--model", model, "--output", str(tmp_path / "out"), "--plot"]
        assert main(["roundtrip", *args]) == 0
        assert (tmp_path / "out/short.png").stat().st_size > 10000


class TestSources:
    def test_lists_globs_and_missing_files(self, model, tmp_path, capsys):
        for name in ("in/s1/001.wav", "in/s2/001.wav"):
            write_speech(tmp_path / name)
        (tmp_path / "some.lst").write_text("# three files\nin/s1/001.wav\n\nin/s2/001.wav\nin/gone.wav\n")
        out = tmp_path / "out"
        assert main(["encode", str(tmp_path / "some.lst"), "--model", model, "-o", str(out)]) == 1
        assert sorted(str(p.relative_to(out)) for p in out.rglob("*.esd")) == ["s1/001.esd", "s2/001.esd"]
        assert "gone.wav: no such file" in capsys.readouterr().err
        assert main(["encode", str(tmp_path / "in/*/*.wav"), "--model", model, "-o", str(tmp_path / "globbed")]) == 0
        assert len(list((tmp_path / "globbed").rglob("*.esd"))) == 2

    def test_a_list_that_names_itself_ends(self, model, tmp_path, capsys):
        (tmp_path / "some.lst").write_text("some.lst\n")
        assert main(["roundtrip", str(tmp_path / "some.lst"), "--model", model, "--output", str(tmp_path / "o")]) == 1
        assert "some.lst: cannot be read as audio" in capsys.readouterr().err

    def test_two_files_of_one_name_keep_their_extensions(self, model, tmp_path, capsys):
        files = [
            str(write_speech(tmp_path / name, seconds=seconds)) for name, seconds in (("a.wav", 0.3), ("a.flac", 0.5))
        ]
        args = ["--model", model, "--output", str(tmp_path / "out"), "--skip-existing"]
        assert main(["encode", files[0], *args]) == 0  # whether they are coded together or one by one
        assert main(["encode", *files, *args]) == 0
        assert main(["encode", *files, *args]) == 0
        assert "2 that exist" in capsys.readouterr().out
        assert {file.name for file in (tmp_path / "out").iterdir()} == {"a.wav.esd", "a.flac.esd"}
        for name, n_frames in (("a.wav", 60), ("a.flac", 100)):
            with open(tmp_path / f"out/{name}.esd", "rb") as file:
                assert Reader(file).n_frames == n_frames

    def test_two_files_that_would_share_an_output_fail_each_time(self, model, tmp_path, capsys):
        files = [str(write_speech(tmp_path / name)) for name in ("x/a.wav", "y/a.wav")]
        for _ in range(2):
            assert main(["encode", *files, "--model", model, "-o", str(tmp_path / "out"), "--skip-existing"]) == 1
            assert f"y/a.wav: its output {tmp_path}/out/a.esd would replace that of" in capsys.readouterr().err

    def test_a_file_that_is_named_twice_is_coded_once(self, model, tmp_path):
        source = str(write_speech(tmp_path / "a.wav"))
        assert main(["encode", source, source, "--model", model]) == 0

    def test_transcripts_beside_recordings_are_no_lists(self, model, tmp_path, capsys):
        source = write_speech(tmp_path / "in/a.wav")
        text = tmp_path / "in/a.txt"
        text.write_text("what is said in it\n")
        assert main(["encode", str(source), str(text), "--model", model]) == 0
        assert f"no audio, beside a recording of the same name: 1 ({text})" in capsys.readouterr().err
        alone = tmp_path / "alone.txt"
        alone.write_text("in/a.wav\n")
        assert main(["encode", str(alone), "--model", model]) == 1
        assert f"say @{alone}" in capsys.readouterr().err
        assert main(["encode", f"@{alone}", "--model", model, "--overwrite"]) == 0

    def test_what_is_left_out_is_counted_and_what_cannot_be_read_fails(self, model, tmp_path, capsys):
        write_speech(tmp_path / "in/a.wav")
        (tmp_path / "in/notes.md").write_text("notes")
        assert main(["encode", str(tmp_path / "in"), "--model", model]) == 0
        assert "left out   extension .md: 1 (" in capsys.readouterr().err
        (tmp_path / "in/gone.wav").symlink_to("nowhere.wav")
        os.mkfifo(tmp_path / "in/pipe.wav")
        assert main(["encode", str(tmp_path / "in"), "--model", model, "--overwrite", "--json"]) == 1
        output, errors = capsys.readouterr()
        *files, summary = map(json.loads, output.splitlines())
        assert {Path(file["source"]).name for file in files if "error" in file} == {"gone.wav", "pipe.wav"}
        assert (summary["files"], summary["failed"], list(summary["left_out"].values())) == (1, 2, ["extension .md"])
        assert "gone.wav: link to nothing" in errors

    def test_of_a_cut_file_what_is_there_is_coded_and_the_rest_is_named(self, model, tmp_path, capsys):
        whole = write_speech(tmp_path / "whole.mp3", 2.0).read_bytes()
        (tmp_path / "cut.mp3").write_bytes(whole[: len(whole) // 2])
        code = main(["encode", str(tmp_path / "cut.mp3"), "--model", model, "--device", "cpu"])
        assert code == 1
        assert "cut.mp3: shorter than its header states" in capsys.readouterr().err
        with open(tmp_path / "cut.esd", "rb") as file:
            assert 0.7 < Reader(file).duration < 1.3

    def test_what_is_no_audio_is_refused_before_a_model_is_loaded(self, tmp_path, capsys):
        (tmp_path / "in").mkdir()
        (tmp_path / "in/notes.mp3").write_text("words, and no sound at all\n" * 100)
        (tmp_path / "in/empty.wav").touch()
        for command in ("encode", "roundtrip"):
            assert main([command, str(tmp_path / "in"), "--model", "no such model"]) == 1
            told = capsys.readouterr().err
            assert told.count("cannot be read as audio") == 2
            assert "no such model" not in told

    def test_jobs_mirror_the_folder_below_its_name(self, tmp_path):
        write_speech(tmp_path / "in/x/a.wav")
        (job,) = find_jobs([tmp_path / "in"])
        assert job.target == Path("in/x/a")


class TestForMachines:
    def test_json(self, model, tmp_path):
        write_speech(tmp_path / "in/a.wav", seconds=0.5)
        (tmp_path / "in/b.wav").write_bytes(b"not audio")
        result = run("encode", tmp_path / "in", "-o", tmp_path / "out", "--json", model=model, text=True)
        assert result.returncode == 1
        a, b, summary = map(json.loads, result.stdout.splitlines())
        size = (tmp_path / "out/in/a.esd").stat().st_size
        assert (a["audio_seconds"], a["coded_bytes"]) == (0.5, size)
        assert "cannot be read" in b["error"]
        assert summary == {"files": 1, "failed": 1, "skipped": 0, "audio_seconds": 0.5, "coded_bytes": size}

    def test_processes_make_the_same_files(self, model, tmp_path):
        for i in range(4):
            write_speech(tmp_path / f"in/{i}.wav", seconds=0.3 + 0.1 * i, seed=i)
        args = ["encode", str(tmp_path / "in"), "--model", model, "--device", "cpu"]
        assert main([*args, "-o", str(tmp_path / "one")]) == 0
        assert main([*args, "-o", str(tmp_path / "two"), "--jobs", "2"]) == 0
        for file in (tmp_path / "one").rglob("*.esd"):
            assert file.read_bytes() == (tmp_path / "two/in" / file.name).read_bytes()

    def test_info_needs_no_network_code(self, model, tmp_path):
        write_speech(tmp_path / "a.wav")
        main(["encode", str(tmp_path / "a.wav"), "--model", model])
        code = (
            "import sys; from esdcodec.cli.main import main\n"
            f"assert main(['info', {str(tmp_path / 'a.esd')!r}]) == 0\n"
            "assert not {'torch', 'matplotlib', 'huggingface_hub'} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

    @pytest.mark.parametrize("args", [["--model", "nothing"], ["--n-quantizers", "99"], ["--device", "abacus"]])
    def test_wrong_command(self, args, tmp_path, capsys):
        source = str(write_speech(tmp_path / "a.wav"))
        assert main(["roundtrip", source, *args, "--output", str(tmp_path / "out")]) == 2
        assert capsys.readouterr().err.startswith("esdcodec: ")
        assert not (tmp_path / "out").exists()

    def test_nothing_to_do(self, tmp_path, capsys):
        assert main(["encode", str(tmp_path)]) == 2
        assert "no audio files in" in capsys.readouterr().err
