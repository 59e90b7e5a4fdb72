"""Real-time factors of encode and decode, on this machine.

    python benchmarks/inference.py [--seconds 1 10] [--threads 2]

Prints a table for the bundled model and for one of the published size with random weights: median of some runs, after a
first one that is not counted.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

import esdcodec
from esdcodec import ESDCodec


def median_seconds(function: Callable[[], object], runs: int) -> float:
    function()
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, nargs="+", default=[1, 10])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--n-quantizers", type=int, default=3)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    n = args.n_quantizers

    print(f"{args.threads} threads, torch {torch.__version__}, float32, {n} codebooks; times real time")
    print(f"{'model':10} {'seconds':>8} {'encode':>8} {'decode':>8}")
    for name, codec in (("25hz_nano", esdcodec.load(device="cpu")), ("full size", ESDCodec().eval())):
        for seconds in args.seconds:
            audio = 0.1 * torch.randn(int(seconds * codec.sample_rate))
            codes = codec.encode(audio, n_quantizers=n)
            encode = median_seconds(lambda: codec.encode(audio, n_quantizers=n), args.runs)  # noqa: B023
            decode = median_seconds(lambda: codec.decode(codes), args.runs)  # noqa: B023
            print(f"{name:10} {seconds:8g} {seconds / encode:8.2f} {seconds / decode:8.2f}")


if __name__ == "__main__":
    main()
