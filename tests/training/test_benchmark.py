"""The benchmark of a training step runs as it is documented, and every benchmark says when it fails."""

import subprocess
import sys

import pytest

from tests.training.runs import ENVIRONMENT, ROOT

pytestmark = pytest.mark.slow


def benchmark(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "benchmarks/training.py", "--batch=1x0.4", "--modes=fp32", "--steps=1", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=ENVIRONMENT, timeout=600)


def test_its_default_on_a_cpu_gives_a_row():
    result = benchmark("--num-workers=0", "--model=25hz_nano")
    assert result.returncode == 0, result.stdout
    assert len(result.stdout.splitlines()[-1].split()) == 12
    assert "failed" not in result.stdout


def test_a_row_that_fails_is_a_failure():
    result = benchmark("--model=nothing")
    assert result.returncode == 1
    assert "failed: hydra.errors.MissingConfigException" in result.stdout


@pytest.mark.parametrize(
    "command",
    [
        "checkpoint.py --model=nothing",
        "corpus.py FOLDER/nowhere",
        "entropy.py FOLDER",
        "loader.py FOLDER/nowhere",
        "memory.py --models=nano --minutes=0.01 --dtype=nothing",
        "soak.py FOLDER/nowhere",
        "tokenise.py FOLDER/nowhere",
    ],
)  # fmt: skip
def test_a_benchmark_that_fails_does_not_exit_with_0(command, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    name, *arguments = command.replace("FOLDER", str(tmp_path)).split()
    command = [sys.executable, f"benchmarks/{name}", *arguments]
    result = subprocess.run(command, capture_output=True, check=False, cwd=ROOT, env=ENVIRONMENT, timeout=600)
    assert result.returncode != 0


def test_it_tells_what_a_step_copies_and_waits_for():
    result = benchmark("--num-workers=0", "--model=25hz_nano", "--transfers")
    assert result.returncode == 0, result.stdout + result.stderr
    first, *lines = result.stdout.splitlines()
    assert first == "25hz_nano, one step on a pretended device: the host waits 0 times"
    assert [line.split()[:3] for line in lines] == [["1", "to", "device:"], ["1", "to", "host:"]]
