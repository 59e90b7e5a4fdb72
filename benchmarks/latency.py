"""Live streams on this machine: what a push costs, and what a smaller look-ahead loses.

    python benchmarks/latency.py speed [--models nano full] [--pushes 40 80 200] [--look-aheads exact 120]
    python benchmarks/latency.py quality FOLDER [--look-aheads 40 80 120 200 280 480 720]
    python benchmarks/latency.py spread FOLDER [--frames 3]
    python benchmarks/latency.py loss FOLDER [--losses 0.01 0.05 0.1] [--fades 0 0.5 0.7 0.85]
    python benchmarks/latency.py memory [--minutes 60]
    python benchmarks/latency.py many [--streams 1 4 16]

`speed`: arithmetic as a ratio to one pass over the whole (counted), times real time and the slowest push, on one core.
`quality`: codes that change in the first codebook and in the others, and scores of what is decoded from exact codes,
with the signal-to-noise ratio against exact samples and the steps between samples where frames meet, as a ratio to
those elsewhere (1: nothing is to be heard of them). FOLDER has recordings of voices that the model does not know.
`spread`: every way to spread a look-ahead over the steps of the network, best first.
`loss`: scores when packets of two frames are lost, concealed with several fades; a fade of 0 is silence.
`memory`: of the process, while a stream goes on.
`many`: streams that are pushed together as one batch, and one after another.
The full-size network has random weights.
"""

import argparse
import itertools
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import esdcodec
from esdcodec import ESDCodec
from esdcodec.audio import audio_files, read
from esdcodec.cli.roundtrip import SAMPLE
from esdcodec.concealment import ConcealingDecoder
from esdcodec.evaluation.arithmetic import flops_of
from esdcodec.evaluation.memory import resident_megabytes
from esdcodec.evaluation.metrics import installed_scorers
from esdcodec.evaluation.pair import Pair
from esdcodec.model_codec.streaming import State
from esdcodec.streams import StreamDecoder, StreamEncoder, push_together

Stream = StreamEncoder | StreamDecoder


def load(model: str) -> ESDCodec:
    torch.manual_seed(0)
    return esdcodec.load(device="cpu") if model == "nano" else ESDCodec().eval()


def speech(codec: ESDCodec, seconds: float) -> Tensor:
    """The bundled recording, repeated: ``[1, 1, T]``, whole frames."""
    waveform, _ = read(SAMPLE, codec.sample_rate)
    n = round(seconds * codec.frame_rate) * codec.hop_length
    return torch.from_numpy(waveform).repeat(-(-n // len(waveform)))[None, None, :n]


def pushed(stream: Stream, whole: Tensor, size: int) -> Tensor:
    return torch.cat([*(stream.push(piece) for piece in whole.split(size, dim=-1)), stream.finish()], dim=-1)


def directions(codec: ESDCodec, seconds: float, n: int) -> Iterator[tuple[str, Callable[..., Stream], Tensor, int]]:
    """Name, how to make a stream, what goes in, and positions of a frame."""
    audio = speech(codec, seconds)
    yield "encode", partial(codec.stream_encoder, n_quantizers=n), audio, codec.hop_length
    yield "decode", codec.stream_decoder, codec.encode(audio, n_quantizers=n), 1


# ---- speed -----------------------------------------------------------------------------------------------------------


def seconds_of_pushes(stream: Stream, whole: Tensor, size: int) -> list[float]:
    """Of the pushes of the second half, when the stream has all its past."""
    pieces = [piece for piece in whole.split(size, dim=-1) if piece.shape[-1] == size]
    times = []
    for piece in pieces:
        started = time.perf_counter()
        stream.push(piece)
        times.append(time.perf_counter() - started)
    return times[len(times) // 2 :]


def speed(args: argparse.Namespace) -> None:
    print("| model | direction | look-ahead, ms | push, ms | arithmetic | times real time | slowest push, ms |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for model in args.models:
        codec = load(model)
        for name, make, whole, unit in directions(codec, args.seconds, args.n_quantizers):
            one_pass = flops_of(partial(pushed, make(), whole, whole.shape[-1]))
            for look_ahead, milliseconds in itertools.product(args.look_aheads, args.pushes):
                n_frames = max(1, round(milliseconds * codec.frame_rate / 1000))
                streams = [make(look_ahead_ms=look_ahead) for _ in range(2)]
                ratio = flops_of(partial(pushed, streams[0], whole, n_frames * unit)) / one_pass
                times = seconds_of_pushes(streams[1], whole, n_frames * unit)
                real_time = n_frames / codec.frame_rate / statistics.median(times)
                told = f"{streams[1].look_ahead_ms:g}" + (" (exact)" if look_ahead is None else "")
                line = f"| {model} | {name} | {told} | {milliseconds:g} | {ratio:.2f} | {real_time:.1f} |"
                print(f"{line} {1000 * max(times):.0f} |", flush=True)


# ---- quality ---------------------------------------------------------------------------------------------------------


def recordings(codec: ESDCodec, folder: Path, seconds: float) -> Iterator[Tensor]:
    for file in audio_files(folder).files:
        waveform, _ = read(file, codec.sample_rate)
        yield torch.from_numpy(waveform[: round(seconds * codec.sample_rate)])[None, None]


def snr(estimate: Tensor, exact: Tensor) -> float:
    """In dB."""
    noise = (estimate - exact).square().mean().clamp(min=1e-20)
    return float(10 * torch.log10(exact.square().mean().clamp(min=1e-20) / noise))


def steps_at_frames(audio: Tensor, hop_length: int) -> float:
    """Mean step between neighbouring samples where frames meet, as a ratio to that elsewhere."""
    steps = audio.flatten().diff().abs()
    return float(steps[hop_length - 1 :: hop_length].mean() / steps.mean().clamp(min=1e-20))


def quality(args: argparse.Namespace) -> None:
    for model in args.models:
        codec = load(model)
        scorers, missing = installed_scorers(["stoi", "pesq", "distillmos"] if model == "nano" else [])
        for message in missing:
            print(message)
        table: dict[str, dict[str, list[float]]] = {}
        for audio in recordings(codec, args.folder, args.seconds):
            codes = codec.encode(audio, n_quantizers=args.n_quantizers)
            exact = codec.decode(codes, length=audio.shape[-1])
            for look_ahead in (None, *args.look_aheads):
                name = "exact" if look_ahead is None else f"{look_ahead:g}"
                scores = table.setdefault(name, defaultdict(list))
                changed = codes != pushed(
                    codec.stream_encoder(n_quantizers=args.n_quantizers, look_ahead_ms=look_ahead), audio, 24000
                )
                scores["first codebook, % changed"].append(100 * changed[:, 0].float().mean().item())
                if args.n_quantizers > 1:
                    scores["others, % changed"].append(100 * changed[:, 1:].float().mean().item())
                decoded = pushed(codec.stream_decoder(look_ahead_ms=look_ahead), codes, 25)[..., : exact.shape[-1]]
                scores["SNR, dB"].append(snr(decoded, exact))
                scores["steps"].append(steps_at_frames(decoded, codec.hop_length))
                pair = Pair(audio[0, 0].numpy(), decoded[0, 0].numpy(), codec.sample_rate)
                for scorer in scorers.values():
                    for column, value in scorer(pair).items():
                        scores[column].append(value)
        print(f"\n{model}, {args.n_quantizers} codebooks, {len(next(iter(table.values()))['steps'])} recordings\n")
        print_table("look-ahead, ms", table)


def print_table(first: str, table: dict[str, dict[str, list[float]]]) -> None:
    columns = list(next(iter(table.values())))
    print(f"| {first} | " + " | ".join(columns) + " |")
    print("| --- |" + " --- |" * len(columns))
    for name, scores in table.items():
        print(f"| {name} | " + " | ".join(f"{statistics.mean(scores[each]):.3g}" for each in columns) + " |")


def spread(args: argparse.Namespace) -> None:
    """Ways to spread `--frames` frames."""
    for model in args.models:
        codec = load(model)
        network, n = codec.streaming_form(), args.n_quantizers
        found: dict[tuple[str, tuple[int, ...]], list[float]] = defaultdict(list)
        for audio in recordings(codec, args.folder, args.seconds):
            audio = audio[..., : audio.shape[-1] // codec.hop_length * codec.hop_length]
            codes = codec.encode(audio, n_quantizers=n)
            frames, exact = audio.view(1, -1, codec.hop_length), codec.decode(codes)
            for ways in every_spread(args.frames, [s.exact for s in network.encoder(n, [0, 0]).steps]):
                given = network.encoder(n, ways)(frames, State(), True)
                assert given is not None
                found["codes kept, %", ways].append(100 * (given.transpose(1, 2) == codes).float().mean().item())
            for ways in every_spread(args.frames, [s.exact for s in network.decoder([0, 0, 0]).steps]):
                given = network.decoder(ways)(codes.transpose(1, 2), State(), True)
                assert given is not None
                found["SNR of decoding, dB", ways].append(snr(given.transpose(1, 2), exact))
        print(f"\n{model}, {args.frames} frames of look-ahead, {n} codebooks")
        for (what, ways), values in sorted(found.items(), key=lambda item: (item[0][0], -statistics.mean(item[1]))):
            print(f"{what}: {statistics.mean(values):6.2f} by {ways}")


def loss(args: argparse.Namespace) -> None:
    codec = load("nano")
    scorers, missing = installed_scorers(["stoi", "pesq"])
    for message in missing:
        print(message)
    table: dict[str, dict[str, list[float]]] = {}
    for i, audio in enumerate(recordings(codec, args.folder, args.seconds)):
        codes = codec.encode(audio, n_quantizers=args.n_quantizers)
        packets = codes.split(2, dim=-1)
        for share, fade in itertools.product(args.losses, args.fades):
            lost = torch.rand(len(packets), generator=torch.Generator().manual_seed(i)) < share
            decoder = ConcealingDecoder(codec.stream_decoder(look_ahead_ms=args.look_aheads[0]), fade)
            pieces = [decoder.lose(p.shape[-1]) if gone else decoder.push(p) for p, gone in zip(packets, lost)]
            decoded = torch.cat([*pieces, decoder.finish()], dim=-1)[0, 0, : audio.shape[-1]]
            pair = Pair(audio[0, 0].numpy(), decoded.numpy(), codec.sample_rate)
            scores = table.setdefault(f"{share:.0%} lost, fade {fade:g}", defaultdict(list))
            for scorer in scorers.values():
                for column, value in scorer(pair).items():
                    scores[column].append(value)
    print_table("loss", table)


def every_spread(n_frames: int, most: list[int]) -> Iterator[tuple[int, ...]]:
    ways = itertools.product(*(range(min(n_frames, each) + 1) for each in most))
    return (way for way in ways if sum(way) == n_frames)


# ---- long, and many --------------------------------------------------------------------------------------------------


def memory(args: argparse.Namespace) -> None:
    codec = load("nano")
    for name, make, whole, unit in directions(codec, 10, args.n_quantizers):
        stream, n_pushes = make(look_ahead_ms=args.look_aheads[0]), 0
        pieces = itertools.cycle(whole.split(5 * unit, dim=-1))
        for minute in range(args.minutes + 1):
            kept = sum(each.values.untyped_storage().nbytes() for each in stream.state.kept.values())
            if minute in (1, 2, 5) or minute % 10 == 0:
                print(
                    f"{name}, {minute} min: {resident_megabytes():.1f} MB, of which the stream keeps {kept / 2**20:.2f}"
                )
            while n_pushes < (minute + 1) * 300 and minute < args.minutes:
                stream.push(next(pieces))
                n_pushes += 1


def many(args: argparse.Namespace) -> None:
    codec = load(args.models[0])
    n_frames = max(1, round(args.pushes[0] * codec.frame_rate / 1000))
    for name, make, whole, unit in directions(codec, args.seconds, args.n_quantizers):
        pieces = [piece for piece in whole.split(n_frames * unit, dim=-1) if piece.shape[-1] == n_frames * unit]
        for n in args.streams:
            rates = []
            for together in (True, False):
                streams = [make(look_ahead_ms=args.look_aheads[0]) for _ in range(n)]
                times = []
                for piece in pieces:
                    started = time.perf_counter()
                    if together:
                        push_together(streams, [piece] * n)
                    else:
                        for stream in streams:
                            stream.push(piece)
                    times.append(time.perf_counter() - started)
                rates.append(n * n_frames / codec.frame_rate / statistics.median(times[len(times) // 2 :]))
            print(f"{name}, {n} streams: {rates[0]:.1f} times real time together, {rates[1]:.1f} in turn", flush=True)


def look_ahead(text: str) -> float | None:
    return None if text == "exact" else float(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for work in (speed, quality, spread, loss, memory, many):
        command = commands.add_parser(work.__name__)
        command.set_defaults(work=work)
        if work in (quality, spread, loss):
            command.add_argument("folder", type=Path)
        defaults = {quality: [40, 80, 120, 200, 280, 480, 720], speed: [None, 120], loss: [120]}.get(work, [None])
        command.add_argument("--look-aheads", type=look_ahead, nargs="+", default=defaults, help="ms, or exact")
        command.add_argument("--models", nargs="+", choices=("nano", "full"), default=["nano"])
        command.add_argument("--n-quantizers", type=int, default=12)
        command.add_argument("--pushes", type=float, nargs="+", default=[40, 80, 200], help="ms")
        command.add_argument("--seconds", type=float, default=8, help="of audio; of each recording at most")
        command.add_argument("--losses", type=float, nargs="+", default=[0.01, 0.05, 0.1], help="share of packets")
        command.add_argument("--fades", type=float, nargs="+", default=[0, 0.5, 0.7, 0.85])
        command.add_argument("--frames", type=int, default=3)
        command.add_argument("--minutes", type=int, default=60)
        command.add_argument("--streams", type=int, nargs="+", default=[1, 4, 16])
        command.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    print(f"{args.threads} threads, torch {torch.__version__}\n")
    args.work(args)


if __name__ == "__main__":
    main()
