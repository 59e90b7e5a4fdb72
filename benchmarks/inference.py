"""Speed of encode and decode on this machine, beside the same weights run the plain way.

    python benchmarks/inference.py [--models nano full] [--dtypes float32 bfloat16] [--seconds 1 10 60] [--batch 1 8]
    python benchmarks/inference.py --profile --models full --seconds 10

For each it prints times real time, the ratio to the plain way (weight norm at every call, the effective codebook
recomputed, Snake step by step, 1-D convolutions), peak memory, and the share of what this machine's matrix products
reach in the same run. Medians of --runs, the ways taken in turn, after a first call that is not counted. In bfloat16 it
also prints what that costs: the share of equal semantic codes, and the signal-to-noise ratio of decoded audio.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

import esdcodec
from esdcodec import ESDCodec
from esdcodec.audio import read
from esdcodec.cli.roundtrip import SAMPLE
from esdcodec.evaluation.arithmetic import flops_of
from esdcodec.evaluation.memory import peak_memory
from esdcodec.model_codec import layers


@contextmanager
def plain_way(codec: ESDCodec) -> Iterator[None]:
    """Encode and decode by the plain network, with 1-D convolutions and Snake step by step."""
    names = {"conv1d": F.conv1d, "conv_transpose1d": F.conv_transpose1d}
    saved = {name: getattr(layers, name) for name in names}
    codec.inference_form = lambda: codec  # type: ignore[method-assign]
    for name, function in names.items():
        setattr(layers, name, function)
    try:
        yield
    finally:
        del codec.inference_form
        for name, function in saved.items():
            setattr(layers, name, function)


def seconds_of(ways: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Median seconds of each way, taken in turn so that a noisy machine is noisy for all of them."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for run in range(runs + 1):
        for name, function in ways.items():
            started = time.perf_counter()
            function()
            if run:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(each) for name, each in times.items()}


def matmul_rate(dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product."""
    a, b = torch.randn(2048, 2048).to(dtype), torch.randn(2048, 2048).to(dtype)
    return 2 * 2048**3 / seconds_of({"matmul": lambda: a @ b}, 5)["matmul"]


def speech(seconds: float, batch: int) -> Tensor:
    """The bundled recording, repeated: ``[batch, 1, T]``."""
    waveform, _ = read(SAMPLE, 24000)
    n = round(seconds * 24000)
    repeated = torch.from_numpy(waveform).repeat(-(-n * batch // len(waveform)) + 1)
    return torch.stack([repeated[i * n : (i + 1) * n] for i in range(batch)])[:, None]


def compare(
    codec: ESDCodec, reference: ESDCodec, args: argparse.Namespace, seconds: float, batch: int, peak: float
) -> str:
    audio, n = speech(seconds, batch), args.n_quantizers
    codes = codec.encode(audio, n_quantizers=n)

    def plainly(function: Callable[[], object]) -> Callable[[], object]:
        def run() -> object:
            with plain_way(codec):
                return function()

        return run

    line = f"{seconds:7g} {batch:5}"
    for work in (lambda: codec.encode(audio, n_quantizers=n), lambda: codec.decode(codes)):
        ways = {"ours": work} if args.no_plain else {"ours": work, "plain": plainly(work)}
        times = seconds_of(ways, args.runs)
        with peak_memory() as memory:
            work()
        share = flops_of(work) / times["ours"] / peak
        ratio = f"{times['plain'] / times['ours']:6.2f}" if "plain" in times else "      "
        line += f" | {batch * seconds / times['ours']:7.2f} {ratio} {memory.megabytes or 0:7.0f} {share:6.0%}"
    if codec.dtype != torch.float32:
        equal = (codes[:, 0] == reference.encode(audio, n_quantizers=1)[:, 0]).float().mean()
        exact, decoded = reference.decode(codes), codec.decode(codes)
        noise = 10 * torch.log10(exact.square().mean() / (exact - decoded).square().mean())
        line += f" | {equal:7.1%} {noise:6.1f}"
    return line


def profile(codec: ESDCodec, seconds: float, n_quantizers: int) -> None:
    audio = speech(seconds, 1)
    codes = codec.encode(audio, n_quantizers=n_quantizers)
    work = {"encode": lambda: codec.encode(audio, n_quantizers=n_quantizers), "decode": lambda: codec.decode(codes)}
    for name, function in work.items():
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
            function()
        print(f"\n{name}, {seconds:g} s")
        print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=40))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=("nano", "full"), default=["nano", "full"])
    parser.add_argument("--dtypes", nargs="+", choices=("float32", "bfloat16"), default=["float32"])
    parser.add_argument("--seconds", type=float, nargs="+", default=[1, 10, 30])
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--n-quantizers", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--no-plain", action="store_true", help="leave the plain way out")
    parser.add_argument("--compile", action="store_true", help="compile encoder and decoder; tells how long that takes")
    parser.add_argument("--profile", action="store_true", help="where the time goes, instead of the table")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{args.threads} threads, torch {torch.__version__}, {args.n_quantizers} codebooks; × is times real time")
    for model in args.models:
        torch.manual_seed(0)
        reference = esdcodec.load(device="cpu") if model == "nano" else ESDCodec().eval()
        for name in args.dtypes:
            dtype = getattr(torch, name)
            codec = esdcodec.load(device="cpu") if model == "nano" else ESDCodec().eval()
            codec.load_state_dict(reference.state_dict())
            codec.to(dtype)
            if args.compile:
                started = time.perf_counter()
                codec.encoder.compile(dynamic=True)
                codec.decoder.compile(dynamic=True)
                codec.decode(codec.encode(speech(1, 1), n_quantizers=args.n_quantizers))
                print(f"compiled in {time.perf_counter() - started:.0f} s")
            if args.profile:
                profile(codec, args.seconds[0], args.n_quantizers)
                continue
            peak = matmul_rate(dtype)
            print(f"\n{model}, {name}; matrix products reach {peak / 1e9:.0f} GFLOP/s")
            columns = "       ×  plain      MB  share"
            print(
                f"seconds batch | encode {columns[8:]} | decode {columns[8:]}"
                + (" | codes =  SNR dB" if dtype != torch.float32 else "")
            )
            for batch in args.batch:
                for seconds in args.seconds:
                    print(compare(codec, reference, args, seconds, batch, peak), flush=True)


if __name__ == "__main__":
    main()
