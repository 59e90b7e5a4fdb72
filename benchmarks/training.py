"""Where the time of a training step goes, in every precision, with and without torch.compile.

    python benchmarks/training.py [--model 25hz_nano] [--batch 3x4.0 12x3.2] [--teacher FOLDER] [--steps 5]
    python benchmarks/training.py --transfers   # copies between host and device, and waits, in a step; needs no GPU

Every row is a process of its own on the device that there is (small sizes on a CPU), trained on synthetic shards with
the discriminators of the model. `rest` is what of the whole step is none of the parts:
the codec's losses and backward pass, its adversarial pass, the optimizers. `peak` is the share of the arithmetic that
one large matrix product reaches on this device in this precision, in the same process.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

MODES = {  # name -> mixed precision, TF32, backend of torch.compile
    "fp32": ("no", False, "null"),
    "tf32": ("no", True, "null"),
    "bf16": ("bf16", False, "null"),
    "fp32 compiled": ("no", False, "inductor"),
    "bf16 compiled": ("bf16", False, "inductor"),
}


def seconds(function: Callable[[], object], steps: int) -> float:
    """Median time of some calls, after two that are not counted."""
    times = []
    for i in range(steps + 2):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        started = time.perf_counter()
        function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if i >= 2:
            times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2]


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large square matrix product."""
    n = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    return 2 * n**3 / seconds(lambda: a @ b, 5)


@contextmanager
def trainer_on(args: argparse.Namespace, mode: str) -> Iterator[Any]:
    """A trainer on synthetic shards."""
    from hydra import compose, initialize_config_dir
    from loader import make_shards

    from esdcodec.config import config_folder
    from esdcodec.training.setup import make_trainer

    precision, tf32, backend = MODES[mode]
    size, length = args.batch[0].split("x")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "shards").mkdir()
        shards = make_shards(Path(folder) / "shards", "mp3", 24000, n_shards=2, per_shard=20)
        overrides = [
            f"model={args.model}", f"machine.shards={shards}", f"trainer.output_dir={folder}/run",
            f"trainer.batch_size={size}", f"data.segment_speech.segment_length={round(float(length) * 24000)}",
            f"trainer.mixed_precision={precision}", f"trainer.tf32={tf32}", f"trainer.compile={backend}",
            "trainer.tracker=null", f"data.num_workers={args.num_workers}", "data.shuffle_window=10",
        ]  # fmt: skip
        overrides.append("model.teacher=null")
        if args.teacher:
            overrides[-1] = f"+model.teacher={{path: {args.teacher}, statistics: null, layer: 17, pool: 2}}"
        with initialize_config_dir(str(config_folder().resolve()), version_base="1.3"):
            yield make_trainer(compose("esdcodec_train", overrides=overrides))


def measure(args: argparse.Namespace) -> dict[str, float]:
    """One row, in this process."""
    from torch.utils.flop_counter import FlopCounterMode

    from esdcodec.model_codec.losses import discriminator_loss

    precision, _, backend = MODES[args.one]
    with trainer_on(args, args.one) as trainer:
        device = trainer.accelerator.device
        objective = trainer.task.objective
        batches = trainer.data.batches(0)
        batch = next(batches).to(device)
        n_quantizers = torch.full((len(batch.audio),), 3, device=device)

        def forward() -> torch.Tensor:
            with trainer.accelerator.autocast():
                return objective.codec.network(batch.audio, n_quantizers).audio

        fake = forward().detach()

        def discriminator_step() -> None:
            trainer.accelerator.backward(discriminator_loss(*objective.adversarial.discriminate(batch.audio, fake)))

        def whole_step() -> None:
            trainer.take_step(batches)
            trainer.look_back()

        row = {"forward": seconds(forward, args.steps), "discriminator": seconds(discriminator_step, args.steps)}
        row["teacher"] = seconds(lambda: objective.teacher(**batch.features), args.steps) if args.teacher else 0.0
        trainer.window.clear()
        row["whole"] = seconds(whole_step, args.steps)
        row["loader"] = trainer.window.waited / (args.steps + 2)
        with FlopCounterMode(display=False) as counter:
            if backend == "null":
                whole_step()
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        row["peak"] = counter.get_total_flops() / row["whole"] / matmul_peak(device, dtype)
        if device.type == "cuda":
            row["memory"] = torch.cuda.max_memory_allocated() / 2**30
        else:
            row["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        batches.close()
    return row


def count_transfers(args: argparse.Namespace) -> None:
    """Say what a step copies and waits for, on the GPU that there is or on a pretended device."""
    from transfers import Transfers, pretended

    with trainer_on(args, "fp32") as trainer:
        batches = trainer.data.batches(0)
        trainer.take_step(batches)
        real = trainer.accelerator.device
        with nullcontext(real) if real.type != "cpu" else pretended(trainer) as device:
            for _ in range(2):  # constants come to the device in the first
                with Transfers(device) as transfers:
                    trainer.take_step(batches)
        batches.close()
    where = "a pretended device" if device != real else torch.cuda.get_device_name()
    print(f"{args.model}, one step on {where}: the host waits {transfers.waits} times")
    for operator, number in sorted(transfers.where.items()):
        print(f"{number:6} {operator}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = "25hz" if torch.cuda.is_available() else "25hz_nano"
    parser.add_argument("--model", default=default, help="a file of conf/model (default here: %(default)s)")
    parser.add_argument("--batch", nargs="+", default=["3x4.0", "12x3.2"], help="segments x seconds")
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--teacher", help="folder of w2v-BERT; without it, no teacher")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--num-workers", type=int, default=8 if torch.cuda.is_available() else 1)
    parser.add_argument("--transfers", action="store_true", help="count copies and waits instead")
    parser.add_argument("--one", choices=MODES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args)))
        return
    if args.transfers:
        count_transfers(args)
        return

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(f"{args.model} on {device}, torch {torch.__version__}; milliseconds")
    parts = ("loader", "forward", "teacher", "discriminator", "rest", "whole")
    print(f"{'batch':8}{'mode':15}" + "".join(f"{p:>14}" for p in (*parts, "steps/s", "audio s/s", "GiB", "peak")))
    failed = False
    for batch in args.batch:
        size, length = batch.split("x")
        for mode in args.modes:
            options = ["--model", args.model, "--batch", batch, "--steps", args.steps]
            options += ["--num-workers", args.num_workers]
            options += ["--teacher", args.teacher] if args.teacher else []
            result = subprocess.run(
                [sys.executable, __file__, "--one", mode, *map(str, options)],
                capture_output=True, text=True, check=False,
                env={**os.environ, "PYTHONWARNINGS": "ignore"},
            )  # fmt: skip
            if result.returncode:
                lines = result.stderr.strip().splitlines()
                reason = next(
                    (line for line in reversed(lines) if re.match(r"[\w.]+(Error|Exception)", line)), lines[-1]
                )
                print(f"{batch:8}{mode:15}  failed: {reason[:200]}")
                failed = True
                continue
            row = json.loads(result.stdout.strip().splitlines()[-1])
            row["rest"] = row["whole"] - sum(row[name] for name in ("loader", "forward", "teacher", "discriminator"))
            times = "".join(f"{1000 * row[name]:14.0f}" for name in parts)
            rate = 1 / row["whole"]
            audio = rate * int(size) * float(length)
            peak = f"{100 * row['peak']:13.0f}%" if row["peak"] else f"{'':>14}"
            print(f"{batch:8}{mode:15}{times}{rate:14.2f}{audio:14.1f}{row['memory']:14.1f}{peak}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
