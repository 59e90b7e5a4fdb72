"""Two ranks that are killed and pre-empted at random, resumed, and end with the bits of a run that nothing happened to.

    python benchmarks/soak.py [FOLDER] [--times 10] [--steps 80] [--seed 0]

Takes some minutes on a CPU. Exits with 1 if anything differs.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from loader import make_shards
from safetensors.torch import load_file

ROOT = Path(__file__).parents[1]
SMALL = (
    "model.discriminator={periods: [2], period_channels: [4], windows: [512], resolution_channels: 2, bands: [0, 1]}"
)
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}


def start(shards: str, folder: Path, steps: int, log: Path) -> subprocess.Popen:
    """`accelerate launch` on two CPU processes, in a process group of its own."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--num_machines=1", "--multi_gpu"]
    settings = [
        f"machine.shards={shards}", f"trainer.output_dir={folder}", f"trainer.max_steps={steps}", SMALL,
        "trainer.checkpoint_every=3", "trainer.validate_every=10", "trainer.sample_every=1000", "trainer.ema_decay=0.9",
        "trainer.continuous_steps=4", "trainer.fit_batches=2", "trainer.generator.muon_lr=0.01", "data.num_workers=1",
        "trainer.gradient_accumulation=2", "trainer.process_timeout=60",
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


def last_step(folder: Path) -> int:
    return max((int(p.name[-8:]) for p in folder.glob("checkpoint-*[0-9]")), default=0)


def disturb(process: subprocess.Popen, folder: Path, rng: random.Random) -> str:
    """Something that happens to a run some steps after it went on; what it was."""
    target = last_step(folder) + rng.choice([0, 3, 6])
    while process.poll() is None and last_step(folder) <= target:
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 2))
    if process.poll() is not None:
        return "nothing"
    kind = rng.choice(["killed", "one rank killed", "pre-empted"])
    pids = ranks(process.pid)
    if not pids:
        process.wait(timeout=180)
        return "nothing"
    if kind == "killed":
        for pid in (process.pid, *pids):  # the ranks have sessions of their own
            os.kill(pid, signal.SIGKILL)
    elif kind == "one rank killed":
        os.kill(rng.choice(pids), signal.SIGKILL)
    else:
        for pid in pids[: rng.choice([1, 2])]:  # both are told, or one
            os.kill(pid, rng.choice([signal.SIGTERM, signal.SIGUSR1]))
    process.wait(timeout=180)
    return kind


def differences(left: Path, right: Path) -> list[str]:
    """Tensors in which two checkpoints differ."""
    found = []
    for path in sorted(left.glob("model*.safetensors")):
        ours, theirs = load_file(path), load_file(right / path.name)
        found += [f"{path.name} {name}" for name in ours if not ours[name].equal(theirs[name])]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--times", type=int, default=10, help="that something happens (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        folder = Path(temporary)
        (folder / "shards").mkdir()
        shards = make_shards(folder / "shards", "flac", 24000, n_shards=2, per_shard=8)
        if start(shards, folder / "straight", args.steps, folder / "log").wait():
            sys.exit((folder / "log").read_text()[-3000:])
        happened: list[str] = []
        while True:
            process = start(shards, folder / "disturbed", args.steps, folder / "log")
            if len(happened) < args.times:
                kind = disturb(process, folder / "disturbed", rng)
                if kind == "nothing":  # it was done before
                    break
                happened.append(kind)
                print(f"{kind} at step {last_step(folder / 'disturbed')}", flush=True)
            else:
                process.wait()
                break
        if process.returncode:
            sys.exit((folder / "log").read_text()[-3000:])
        last = f"checkpoint-{args.steps:08d}"
        different = differences(folder / "straight" / last, folder / "disturbed" / last)
    print(f"{len(happened)} times disturbed; " + (f"different: {different[:5]}" if different else "the same bits"))
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
