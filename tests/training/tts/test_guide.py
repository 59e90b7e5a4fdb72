"""The guide: from recordings with their texts to codes of new texts."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")

import esdcodec
from esdcodec.cli.main import main
from tests.conftest import write_speech
from tests.training.runs import on_one_thread
from tests.training.tts.corpus import SMOKE

GUIDE = (Path(__file__).parents[3] / "docs/tts.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_commands_and_the_example_of_the_guide_run(model, tmp_path, monkeypatch):
    """With a small codec, on a CPU."""
    for i in range(4):
        write_speech(tmp_path / f"speech/s{i}.wav", seconds=0.5, seed=i)
        (tmp_path / f"speech/s{i}.txt").write_text(f"words {i}")
    monkeypatch.chdir(tmp_path)
    assert main(["tokenise", "speech", "-o", "tokens", "-n", "3", "--model", model, "--device", "cpu"]) == 0
    monkeypatch.setattr(sys, "argv", ["esdcodec"])
    with on_one_thread():
        assert main(["train", f"--config-name={SMOKE}", "machine.tokens=tokens", f"model.codec={model}"]) == 0
    run = Path("runs") / SMOKE
    assert json.loads((run / "status.json").read_text()) == {"status": "finished", "step": 2}
    shutil.copytree(run / "export", "runs/esdcodec_tts_ar_train/export")
    load = esdcodec.load
    monkeypatch.setattr(esdcodec, "load", lambda name: load(model, device="cpu"))
    (example,) = re.findall(r"^<!-- example: texts -->\n```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    found: dict = {}
    exec(example, found)
    assert found["stop"] in ("end", "length", "loop")
    assert found["rough"].shape == (1, 1, len(found["codes"]) * found["codec"].hop_length)
    assert len(found["more"]) == 1
