"""Run on two ranks by the tests: train, with what `FAULT` names going wrong, then compare the ranks."""

import os
import signal
import sys
import time
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

from esdcodec.config import config_folder
from esdcodec.dataset import tar_stream
from esdcodec.dataset.loader import Loaders
from esdcodec.training import checkpoint, tasks
from esdcodec.training import trainer as trainer_module
from esdcodec.training.state import TrainingState
from esdcodec.training.trainer import Trainer

FAULT, STEP = os.environ.get("FAULT", ""), int(os.environ.get("STEP", -1))
RANK = int(os.environ["RANK"])


def here(trainer: Trainer) -> bool:
    return trainer.run.progress.step == STEP and RANK == 1


class FaultyTrainer(Trainer):
    def read(self, batches):
        batch, position = super().read(batches)
        if FAULT == "not finite" and here(self):
            batch.audio.fill_(float("nan"))
        if FAULT == "crash" and here(self):
            raise OSError("the disk of rank 1 is gone")
        if FAULT == "told to stop" and here(self):
            self.run.interruption.received = True
        return batch, position

    def train(self):
        close, export_later = self.accelerator.end_training, self.task.export_later

        def compare():
            """The last thing of a run, which closes the process group; a rank that fails is alone in it."""
            if sys.exc_info()[0] is not None:
                return close()
            for learner in self.task.learners:
                parameters = torch.cat([p.detach().flatten() for p in learner.network.parameters()])
                assert torch.isfinite(parameters).all()
                ranks = self.accelerator.gather(parameters[None])
                assert torch.equal(ranks[0], ranks[1]), "the ranks' parameters differ"
            print(f"both ranks hold the same, {self.run.progress.skipped_steps} steps skipped", flush=True)
            close()

        def slow_export():
            write = export_later()

            def write_slowly(folder: Path):
                time.sleep(4)
                write(folder)

            return write_slowly

        if FAULT == "asleep" and RANK == 1:
            time.sleep(600)
        if FAULT == "other weights" and RANK == 1:
            with torch.no_grad():
                next(self.task.learners[0].network.parameters()).add_(1e-6)
        if FAULT == "told to stop":
            self.task.export_later = slow_export
        self.accelerator.end_training = compare
        super().train()


if FAULT == "old listing" and RANK == 1:
    checkpoint.every = lambda folder: []
if FAULT == "no retries":
    tar_stream.WAITS = ()
if FAULT == "main alone" and RANK == 1:

    def refused(*_, **__):
        raise AssertionError("this is for the main process")

    checkpoint._crc32 = checkpoint.write = TrainingState.take = refused
if FAULT == "unreadable" and RANK == 1:

    def unreadable(accelerator, folder):
        raise OSError("stale file handle")

    checkpoint.restore = unreadable
if FAULT == "told to stop at the start" and RANK == 0:
    Path(next(a for a in sys.argv if "output_dir" in a).split("=")[1]).mkdir(exist_ok=True)
    Loaders._index = lambda *_: signal.raise_signal(signal.SIGTERM)
trainer_module.Trainer = FaultyTrainer  # before what makes it is imported
with initialize_config_dir(str(config_folder().resolve()), version_base="1.3"):
    trainer = tasks.train(compose(os.environ.get("CONFIG", "esdcodec_smoke"), overrides=sys.argv[1:]))
assert trainer.accelerator.num_processes == 2
sys.stdout.flush()
os._exit(0)  # all is done and compared; torch's threads may abort an interpreter that ends while they do
