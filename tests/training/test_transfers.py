"""A step of a GPU waits for nothing: seen on a device that is only pretended, where every wait is counted."""

import runpy
from pathlib import Path

import pytest
import torch

from tests.training.runs import SMALL, make_trainer

# by its path: packages of other projects are called `benchmarks`, too
_SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks/transfers.py"))
PRETENDED, Transfers, pretended = (_SCRIPT[name] for name in ("PRETENDED", "Transfers", "pretended"))


@pytest.mark.parametrize(
    ("action", "counted"),
    [
        (lambda x: x + torch.ones(2, 3, device=PRETENDED), {}),
        (lambda x: torch.ones(3).to(PRETENDED), {"to device and waited for": 1}),
        (lambda x: torch.ones(3).to(PRETENDED, non_blocking=True), {"to device": 1}),
        (lambda x: torch.tensor([1.0, 2.0], device=PRETENDED), {"to device and waited for": 1}),
        (lambda x: x.new_tensor(1.0), {"to device and waited for": 1}),
        (lambda x: x.cpu(), {"to host and waited for": 1}),
        (lambda x: x.to("cpu", non_blocking=True), {"to host": 1}),
        (lambda x: x.tolist(), {"to host and waited for": 1}),
        (lambda x: x.sum().item(), {"values asked for": 1}),
        (lambda x: bool((x > 0).all()), {"values asked for": 1}),
        (lambda x: torch.ones(3)[torch.ones(3) > 0], {}),
    ],
)
def test_what_is_counted(action, counted):
    x = torch.ones(2, 3, device=PRETENDED)
    with Transfers(PRETENDED) as transfers:
        action(x)
    assert dict(transfers.counts) == counted
    assert transfers.waits == sum(n for kind, n in counted.items() if kind not in ("to device", "to host"))


CASES = {
    "everything": (),
    "no discriminators": ("model.discriminator=null",),
    "semantic-only steps": ("trainer.semantic_only_probability=1",),
    "average and Muon": (
        "trainer.ema_decay=0.9",
        "trainer.generator.muon_lr=0.01",
        "trainer.discriminator.muon_lr=0.01",
    ),
    "accumulation": ("trainer.gradient_accumulation=2",),
    "a teacher": ("+model.teacher={{path: {0}, statistics: {0}/stats.pt, layer: 2, pool: 2}}",),
}


@pytest.mark.parametrize("case", CASES)
def test_only_the_batch_is_copied_and_nothing_is_waited_for(case, shards, w2v_bert, tmp_path):
    small = () if "no disc" in case else (SMALL,)
    overrides = (each.format(w2v_bert) if "teacher" in each else each for each in CASES[case])
    trainer = make_trainer(f"machine.shards={shards}", f"trainer.output_dir={tmp_path}", *small, *overrides)
    batches = trainer.data.batches(0)
    trainer.take_step(batches)
    n_batches, per_batch = trainer.settings.gradient_accumulation, 2 if "teacher" in case else 1
    with pretended(trainer):
        for step in range(3):
            with Transfers(PRETENDED) as transfers:
                trainer.take_step(batches)
            if step > 0:  # in the first, windows and filters come to the device
                # what comes to the host says whether the step was finite, and is looked at when the next is under way
                assert dict(transfers.counts) == {"to device": n_batches * per_batch, "to host": 1}, transfers.where
