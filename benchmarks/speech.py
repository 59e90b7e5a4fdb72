"""Speech from text on this machine: how fast it is, how soon it begins, and what a stream costs.

    python benchmarks/speech.py speed LIST [--model FOLDER] [--look-aheads exact 120 40]
    python benchmarks/speech.py streams LIST [--model FOLDER] [--look-aheads 120 40] [--output streamed]
    python benchmarks/speech.py memory [--model FOLDER] [--minutes 10]

`speed`: times real time of calls and of streams, and milliseconds to the first audio, as medians, on one core or a GPU.
`streams`: says each sentence as a stream, into a folder for each look-ahead, for
`esdcodec evaluate-tts LIST --model FOLDER --spoken 120ms=streamed/120`, which compares them with calls.
`memory`: of the process, while a text of so many minutes is streamed.
A LIST has lines `text` or `text|voice`.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor

from esdcodec.evaluation.memory import resident_megabytes
from esdcodec.tts import Speech, TextToSpeech, load_tts

TEXT = "The train to London leaves at seven in the morning, and nobody who missed it would wait for the next one."


def sentences(file: Path) -> list[tuple[str, str | None]]:
    """Texts and their voices."""
    lines = [line.split("|") for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [(line[0].strip(), line[1].strip() if len(line) > 1 else None) for line in lines]


def look_ahead(text: str) -> float | None:
    return None if text == "exact" else float(text)


def speed(tts: TextToSpeech, args: argparse.Namespace) -> None:
    texts = sentences(args.list)
    tts(*texts[0])
    rates = []
    for text, voice in texts:
        began = time.perf_counter()
        rates.append(tts(text, voice).seconds / (time.perf_counter() - began))
    print(f"a call          {statistics.median(rates):.1f}× real time")
    for ms in args.look_aheads:
        rates, first = [], []
        for text, voice in texts:
            began = time.perf_counter()
            stream = tts.stream(text, voice, look_ahead_ms=look_ahead(ms))
            audio = next(stream)
            first.append(time.perf_counter() - began)
            n_samples = len(audio) + sum(map(len, stream))
            rates.append(n_samples / tts.sample_rate / (time.perf_counter() - began))
        after = 1000 * statistics.median(first)
        print(f"stream, {ms:>5}   {statistics.median(rates):.1f}× real time, first audio after {after:.0f} ms")


def streams(tts: TextToSpeech, args: argparse.Namespace) -> None:
    for ms in args.look_aheads:
        folder = args.output / ms
        folder.mkdir(parents=True, exist_ok=True)
        for number, (text, voice) in enumerate(sentences(args.list), 1):
            stream = tts.stream(text, voice, seed=0, look_ahead_ms=look_ahead(ms))
            audio: Tensor = torch.cat(list(stream))
            Speech(audio, tts.sample_rate, tuple(stream.stops)).save(folder / f"{number:05d}.wav")


def memory(tts: TextToSpeech, args: argparse.Namespace) -> None:
    minute, n_samples = 0, 0
    for audio in tts.stream(" ".join([TEXT] * round(12 * args.minutes))):
        n_samples += len(audio)
        if n_samples >= 60 * tts.sample_rate * minute:
            print(f"{minute:3d} min of audio: {resident_megabytes():.0f} MB", flush=True)
            minute += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for function, look_aheads in ((speed, ["exact", "120", "40"]), (streams, ["120", "40"]), (memory, None)):
        command = commands.add_parser(function.__name__)
        command.set_defaults(run=function)
        command.add_argument("--model", default="25hz_nano_tts")
        command.add_argument("--device", default="cpu")
        if look_aheads is not None:
            command.add_argument("list", type=Path)
            command.add_argument("--look-aheads", nargs="+", default=look_aheads)
    commands.choices["streams"].add_argument("--output", type=Path, default=Path("streamed"))
    commands.choices["memory"].add_argument("--minutes", type=float, default=10)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.run(load_tts(args.model, device=args.device), args)


if __name__ == "__main__":
    main()
