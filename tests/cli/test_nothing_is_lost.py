"""Nothing is lost: no file is overwritten or half-written, whatever fails, stops or kills the program."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from esdcodec.audio import read
from esdcodec.bitstream import Reader
from esdcodec.cli.main import main
from esdcodec.loudness import gain_for
from esdcodec.whole_file import whole_file
from tests.conftest import PATIENCE, write_speech

ESDCODEC = [sys.executable, "-m", "esdcodec.cli"]


def hidden(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.name.endswith(".part")]


def test_nothing_is_overwritten_unless_told(model, tmp_path, capsys):
    source = write_speech(tmp_path / "a.wav")
    (tmp_path / "a.esd").write_text("precious")
    args = ["encode", str(source), "--model", model]
    assert main(args) == 1
    assert "exists: say --overwrite or --skip-existing" in capsys.readouterr().err
    assert main([*args, "--skip-existing"]) == 0
    assert (tmp_path / "a.esd").read_text() == "precious"
    assert main([*args, "--overwrite"]) == 0
    assert (tmp_path / "a.esd").read_bytes().startswith(b"ESDC")


def test_an_input_is_never_replaced(model, tmp_path, capsys):
    before = write_speech(tmp_path / "in/a.wav").read_bytes()
    args = ["roundtrip", str(tmp_path / "in"), "--model", model, "--output", str(tmp_path), "--overwrite"]
    assert main(args) == 1
    assert "would replace an input" in capsys.readouterr().err
    assert (tmp_path / "in/a.wav").read_bytes() == before


def test_one_output_that_cannot_be_written_does_not_stop_the_others(model, tmp_path, capsys):
    for name in ("a", "b"):
        write_speech(tmp_path / f"in/{name}.wav")
    (tmp_path / "out/in/a.esd").mkdir(parents=True)
    args = ["encode", str(tmp_path / "in"), "--model", model, "-o", str(tmp_path / "out"), "--overwrite"]
    assert main(args) == 1
    assert "in/a.wav" in capsys.readouterr().err
    assert (tmp_path / "out/in/b.esd").is_file()
    assert not hidden(tmp_path)


def test_a_file_appears_when_it_is_whole(tmp_path):
    target = tmp_path / "deep/file"

    def fail():
        with whole_file(target) as stream:
            stream.write(b"half")
            assert not target.exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(target.parent.iterdir()) == []


def test_a_second_signal_does_not_interrupt_the_tidying_up(tmp_path):
    script = f"""
        import os, pathlib, signal
        from esdcodec.whole_file import whole_file
        from esdcodec.processes import SIGNALS, stop

        for number in SIGNALS:
            signal.signal(number, stop)
        unlink = pathlib.Path.unlink

        def interrupted(path, missing_ok=False):
            os.kill(os.getpid(), signal.SIGTERM)
            unlink(path, missing_ok)

        pathlib.Path.unlink = interrupted
        with whole_file(pathlib.Path({str(tmp_path / "file")!r})):
            os.kill(os.getpid(), signal.SIGINT)
    """
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(script)]).returncode == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_stopped_run_leaves_no_half_file(model, tmp_path, number, jobs):
    first = write_speech(tmp_path / "in/0.wav", seconds=1.0)
    for i in range(1, 300):  # so many that none of it is over before the signal comes, however late
        (tmp_path / f"in/{i}.wav").write_bytes(first.read_bytes())
    args = ["encode", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--jobs", str(jobs), "--model", model]
    process = subprocess.Popen([*ESDCODEC, *args], stderr=subprocess.PIPE, start_new_session=True)
    while not list((tmp_path / "out").rglob("*.esd")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does it
    else:
        process.send_signal(number)
    assert process.wait(PATIENCE) == 128 + number
    process.stderr.close()
    assert not hidden(tmp_path)
    for file in (tmp_path / "out").rglob("*.esd"):
        with open(file, "rb") as stream:
            assert Reader(stream).n_frames == 200


def test_killed_at_random_and_repeated_until_done(model, codec, tmp_path):
    for i in range(30):
        write_speech(tmp_path / f"in/{i}.wav", seconds=0.2 + 0.05 * i, seed=i % 4)
    args = ["encode", tmp_path / "in", "-o", tmp_path / "out", "--skip-existing", "--model", model]
    command = [*ESDCODEC, *map(str, args)]
    rng = random.Random(0)
    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = len(list((tmp_path / "out").rglob("*.esd")))
        while len(list((tmp_path / "out").rglob("*.esd"))) == before and process.poll() is None:
            time.sleep(rng.uniform(0, 0.02))
        process.kill()
        process.wait()
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    assert not hidden(tmp_path)
    for source in (tmp_path / "in").iterdir():
        with open(tmp_path / "out/in" / f"{source.stem}.esd", "rb") as file:
            codes = Reader(file).read()
        audio, rate = read(source)
        expected = codec.encode(audio, gain_db=gain_for(audio, rate))[0].numpy()
        np.testing.assert_array_equal(codes, expected)
