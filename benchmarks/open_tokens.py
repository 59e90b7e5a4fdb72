"""How long a tokenised corpus of very many shards takes to open, and how much memory, before anything of it is read.

    python benchmarks/open_tokens.py [--shards 45000] [--utterances 8]

The corpus is simulated: one shard of random codes, in the files that `tokenise` writes, and all others are links to it,
each with a manifest of its own. Everything was written just before, so the files are in the system's memory: on a slow
disk or server each manifest costs one read more, 16 of them at a time.
"""

import argparse
import io
import json
import os
import resource
import tarfile
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from esdcodec.dataset.token_manifests import finished_shards
from esdcodec.dataset.token_shards import FORMAT, HISTOGRAM, MANIFEST, TAR
from esdcodec.dataset.tokens import Tokens, TokenStream

SIZES = (16384, 1024, 1024)
FRAMES = 162  # 6.5 seconds
N = len(SIZES)


def make_corpus(folder: Path, n_shards: int, n_utterances: int) -> None:
    rng = np.random.default_rng(0)
    known = {"frames": FRAMES, "n_quantizers": N, "seconds": 6.5, "gain_db": 0.0, "model": "25hz_v1", "text": "x" * 80}
    with tarfile.open(folder / "shard.tar", "w") as tar:
        for i in range(n_utterances):
            array = io.BytesIO()
            np.save(array, np.stack([rng.integers(0, size, FRAMES) for size in SIZES]).astype(np.uint16))
            metadata = json.dumps(known | {"fingerprint": "f" * 64}).encode()
            for extension, content in (("codes.npy", array.getvalue()), ("json", metadata)):
                member = tarfile.TarInfo(f"u{i:04d}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    np.save(folder / "shard.npy", rng.integers(0, 2**16, sum(SIZES)).astype(np.uint16))
    for number in range(n_shards):
        name = folder / f"{number // 1000:03d}" / f"{number:06d}"
        name.parent.mkdir(exist_ok=True)
        os.link(folder / "shard.tar", f"{name}{TAR}")
        os.link(folder / "shard.npy", f"{name}{HISTOGRAM}")
        told = {
            "source": f"/data/speech/{number:06d}.tar", "model": "25hz_v1", "fingerprint": "f" * 64,
            "settings": {"n_quantizers": N, "dtype": "bfloat16", "format": "tar"}, "codebook_sizes": SIZES,
            "bytes": 10**6, "sha256": {TAR: "0" * 64, HISTOGRAM: "1" * 64}, "utterances": n_utterances,
            "seconds": 6.5 * n_utterances, "frames": FRAMES * n_utterances, "format": FORMAT,
            "skipped": [[f"u{i:04d}", "audio cannot be read: unexpected end of data"] for i in range(3)],
        }  # fmt: skip
        Path(f"{name}{MANIFEST}").write_text(json.dumps(told))
    (folder / "shard.tar").unlink()
    (folder / "shard.npy").unlink()


def manifests(folder: Path) -> None:
    finished_shards(folder)


def opened(folder: Path) -> None:
    Tokens(folder)


def first_batch(folder: Path) -> None:
    next(iter(TokenStream(Tokens(folder), batch_size=32)))


def measured(work: Callable[[Path], None], folder: Path, answer: Connection) -> None:
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    work(folder)
    seconds = time.perf_counter() - started
    answer.send((seconds, time.process_time(), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=45000)
    parser.add_argument("--utterances", type=int, default=8, help="of a shard (default: %(default)s)")
    args = parser.parse_args()
    spawn = get_context("spawn")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_corpus(folder, args.shards, args.utterances)
        print(f"{args.shards} shards of {args.utterances} utterances\n{'':34}{'s':>8}{'core s':>8}{'MiB':>8}")
        for name, work in (
            ("all manifests", manifests),
            ("Tokens, the index is made", opened),
            ("Tokens, with its index", opened),
            ("Tokens and a first batch", first_batch),
        ):
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=measured, args=(work, folder, theirs))
            process.start()
            seconds, core_seconds, mib = ours.recv()
            process.join()
            print(f"{name:34}{seconds:8.1f}{core_seconds:8.1f}{mib:8.0f}", flush=True)


if __name__ == "__main__":
    main()
