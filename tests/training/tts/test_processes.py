"""Runs that are killed, and runs of two processes."""

import json
import signal

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("transformers")

from tests.training.runs import finish, on_two, scalars, start, wait_for
from tests.training.tts.corpus import SMOKE

STEPS = 6


@pytest.fixture
def settings(model, tokens):
    """Of a run that ends at step 6; `validate_every` is beyond."""
    return [
        f"machine.tokens={tokens}", f"model.codec={model}", f"trainer.max_steps={STEPS}", "trainer.checkpoint_every=1",
        "trainer.validate_every=100", "trainer.ema_decay=0.9", "data.max_tokens=100000",
    ]  # fmt: skip


def end(folder):
    """Weights, and how far the data was read."""
    checkpoint = folder / f"checkpoint-{STEPS:08d}"
    state = json.loads((checkpoint / "trainer.json").read_text())
    return load_file(checkpoint / "model.safetensors"), (state["position"], state["audio_seconds"])


@pytest.mark.slow
def test_killed_anywhere_it_ends_where_it_would_have_ended(settings, tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    small = [*settings, "data.batch_size=4", "data.num_workers=1"]
    finish(start(*small, f"trainer.output_dir={straight}", config=SMOKE))
    for step in (1, 3):
        process = start(*small, f"trainer.output_dir={killed}", config=SMOKE)
        wait_for(lambda step=step: (killed / f"checkpoint-{step:08d}").exists(), process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not (killed / f"checkpoint-{STEPS:08d}").exists()
    finish(start(*small, f"trainer.output_dir={killed}", config=SMOKE))
    (left, left_data), (right, right_data) = end(killed), end(straight)
    assert left_data == right_data
    assert all(torch.equal(left[name], right[name]) for name in right)
    assert scalars(killed)["loss/total"] == scalars(straight)["loss/total"]


@pytest.mark.slow
def test_two_processes_learn_what_one_does(settings, tmp_path):
    """From half the batch each, which have different numbers of codes."""
    one, two = tmp_path / "one", tmp_path / "two"
    finish(start(*settings, "data.batch_size=6", f"trainer.output_dir={one}", config=SMOKE))
    output = on_two(*settings, "data.batch_size=3", f"trainer.output_dir={two}", CONFIG=SMOKE)
    assert output.count("both ranks hold the same, 0 steps skipped") == 2
    (left, left_data), (right, right_data) = end(two), end(one)
    assert left_data == right_data
    for name in right:
        torch.testing.assert_close(left[name], right[name], rtol=1e-3, atol=1e-4, msg=name)
    assert scalars(two)["loss/total"] == pytest.approx(scalars(one)["loss/total"], rel=1e-4)
    assert scalars(two)["grad_norm/language_model"] == pytest.approx(scalars(one)["grad_norm/language_model"], rel=1e-3)
