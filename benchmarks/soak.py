"""Two ranks that are killed and pre-empted at random, resumed, and end with the bits of a run that nothing happened to.

    python benchmarks/soak.py [FOLDER] [--times 10] [--steps 60] [--workers 1] [--fork] [--seed 0]

Takes some minutes on a CPU. Exits with 1 if a tensor of the last checkpoints differs, if a run fails, or if it was done
before it was disturbed so often.
"""

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
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


def start(shards: str, folder: Path, args: argparse.Namespace, log: Path) -> "subprocess.Popen | Forked":
    """Two CPU processes, below a launcher that has a process group of its own."""
    settings = [
        f"machine.shards={shards}", f"trainer.output_dir={folder}", f"trainer.max_steps={args.steps}", SMALL,
        "trainer.checkpoint_every=3", "trainer.validate_every=10", "trainer.sample_every=1000", "trainer.ema_decay=0.9",
        "trainer.continuous_steps=4", "trainer.fit_batches=2", "trainer.generator.muon_lr=0.01",
        "trainer.gradient_accumulation=2", "trainer.process_timeout=900", f"data.num_workers={args.workers}",
    ]  # fmt: skip
    arguments = ["--config-name=esdcodec_smoke", *settings]
    if args.fork:
        return Forked(arguments, log)
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--num_machines=1", "--multi_gpu"]
    command = [*launcher, "--num_processes=2", "--mixed_precision=no", "--dynamo_backend=no", "train.py"]
    with open(log, "ab") as output:
        return subprocess.Popen(
            [*command, *arguments], stdout=output, stderr=output, cwd=ROOT, env=ENVIRONMENT, start_new_session=True
        )


class Forked:
    """A launcher and two ranks that are forked from this process, which has imported all that they need."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        import esdcodec.training.setup  # noqa: F401

        self.returncode: int | None = None
        self.pid = os.fork()
        if not self.pid:
            os.setsid()
            output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            for stream in (1, 2):
                os.dup2(output, stream)
            os._exit(self._launch(arguments))

    def _launch(self, arguments: list[str]) -> int:
        """As torchrun: when one rank has failed, the other is told, and killed after 30 seconds."""
        with socket.socket() as found:
            found.bind(("localhost", 0))
            port = found.getsockname()[1]
        ranks = {}
        for rank in ("0", "1"):
            pid = os.fork()
            if not pid:
                os.setsid()
                there = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}
                os.environ |= {**ENVIRONMENT, **there, "MASTER_PORT": str(port)}
                os.chdir(ROOT)
                os._exit(self._train(arguments))
            ranks[pid] = rank
        failed, end = 0, float("inf")
        while ranks:
            pid, status = os.waitpid(-1, os.WNOHANG)
            ranks.pop(pid, None)
            if pid and status:
                failed, end = 1, min(end, time.monotonic() + 30)
                for other in ranks:
                    os.kill(other, signal.SIGTERM)
            if time.monotonic() > end:
                for other in ranks:
                    os.kill(other, signal.SIGKILL)
            time.sleep(0.05)
        return failed

    def _train(self, arguments: list[str]) -> int:
        from esdcodec.cli.train import main as train

        try:
            return train(arguments)
        except SystemExit as left:
            return left.code if isinstance(left.code, int) else 1
        except BaseException:
            traceback.print_exc()
            return 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float = float("inf")) -> int:
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise TimeoutError(f"the run did not end in {timeout:.0f} s")
            time.sleep(0.05)
        return self.returncode or 0


def ranks(launcher: int) -> list[int]:
    """Process ids of the two trainers."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    names = (b"train.py", Path(__file__).name.encode())
    return [pid for pid in map(int, children) if any(n in Path(f"/proc/{pid}/cmdline").read_bytes() for n in names)]


def kill(process: subprocess.Popen | Forked) -> None:
    """End launcher and ranks, which have sessions of their own."""
    if process.poll() is None:
        for pid in (process.pid, *ranks(process.pid)):
            os.kill(pid, signal.SIGKILL)
        process.wait()


def last_step(folder: Path) -> int:
    return max((int(p.name[-8:]) for p in folder.glob("checkpoint-*[0-9]")), default=0)


def disturb(process: subprocess.Popen | Forked, folder: Path, rng: random.Random) -> str:
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
    parser.add_argument("--fork", action="store_true", help="start quickly, without accelerate launch")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, happened = random.Random(args.seed), []
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        folder = Path(temporary)
        (folder / "shards").mkdir()
        shards = make_shards(folder / "shards", "flac", 24000, n_shards=2, per_shard=8)
        if start(shards, folder / "straight", args, folder / "log").wait():
            sys.exit((folder / "log").read_text()[-3000:])
        print(f"{args.steps} steps undisturbed", flush=True)
        while len(happened) < args.times:
            process = start(shards, folder / "disturbed", args, folder / "log")
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
        if start(shards, folder / "disturbed", args, folder / "log").wait():
            sys.exit((folder / "log").read_text()[-3000:])
        last = f"checkpoint-{args.steps:08d}"
        different = differences(folder / "straight" / last, folder / "disturbed" / last)
    print(f"{dict(Counter(happened))}; " + (f"different: {different[:5]}" if different else "the same bits"))
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
