"""`infer.py`, run as a user runs it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import speech

from esdcodec.infer.cli import main
from esdcodec.infer.roundtrip import find_jobs

ROOT = Path(__file__).parents[2]


@pytest.fixture
def model(tiny_codec, tmp_path):
    tiny_codec.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def infer(*args, cwd):
    command = [sys.executable, str(ROOT / "infer.py"), *map(str, args)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def write(file: Path, seconds: float = 0.3, **options) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, speech(seconds)[0, 0].numpy(), 24000, **options)
    return file


def test_without_arguments_it_reconstructs_the_bundled_recording(tmp_path):
    result = infer(cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "850 bit/s" in result.stdout
    assert "527 bytes" in result.stdout  # 124 frames of 34 bits
    assert "real time" in result.stdout
    assert "--model 25hz_v1" in result.stdout
    original, _ = soundfile.read(ROOT / "esdcodec/assets/sample.flac")
    decoded, rate = soundfile.read(tmp_path / "reconstructed/sample.wav")
    assert (rate, len(decoded)) == (24000, len(original) * 24000 // 16000)
    codes = np.load(tmp_path / "reconstructed/sample.codes.npy")
    assert (codes.dtype, codes.shape) == (np.int16, (3, 124))
    picture = (tmp_path / "reconstructed/sample.png").read_bytes()
    assert picture[1:4] == b"PNG"


def test_folders_are_mirrored_and_broken_files_are_told_at_the_end(model, tmp_path):
    write(tmp_path / "in/a.wav")
    write(tmp_path / "in/deep/er/b.flac")
    write(tmp_path / "in/c.ogg")
    write(tmp_path / "in/d.mp3")
    write(tmp_path / "in/e.opus", format="OGG", subtype="OPUS")
    (tmp_path / "in/broken.wav").write_bytes(b"RIFF nothing")
    (tmp_path / "in/notes.txt").write_text("not audio")
    result = infer("in", "--model", model, "--output", "out", "--n-quantizers", 2, cwd=tmp_path)
    assert result.returncode == 1
    assert "failed     in/broken.wav: cannot be read as audio (Format not recognised.)" in result.stderr
    assert "5 files" in result.stdout
    found = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.wav")}
    assert found == {"in/a.wav", "in/deep/er/b.wav", "in/c.wav", "in/d.wav", "in/e.wav"}
    assert np.load(tmp_path / "out/in/a.codes.npy").shape[0] == 2


def test_lists_and_missing_files(model, tmp_path, capsys):
    write(tmp_path / "a.wav")
    write(tmp_path / "b.wav")
    (tmp_path / "some.lst").write_text("# two files\na.wav\n\ngone.wav\n")
    out = tmp_path / "out"
    assert (
        main(["roundtrip", str(tmp_path / "some.lst"), "--model", model, "--output", str(out), "--device", "cpu"]) == 1
    )
    assert [p.name for p in out.glob("*.wav")] == ["a.wav"]
    assert "gone.wav" in capsys.readouterr().err


def test_a_list_keeps_the_folders_of_its_files(model, tmp_path):
    for name in ("in/s1/001.wav", "in/s2/001.wav"):
        write(tmp_path / name)
    (tmp_path / "some.lst").write_text("in/s1/001.wav\nin/s2/001.wav\n")
    out = tmp_path / "out"
    assert main(["roundtrip", str(tmp_path / "some.lst"), "--model", model, "--output", str(out)]) == 0
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.wav")) == ["s1/001.wav", "s2/001.wav"]


def test_a_list_that_names_itself_ends(model, tmp_path, capsys):
    (tmp_path / "some.lst").write_text("some.lst\n")
    assert main(["roundtrip", str(tmp_path / "some.lst"), "--model", model, "--output", str(tmp_path / "out")]) == 1
    assert "some.lst: cannot be read as audio" in capsys.readouterr().err


def test_an_input_is_never_replaced(model, tmp_path, capsys):
    before = write(tmp_path / "in/a.wav").read_bytes()
    assert main(["roundtrip", str(tmp_path / "in"), "--model", model, "--output", str(tmp_path)]) == 1
    assert "would replace an input" in capsys.readouterr().err
    assert (tmp_path / "in/a.wav").read_bytes() == before


def test_one_output_that_cannot_be_written_does_not_stop_the_others(model, tmp_path, capsys):
    for name in ("a", "b"):
        write(tmp_path / f"in/{name}.wav")
    (tmp_path / "out/in/a.wav").mkdir(parents=True)
    assert main(["roundtrip", str(tmp_path / "in"), "--model", model, "--output", str(tmp_path / "out")]) == 1
    assert "a.wav: cannot be written" in capsys.readouterr().err
    assert (tmp_path / "out/in/b.wav").is_file()


def test_two_files_never_share_an_output(model, tmp_path, capsys):
    write(tmp_path / "a.wav")
    write(tmp_path / "a.flac")
    args = [str(tmp_path / "a.wav"), str(tmp_path / "a.flac"), "--model", model, "--output", str(tmp_path / "out")]
    assert main(["roundtrip", *args]) == 1
    assert "would replace that of" in capsys.readouterr().err


def test_picture_on_request(model, tmp_path):
    write(tmp_path / "short.wav", seconds=0.01)
    args = [str(tmp_path / "short.wav"), "--model", model, "--output", str(tmp_path / "out"), "--plot"]
    assert main(["roundtrip", *args]) == 0
    assert (tmp_path / "out/short.png").stat().st_size > 10000


@pytest.mark.parametrize("args", [["--model", "nothing"], ["--n-quantizers", "99"], ["--device", "abacus"]])
def test_wrong_command(args, tmp_path, capsys):
    assert main(["roundtrip", *args, "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("esdcodec: ")
    assert not (tmp_path / "out").exists()


def test_nothing_to_do(tmp_path, capsys):
    assert main(["roundtrip", str(tmp_path)]) == 2
    assert "no audio files" in capsys.readouterr().err


def test_jobs_mirror_the_folder_below_its_name(tmp_path):
    write(tmp_path / "in/x/a.wav")
    (job,) = find_jobs([tmp_path / "in"])
    assert job.target == Path("in/x/a")
