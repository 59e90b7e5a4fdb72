"""Run on two ranks by the tests: train, with one step that is broken on one rank if asked, then compare the ranks."""

import os
import sys

import torch
from hydra import compose, initialize_config_dir

from esdcodec.config import config_folder
from esdcodec.training.setup import make_trainer

with initialize_config_dir(str(config_folder().resolve()), version_base="1.3"):
    trainer = make_trainer(compose("esdcodec_smoke", overrides=sys.argv[1:]))
assert trainer.accelerator.num_processes == 2
read, close = trainer.read, trainer.accelerator.end_training


def broken_on_one_rank(batches):
    batch, position = read(batches)
    if trainer.run.progress.step == int(os.environ.get("BREAK_STEP", -1)) and trainer.accelerator.process_index == 1:
        batch.audio.fill_(float("nan"))
    return batch, position


def compare() -> None:
    for learner in trainer.task.learners:
        parameters = torch.cat([p.detach().flatten() for p in learner.network.parameters()])
        assert torch.isfinite(parameters).all()
        ranks = trainer.accelerator.gather(parameters[None])
        assert torch.equal(ranks[0], ranks[1]), "the ranks' parameters differ"
    print(f"both ranks hold the same, {trainer.run.progress.skipped_steps} steps skipped", flush=True)
    close()


trainer.read = broken_on_one_rank
trainer.accelerator.end_training = compare  # the last thing of a run, which closes the process group
trainer.train()
