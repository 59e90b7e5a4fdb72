"""How long training stands still for a checkpoint: when it is written beside the training, and when it is waited for.

    python benchmarks/checkpoint.py [FOLDER] [--model 25hz] [--rounds 3]

Codec and discriminators of a file of `conf/model` with random weights, two moments of each and a moving average, are
saved and exported into FOLDER. The first round needs new memory; the others write over it. `beside` is the time in
which `Run.save` holds the training up, `written` the time until all is on the disk.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from loader import make_shards

from esdcodec.config import config_folder
from esdcodec.training.setup import make_trainer
from esdcodec.training.trainer import Trainer


def prepare(model: str, folder: Path) -> Trainer:
    """A trainer whose optimizers have their moments, as after a step."""
    (folder / "shards").mkdir()
    shards = make_shards(folder / "shards", "flac", 24000, n_shards=1, per_shard=2)
    overrides = [
        f"model={model}", "model.teacher=null", f"machine.shards={shards}", f"trainer.output_dir={folder}/run",
        "trainer.ema_decay=0.999", "trainer.tracker=null", "data.validation=null", "data.num_workers=0",
    ]  # fmt: skip
    with initialize_config_dir(str(config_folder().resolve()), version_base="1.3"):
        trainer = make_trainer(compose("esdcodec_train", overrides=overrides))
    for learner in trainer.task.learners:
        for parameter in learner.network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        learner.optimizer.step()
        learner.optimizer.zero_grad()
    return trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="on the disk to measure")
    parser.add_argument("--model", default="25hz")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        trainer = prepare(args.model, Path(temporary))
        run = trainer.run
        with run.running():
            for number in range(args.rounds):
                run.progress.step += 1
                started = time.perf_counter()
                run.save(trainer.task.export_later)
                beside = time.perf_counter() - started
                run.wait()
                written = time.perf_counter() - started
                print(f"checkpoint {number + 1}: beside {beside:.2f} s, written {written:.2f} s", flush=True)
        size = sum(path.stat().st_size for path in run.last_checkpoint.iterdir())
        export = sum(path.stat().st_size for path in (run.folder / "export").iterdir())
        print(f"{args.model} on {trainer.accelerator.device}: {size / 1e9:.2f} GB, export {export / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
