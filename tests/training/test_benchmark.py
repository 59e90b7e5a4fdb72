"""The benchmark of a training step runs as it is documented, and says when it fails."""

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
