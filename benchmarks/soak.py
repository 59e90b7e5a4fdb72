"""Two ranks that are killed and pre-empted at random, resumed, and end with the bits of a run that nothing happened to.

    python benchmarks/soak.py [FOLDER] [--times 10] [--steps 60] [--workers 1] [--seed 0]

Takes some minutes on a CPU. Exits with 1 if a tensor of the last checkpoints differs, if a run fails, or if it was done
before it was disturbed so often.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from loader import make_shards
from safetensors.torch import load_file

ROOT = Path(__file__).parents[1]
WAIT = 1200  # seconds for a run to end
SMALL = (
    "model.discriminator={periods: [2], period_channels: [4], windows: [512], resolution_channels: 2, bands: [0, 1]}"
)
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}


def start(shards: str, folder: Path, steps: int, workers: int, log: Path) -> subprocess.Popen:
    """`accelerate launch` on two CPU processes, in a process group of its own."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--num_machines=1", "--multi_gpu"]
    settings = [
        f"machine.shards={shards}", f"trainer.output_dir={folder}", f"trainer.max_steps={steps}", SMALL,
        "trainer.checkpoint_every=3", "trainer.validate_every=10", "trainer.sample_every=1000", "trainer.ema_decay=0.9",
        "trainer.continuous_steps=4", "trainer.fit_batches=2", "trainer.generator.muon_lr=0.01",
        "trainer.gradient_accumulation=2", "trainer.process_timeout=900", f"data.num_workers={workers}",
    ]  # fmt: skip
    command = [*launcher, "--num_processes=2", "--mixed_precision=no", "--dynamo_backend=no", "train.py"]
    with open(log, "ab") as output:
        return subprocess.Popen(
            [*command, "--config-name=esdcodec_smoke", *settings],
            stdout=output, stderr=output, cwd=ROOT, env=ENVIRONMENT, start_new_session=True,
        )  # fmt: skip


def ranks(launcher: int) -> list[int]:
    """Process ids of the two trainers."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return [pid for pid in map(int, children) if b"train.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def kill(process: subprocess.Popen) -> None:
    """End launcher and ranks, which have sessions of their own."""
    if process.poll() is None:
        for pid in (process.pid, *ranks(process.pid)):
            os.kill(pid, signal.SIGKILL)
        process.wait()


def last_step(folder: Path) -> int:
    return max((int(p.name[-8:]) for p in folder.glob("checkpoint-*[0-9]")), default=0)


def disturb(process: subprocess.Popen, folder: Path, rng: random.Random) -> str:
    """Something that happens to a run while it starts, or after some more checkpoints; what it was."""
    more = rng.choice([0, 1, 1, 2])  # checkpoints
    target = last_step(folder) + 3 * more
    while process.poll() is None and (last_step(folder) < target if more else not ranks(process.pid)):
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 2) if more else rng.uniform(0, 20))
    if process.poll() is not None:
        return "nothing"
    kind = rng.choice(["killed", "one rank killed", "pre-empted"])
    pids = ranks(process.pid)
    if not pids:
        process.wait(timeout=WAIT)
        return "nothing"
    if kind == "killed":
        kill(process)
    elif kind == "one rank killed":
        os.kill(rng.choice(pids), signal.SIGKILL)
    else:
        for pid in pids[: rng.choice([1, 2])]:  # both are told, or one
            os.kill(pid, rng.choice([signal.SIGTERM, signal.SIGUSR1]))
    process.wait(timeout=WAIT)
    return kind


def tensors(value: object, name: str) -> dict[str, torch.Tensor]:
    """All tensors in a nested state, by where they are."""
    if isinstance(value, torch.Tensor):
        return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return {where: each for key, inner in items for where, each in tensors(inner, f"{name}/{key}").items()}


def read(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Weights, moments, averages and random numbers of a checkpoint."""
    found = {}
    for path in checkpoint.iterdir():
        if path.suffix != ".json":
            content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=False)
            found |= tensors(content, path.name)
    return found


def differences(left: Path, right: Path) -> list[str]:
    """Tensors in which two checkpoints differ."""
    ours, theirs = read(left), read(right)
    return sorted(
        name
        for name in {*ours, *theirs}
        if name not in ours or name not in theirs or not ours[name].equal(theirs[name])
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--times", type=int, default=10, help="that something happens (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--workers", type=int, default=1, help="of each rank's loader (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, happened = random.Random(args.seed), []
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        folder = Path(temporary)
        (folder / "shards").mkdir()
        shards = make_shards(folder / "shards", "flac", 24000, n_shards=2, per_shard=8)
        if start(shards, folder / "straight", args.steps, args.workers, folder / "log").wait():
            sys.exit((folder / "log").read_text()[-3000:])
        print(f"{args.steps} steps undisturbed", flush=True)
        while len(happened) < args.times:
            process = start(shards, folder / "disturbed", args.steps, args.workers, folder / "log")
            try:
                kind = disturb(process, folder / "disturbed", rng)
            finally:
                kill(process)
            if kind == "nothing":
                sys.exit(
                    f"{(folder / 'log').read_text()[-3000:]}\nended with {process.returncode} after {len(happened)} "
                    "disturbances: more --steps are needed, or see above"
                )
            happened.append(kind)
            print(f"{kind} after checkpoint {last_step(folder / 'disturbed')}", flush=True)
        if start(shards, folder / "disturbed", args.steps, args.workers, folder / "log").wait():
            sys.exit((folder / "log").read_text()[-3000:])
        last = f"checkpoint-{args.steps:08d}"
        different = differences(folder / "straight" / last, folder / "disturbed" / last)
    print(f"{dict(Counter(happened))}; " + (f"different: {different[:5]}" if different else "the same bits"))
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
