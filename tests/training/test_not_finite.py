"""Steps whose losses or gradients are not finite."""

import json
import time

import pytest
import torch
from torch.utils._pytree import tree_leaves

from esdcodec.training import checkpoint
from esdcodec.training import trainer as trainer_module
from esdcodec.training.trainer import Trainer
from tests.training.runs import SMALL, equal, in_process, scalars, train, weights


def test_a_run_of_such_steps_ends_it_and_names_the_last_good_checkpoint(shards, tmp_path, monkeypatch):
    base = in_process(shards, tmp_path, 2)
    train(*base)
    write = checkpoint.write
    monkeypatch.setattr(checkpoint, "write", lambda *a, **k: (time.sleep(1), write(*a, **k))[1])  # still, at the error
    more = ("trainer.max_steps=30", "trainer.max_skipped_steps=3", "trainer.loss_weights.mel=inf")
    with pytest.raises(FloatingPointError, match=r"3 steps in a row .* checkpoint is .*checkpoint-00000004"):
        train(*base, *more)
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["status"].startswith("failed")
    assert max(tmp_path.glob("checkpoint-*")).name == "checkpoint-00000004"
    assert all(torch.isfinite(t).all() for network in weights(tmp_path, 4) for t in network.values())


def test_with_what_the_message_says_it_goes_on(shards, tmp_path):
    base = in_process(shards, tmp_path, 30)
    broken = ("trainer.max_skipped_steps=3", "trainer.loss_weights.mel=inf")
    with pytest.raises(FloatingPointError, match="lower the learning rate or lengthen the warm-up"):
        train(*base, *broken)
    lower = ("trainer.generator.lr=1e-4", "trainer.generator.final_lr=1e-5", "trainer.generator.warmup_steps=9")
    trainer = train(*base, "trainer.max_steps=4", "trainer.max_skipped_steps=1", *lower)
    assert trainer.run.progress.step == 4
    (rate, _) = trainer.task.learners[0].schedule.get_last_lr()
    assert rate == pytest.approx(1e-4 * 5 / 9)  # that of the step to come


@pytest.mark.parametrize("lag", [0, 1], ids=["on a CPU", "with a device that works on the last step meanwhile"])
@pytest.mark.parametrize("more", [(), ("trainer.ema_decay=0.9", "trainer.generator.muon_lr=0.01")])
def test_one_such_step_is_left_out(shards, tmp_path, monkeypatch, caplog, lag, more):
    monkeypatch.setattr(trainer_module, "steps_behind", lambda device: lag)
    read = Trainer.read

    def poisoned(trainer, batches):
        batch, position = read(trainer, batches)
        if trainer.run.progress.step == 1:
            batch.audio[0, 0, 100] = float("inf")
        return batch, position

    monkeypatch.setattr(Trainer, "read", poisoned)
    every = ("trainer.max_steps=3", "trainer.checkpoint_every=1", "trainer.validate_every=3", *more)
    trainer = train(f"machine.shards={shards}", f"trainer.output_dir={tmp_path}", SMALL, *every)
    assert trainer.run.progress.skipped_steps == 1
    assert trainer.run.progress.skipped_in_a_row == 0
    assert equal(weights(tmp_path, 1), weights(tmp_path, 2))
    assert not equal(weights(tmp_path, 2), weights(tmp_path, 3))
    assert scalars(tmp_path)["skipped_steps"] == [0, 1, 1]
    (message,) = [r.getMessage() for r in caplog.records if "not finite" in r.getMessage()]
    assert "utterances: u" in message
    for part in ("optimizer.bin", "optimizer_1.bin", "custom_checkpoint_2.pkl"):  # moments; the average
        if (tmp_path / "checkpoint-00000001" / part).exists():
            before, after = (torch.load(tmp_path / f"checkpoint-0000000{step}" / part) for step in (1, 2))
            assert equal(*([{str(i): t for i, t in enumerate(tensors(each))}] for each in (before, after)))


def tensors(state):
    return [each for each in tree_leaves(state) if isinstance(each, torch.Tensor)]


def test_how_many_there_were_is_told_by_the_time_of_the_next_log_line(shards, tmp_path, monkeypatch, caplog):
    """A device is a step ahead of the host, which sees all that was skipped when it logs, validates or saves."""
    monkeypatch.setattr(trainer_module, "steps_behind", lambda device: 1)
    monkeypatch.setattr(Trainer, "_validate", lambda trainer: None)
    every = (f"trainer.{name}_every=100" for name in ("sample", "checkpoint"))
    more = ("trainer.max_steps=4", "trainer.log_every=2", "trainer.loss_weights.mel=inf", "model.discriminator=null")
    trainer = train(f"machine.shards={shards}", f"trainer.output_dir={tmp_path}", *every, *more)
    assert trainer.run.progress.skipped_steps == 4
    assert scalars(tmp_path)["skipped_steps"] == [2, 4]
    skipped = [r.getMessage().split(" is not")[0] for r in caplog.records if "was skipped" in r.getMessage()]
    assert [message.split()[-1] for message in skipped] == ["1", "2", "3", "4"]
