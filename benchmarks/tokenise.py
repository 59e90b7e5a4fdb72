"""How fast speech becomes tokens on this machine, beside the simple loop and the network alone, in the same run.

    python benchmarks/tokenise.py [SHARDS] [--minutes 20] [--jobs 2] [--engines local ray] [--rounds 3] [-n 3]

The corpus is made first: mp3 utterances of 1 to 12 s in many small tars, cut from SHARDS or the bundled sample. Each
way runs in processes of its own, which load the codec, code a tar to warm up, and begin together:

- network: what tokenise would encode, from memory, without reading or writing: the ceiling;
- tokenise: each process does every other shard, as it would with `--jobs`;
- simple loop: one process with all threads reads an utterance, encodes it and saves it, then the next.

With `--engines` whole commands are timed too, the start of their processes included (Ray's cluster is there already,
its own start is told apart): give enough minutes.

The ways are taken in turns. Where other work takes turns with this one, compare core seconds: they are how long the
processors worked for an hour of audio, and the hours per hour that an idle machine gives follow from them. `waits` is
the share of the time in which a process is not in the network.
"""

import argparse
import io
import json
import os
import random
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import torch

from esdcodec.audio import read
from esdcodec.cli.roundtrip import SAMPLE
from esdcodec.dataset.members import AUDIO
from esdcodec.dataset.shards import list_shards
from esdcodec.dataset.tar_stream import utterances
from esdcodec.infer.tokenise import TokeniseSettings, tokenise
from esdcodec.infer.tokenise.read import Recording, Unreadable, read_ahead, read_utterance, windows_ahead
from esdcodec.infer.tokenise.sources import Unit, find_units, utterances_of
from esdcodec.infer.tokenise.work import encode_window
from esdcodec.infer.tokenise.worker import Worker

RATE = 24000
CORES = len(os.sched_getaffinity(0))


def speech(shards: list[str]) -> Iterator[np.ndarray]:
    """Waveforms at `RATE`, endless."""
    while True:
        if not shards:
            yield read(SAMPLE, RATE)[0]
        for shard in shards:
            for sample in utterances(shard):
                content = next((sample[name] for name in AUDIO if name in sample), None)
                if content:
                    yield read(io.BytesIO(content), RATE)[0]


def make_corpus(folder: Path, source: list[str], minutes: float, per_shard: int) -> float:
    """Write tars of mp3 utterances of 1 to 12 s; their hours."""
    rng = random.Random(0)
    waveforms = speech(source)
    waiting, total, number = np.zeros(0, np.float32), 0.0, 0
    while total < 60 * minutes:
        with tarfile.open(folder / f"{number:06d}.tar", "w") as tar:
            for i in range(per_shard):
                seconds = rng.uniform(1, 12)
                while len(waiting) < seconds * RATE:
                    waiting = np.concatenate([waiting, next(waveforms)])
                utterance, waiting = waiting[: int(seconds * RATE)], waiting[int(seconds * RATE) :]
                buffer = io.BytesIO()
                soundfile.write(buffer, utterance, RATE, format="MP3")
                for extension, content in (("mp3", buffer.getvalue()), ("json", json.dumps({"text": "x"}).encode())):
                    member = tarfile.TarInfo(f"u{number:03d}_{i:04d}.{extension}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
                total += seconds
                if total >= 60 * minutes:
                    return total / 3600
        number += 1
    return total / 3600


class Done(NamedTuple):
    """What a process did after the start."""

    hours: float  # of audio
    seconds: float
    core_seconds: float
    network_seconds: float


Way = Callable[[Worker, list[Unit]], Callable[[], tuple[float, float]]]  # prepares; what it gives does the work:
# hours of audio, and seconds in the network


def network(worker: Worker, units: list[Unit]) -> Callable[[], tuple[float, float]]:
    windows: list[list[Recording | Unreadable]] = []
    for unit in units:
        recordings = read_ahead(utterances_of(unit), worker.codec.sample_rate, worker.settings)
        windows += windows_ahead(recordings, worker.settings)
    hours = sum(each.seconds for window in windows for each in window if isinstance(each, Recording)) / 3600

    def run() -> tuple[float, float]:
        started = time.perf_counter()
        for window in windows:
            encode_window(worker.codec, window, worker.settings.n_quantizers or 1, worker.settings)
        return hours, time.perf_counter() - started

    return run


def tokens(worker: Worker, units: list[Unit]) -> Callable[[], tuple[float, float]]:
    def run() -> tuple[float, float]:
        results = [worker.run(unit) for unit in units]
        if skipped := [each for manifest, _ in results for each in manifest.skipped]:
            raise SystemExit(f"tokenise left something out: {skipped[:3]}")
        return sum(manifest.seconds for manifest, _ in results) / 3600, sum(seconds for _, seconds in results)

    return run


def simple_loop(worker: Worker, units: list[Unit]) -> Callable[[], tuple[float, float]]:
    """What everybody writes."""

    def run() -> tuple[float, float]:
        seconds = spent = 0.0
        for unit in units:
            for sample in utterances(unit.shard or ""):
                audio, rate = soundfile.read(io.BytesIO(sample["mp3"]), dtype="float32")
                started = time.perf_counter()
                codes = worker.codec.encode(audio, rate, n_quantizers=worker.settings.n_quantizers)
                spent += time.perf_counter() - started
                np.save(worker.output / f"{sample['__key__']}.npy", codes[0].cpu().numpy().astype(np.uint16))
                seconds += len(audio) / rate
        return seconds / 3600, spent

    return run


def process(
    way: Way, settings: TokeniseSettings, corpus: Path, output: Path, part: int, jobs: int, start: Barrier,
    answer: Connection,
) -> None:  # fmt: skip
    """One of `jobs` processes: prepares, warms up, waits for the others, works."""
    torch.set_num_threads(max(1, CORES // jobs))
    output.mkdir(parents=True, exist_ok=True)
    worker = Worker(settings, output, None)
    worker.start()
    units = find_units([corpus], settings.group_size).units
    way(worker, units[-1:])()
    run = way(worker, units[part:-1:jobs])
    start.wait()
    seconds, core_seconds = time.perf_counter(), time.process_time()
    hours, spent = run()
    answer.send(Done(hours, time.perf_counter() - seconds, time.process_time() - core_seconds, spent))


def measured(way: Way, jobs: int, settings: TokeniseSettings, corpus: Path) -> tuple[float, float, float, float]:
    """Hours per hour, core seconds per hour of audio, share of the time outside of the network and of busy cores."""
    spawn = get_context("spawn")
    start = spawn.Barrier(jobs)
    with tempfile.TemporaryDirectory() as output:
        pipes = [spawn.Pipe() for _ in range(jobs)]
        processes = [
            spawn.Process(target=process, args=(way, settings, corpus, Path(output), part, jobs, start, theirs))
            for part, (_, theirs) in enumerate(pipes)
        ]
        for each in processes:
            each.start()
        for _, theirs in pipes:
            theirs.close()  # so that a pipe ends with its process
        done: list[Done] = []
        waiting = [ours for ours, _ in pipes]
        try:
            while waiting:
                for ours in wait(waiting):
                    assert isinstance(ours, Connection)
                    done.append(ours.recv())
                    waiting.remove(ours)
        except EOFError:
            start.abort()  # which the others wait at
            raise SystemExit("a process ended without a result") from None
        finally:
            for each in processes:
                each.join()
    hours, core_seconds = sum(each.hours for each in done), sum(each.core_seconds for each in done)
    wall = max(each.seconds for each in done)
    waits = 1 - sum(each.network_seconds for each in done) / (wall * jobs)
    return 3600 * hours / wall, core_seconds / hours, waits, core_seconds / wall / CORES


def command(engine: str, jobs: int, settings: TokeniseSettings, corpus: Path) -> tuple[float, float, float, float]:
    """As `measured`, of all that `tokenise` does."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as output:
        summary = tokenise(
            [corpus], output, settings, jobs=jobs, engine=engine, threads=max(1, CORES // jobs)
        )  # fmt: skip
    if not summary.complete:
        raise SystemExit(f"tokenise on {engine} left something out: {summary}")
    wall = time.perf_counter() - started
    return 3600 * summary.hours / wall, float("nan"), 1 - summary.network_seconds / (wall * jobs), float("nan")


def start_ray() -> None:
    """A cluster of this machine, to which `tokenise` connects."""
    import ray

    started = time.perf_counter()
    ray.init("local", num_cpus=CORES, include_dashboard=False, log_to_driver=False, logging_level="warning")
    print(f"Ray was there after {time.perf_counter() - started:.1f} s")


def reading(corpus: Path, settings: TokeniseSettings) -> float:
    """Core seconds that an hour of audio takes to read, decode and resample, in one thread."""
    seconds, started = 0.0, time.process_time()
    for unit in find_units([corpus], settings.group_size).units[:2]:
        for item in utterances_of(unit):
            recording = read_utterance(item, RATE, settings)
            seconds += recording.seconds if isinstance(recording, Recording) else 0.0
    return (time.process_time() - started) * 3600 / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", nargs="?", help="speech to cut the corpus from (default: the bundled sample)")
    parser.add_argument("--minutes", type=float, default=20, help="of audio (default: %(default)s)")
    parser.add_argument("--per-shard", type=int, default=10, help="utterances (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=CORES, help="processes (default: one for each core)")
    parser.add_argument("--engines", nargs="*", default=[], choices=["local", "ray"], help="of whole commands")
    parser.add_argument("--readers", type=int, default=2)
    parser.add_argument("--batch-seconds", type=float, help="(default: as tokenise)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="25hz_nano")
    parser.add_argument("-n", type=int, default=3, help="codebooks (default: %(default)s)")
    args = parser.parse_args()
    settings = TokeniseSettings(
        args.model, args.n, readers=args.readers, batch_seconds=args.batch_seconds, device="cpu"
    )  # fmt: skip
    ways: dict[str, tuple[Way, int]] = {
        "network": (network, args.jobs), "tokenise": (tokens, args.jobs), "simple loop": (simple_loop, 1),
    }  # fmt: skip
    commands = {f"on {engine}": engine for engine in args.engines}
    results: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in (*ways, *commands)}
    with tempfile.TemporaryDirectory() as temporary:
        corpus = Path(temporary)
        hours = make_corpus(corpus, list_shards(args.shards) if args.shards else [], args.minutes, args.per_shard)
        print(f"{hours:.2f} h in {len(list_shards(corpus))} shards, {args.jobs} processes, {CORES} cores")
        print(f"load {os.getloadavg()[0]:.1f} before")
        print(f"reading, decoding, resampling: {reading(corpus, settings):.1f} core seconds per hour of audio")
        if "ray" in args.engines:
            start_ray()
        for _ in range(args.rounds):
            for name, (way, jobs) in ways.items():
                results[name].append(measured(way, jobs, settings, corpus))
            for name, engine in commands.items():
                results[name].append(command(engine, args.jobs, settings, corpus))
    print(f"load {os.getloadavg()[0]:.1f} after")
    print(f"{'':12}{'hours per hour':>15}{'core s per hour':>16}{'waits':>8}{'busy':>8}")
    middle = {name: [statistics.median(each) for each in zip(*values)] for name, values in results.items()}
    for name, (rate, core_seconds, waits, busy) in middle.items():
        print(
            f"{name:12}{rate:15.1f}{core_seconds:16.1f}{waits:8.0%}{busy:8.0%}".replace("nan%", "  –").replace(
                "nan", "  –"
            )
        )
    for i, what in enumerate(("by the clock", "in core seconds")):
        of = {name: values[i] if i == 0 else 1 / values[i] for name, values in middle.items() if name in ways}
        loop = of["simple loop"]
        ratios = of["tokenise"] / of["network"], of["tokenise"] / loop, of["network"] / loop
        print("{}: tokenise / network {:.2f}, tokenise / loop {:.2f}, network / loop {:.2f}".format(what, *ratios))


if __name__ == "__main__":
    main()
