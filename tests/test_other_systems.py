"""Windows and macOS lack signals, fork and locks of Linux: what must work, works without them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.other_system import without_posix

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "esdcodec/assets/sample.flac"


@pytest.fixture
def run(tmp_path):
    environment = {**without_posix(tmp_path / "site"), "ACCELERATE_USE_CPU": "true"}

    def run(*command: object) -> str:
        arguments = [sys.executable, *map(str, command)]
        result = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    return run


def test_what_is_missing_there_is_missing_in_these_tests(run):
    assert run("-c", "import os, signal; print(hasattr(signal, 'sigwaitinfo'), hasattr(os, 'fork'))") == "False False\n"


@pytest.mark.slow
def test_files_are_encoded_in_two_processes_and_decoded(run, tmp_path):
    for name in ("a.flac", "b.flac"):
        (tmp_path / name).write_bytes(SAMPLE.read_bytes())
    cli = ("-m", "esdcodec.cli")
    run(*cli, "encode", tmp_path / "a.flac", tmp_path / "b.flac", "-o", tmp_path / "coded", "--jobs", "2")
    run(*cli, "decode", *(tmp_path / "coded").iterdir(), "-o", tmp_path / "decoded")
    assert len(list((tmp_path / "decoded").iterdir())) == 2


@pytest.mark.slow
def test_a_run_with_loader_processes_trains_and_ends(run, shards, tmp_path):
    run(
        "train.py", "--config-name=esdcodec_smoke", f"machine.shards={shards}", f"trainer.output_dir={tmp_path}/run",
        "data.num_workers=2", "model.discriminator=null",
    )  # fmt: skip
    assert json.loads((tmp_path / "run/status.json").read_text()) == {"status": "finished", "step": 2}
