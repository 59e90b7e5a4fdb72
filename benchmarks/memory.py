"""Peak memory of the command line, file to file, for short and long audio.

    python benchmarks/memory.py [--models nano full] [--minutes 1 60] [--dtype float32]

Encodes and decodes a recording of each length (the bundled one, repeated) in processes of their own and prints their
largest resident sets: memory should not grow with length. The full-size network has random weights.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from esdcodec import ESDCodec
from esdcodec.audio import read
from esdcodec.cli.roundtrip import SAMPLE

RATE = 24000


def write_speech(path: Path, minutes: float) -> None:
    waveform, _ = read(SAMPLE, RATE)
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        left = round(60 * RATE * minutes)
        for piece in itertools.repeat(waveform):
            file.write(np.clip(piece[:left], -1, 1))
            left -= len(piece)
            if left <= 0:
                break


def peak_of(*command: str | Path) -> tuple[float, float]:
    """Largest resident set in MB and seconds of `esdcodec COMMAND`."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "esdcodec.cli", *map(str, command), "--json"], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"esdcodec {command[0]} ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss / 1024, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=("nano", "full"), default=["nano", "full"])
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 60])
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        for model in args.models:
            chosen = ["--dtype", args.dtype]
            if model == "full":
                ESDCodec().save_pretrained(work / "full")
                chosen += ["--model", str(work / "full")]
            for minutes in args.minutes:
                write_speech(work / "speech.wav", minutes)
                encode = peak_of("encode", work / "speech.wav", "-o", work / "speech.esd", "--overwrite", *chosen)
                decode = peak_of("decode", work / "speech.esd", "-o", work / "decoded.wav", "--overwrite", *chosen)
                print(
                    f"{model}, {args.dtype}, {minutes:g} min: encode {encode[0]:.0f} MB in {encode[1]:.0f} s, "
                    f"decode {decode[0]:.0f} MB in {decode[1]:.0f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
