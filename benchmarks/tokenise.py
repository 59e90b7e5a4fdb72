"""How fast speech becomes tokens on this machine, beside the simple loop and the network alone, in the same run.

    python benchmarks/tokenise.py [SHARDS] [--minutes 20] [--jobs 1 2] [--engines local ray] [--rounds 2] [-n 3]

The corpus is made first: mp3 utterances of 1 to 12 s in tars, cut from SHARDS or the bundled sample. "Simple loop"
reads an utterance, encodes it with all threads and saves it, then the next. "Network" encodes what tokenise would, from
memory, without reading or writing: the ceiling. The ways are taken in turns. Processes of `tokenise --jobs 2` start
anew for each run, and that is counted, so give enough minutes. So do Ray's actors, on a cluster of this machine that
is there already; its start is told apart. `waits` is the share of the time in which a process is
not in the network; `busy` is processor time by wall time and cores.
"""

import argparse
import io
import json
import os
import random
import resource
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import soundfile
import torch

import esdcodec
from esdcodec.audio import read
from esdcodec.cli.roundtrip import SAMPLE
from esdcodec.dataset.members import AUDIO
from esdcodec.dataset.shards import list_shards
from esdcodec.dataset.tar_stream import utterances
from esdcodec.infer.tokenise import TokeniseSettings, tokenise
from esdcodec.infer.tokenise.read import Recording, Unreadable, read_ahead, read_utterance
from esdcodec.infer.tokenise.sources import find_units, utterances_of
from esdcodec.infer.tokenise.work import _encode, _windows

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


def simple_loop(codec: esdcodec.ESDCodec, corpus: Path, output: Path, n: int) -> None:
    """What everybody writes."""
    output.mkdir()
    for shard in list_shards(corpus):
        for sample in utterances(shard):
            audio, rate = soundfile.read(io.BytesIO(sample["mp3"]), dtype="float32")
            codes = codec.encode(audio, rate, n_quantizers=n)
            np.save(output / f"{sample['__key__']}.npy", codes[0].cpu().numpy().astype(np.uint16))


def network_alone(corpus: Path, settings: TokeniseSettings, part: int, jobs: int) -> tuple[float, float]:
    """Hours and seconds of the network on what one of `jobs` processes reads, all in memory before."""
    torch.set_num_threads(max(1, CORES // jobs))
    codec = esdcodec.load(settings.model, device=settings.device)
    n = settings.n_quantizers or codec.n_codebooks
    windows: list[list[Recording | Unreadable]] = []
    for unit in find_units([corpus], settings.group_size).units[part::jobs]:
        windows += _windows(read_ahead(utterances_of(unit, []), codec.sample_rate, settings), settings)
    hours = sum(each.seconds for window in windows for each in window if isinstance(each, Recording)) / 3600
    _encode(codec, windows[0][:8], n, settings)
    started = time.perf_counter()
    for window in windows:
        _encode(codec, window, n, settings)
    return hours, time.perf_counter() - started


def network_rate(corpus: Path, settings: TokeniseSettings, jobs: int) -> float:
    """Hours per hour of the network alone in `jobs` processes."""
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        futures = [pool.submit(network_alone, corpus, settings, part, jobs) for part in range(jobs)]
        return sum(3600 * hours / seconds for hours, seconds in (future.result() for future in futures))


def processor_seconds() -> float:
    """Of this process and of those that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def timed(function: Callable[[], object]) -> tuple[float, float, object]:
    """Seconds, share of the cores in use, and the result."""
    started, before = time.perf_counter(), processor_seconds()
    result = function()
    seconds = time.perf_counter() - started
    return seconds, (processor_seconds() - before) / seconds / CORES, result


def reading(corpus: Path, settings: TokeniseSettings) -> float:
    """Core seconds that an hour of audio takes to read, decode and resample, in one thread."""
    seconds, started = 0.0, time.process_time()
    for unit in find_units([corpus], settings.group_size).units[:1]:
        for item in utterances_of(unit, []):
            recording = read_utterance(item, RATE, settings)
            seconds += recording.seconds if isinstance(recording, Recording) else 0.0
    return (time.process_time() - started) * 3600 / seconds


def start_ray() -> None:
    """A cluster of this machine, to which `tokenise` connects."""
    import ray

    started = time.perf_counter()
    ray.init("local", num_cpus=CORES, include_dashboard=False, log_to_driver=False, logging_level="warning")
    print(f"Ray was there after {time.perf_counter() - started:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", nargs="?", help="speech to cut the corpus from (default: the bundled sample)")
    parser.add_argument("--minutes", type=float, default=20, help="of audio (default: %(default)s)")
    parser.add_argument("--per-shard", type=int, default=50, help="utterances (default: %(default)s)")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, CORES])
    parser.add_argument("--engines", nargs="+", default=["local"], choices=["local", "ray"])
    parser.add_argument("--readers", type=int, default=2)
    parser.add_argument("--batch-seconds", type=float, default=TokeniseSettings.batch_seconds)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--model", default="25hz_nano")
    parser.add_argument("-n", type=int, default=3, help="codebooks (default: %(default)s)")
    args = parser.parse_args()
    settings = TokeniseSettings(
        args.model, args.n, readers=args.readers, batch_seconds=args.batch_seconds, device="cpu"
    )  # fmt: skip
    codec = esdcodec.load(args.model, device="cpu")
    results: dict[str, list[tuple[float, float, float]]] = {}  # hours per hour, waits, busy
    with tempfile.TemporaryDirectory() as temporary:
        corpus = Path(temporary) / "corpus"
        corpus.mkdir()
        hours = make_corpus(corpus, list_shards(args.shards) if args.shards else [], args.minutes, args.per_shard)
        print(
            f"{hours:.2f} h in {len(list_shards(corpus))} shards, {CORES} cores, load {os.getloadavg()[0]:.1f} before"
        )
        print(f"reading, decoding, resampling: {reading(corpus, settings):.1f} core seconds per hour of audio")
        codec.encode(torch.zeros(1, 1, 10 * RATE))
        if "ray" in args.engines:
            start_ray()
        for number in range(args.rounds):
            for jobs in args.jobs:
                rate = network_rate(corpus, settings, jobs)
                results.setdefault(f"network, {jobs} processes", []).append((rate, 0.0, float("nan")))
                for engine in args.engines:
                    output = Path(temporary) / f"tokens-{engine}-{jobs}-{number}"
                    options = {"jobs": jobs, "engine": engine, "threads": max(1, CORES // jobs)}
                    wall, busy, summary = timed(lambda: tokenise([corpus], output, settings, **options))  # noqa: B023
                    if not summary.complete:  # type: ignore[attr-defined]
                        raise SystemExit(f"tokenise with {options} left something out: {summary}")
                    waits = 1 - summary.network_seconds / (wall * jobs)  # type: ignore[attr-defined]
                    busy = busy if engine == "local" else float("nan")  # its processes are not of this one
                    name = f"tokenise --jobs {jobs}, {engine}"
                    results.setdefault(name, []).append((3600 * hours / wall, waits, busy))
            torch.set_num_threads(CORES)
            wall, busy, _ = timed(lambda: simple_loop(codec, corpus, Path(temporary) / f"loop-{number}", args.n))  # noqa: B023
            results.setdefault("simple loop", []).append((3600 * hours / wall, float("nan"), busy))
    print(f"load {os.getloadavg()[0]:.1f} after\n{'':26}{'hours per hour':>15}{'waits':>8}{'busy':>8}")
    for name, values in results.items():
        rate, waits, busy = map(statistics.median, zip(*values))
        print(f"{name:26}{rate:15.1f}{waits:8.0%}{busy:8.0%}".replace("nan%", "   –"))
    best = {kind: max(statistics.median(r for r, *_ in v) for k, v in results.items() if k.startswith(kind))
            for kind in ("network", "tokenise", "simple")}  # fmt: skip
    print(f"tokenise is {best['tokenise'] / best['simple']:.2f} times as fast as the simple loop")
    print(f"and {best['tokenise'] / best['network']:.0%} of the network alone")


if __name__ == "__main__":
    main()
