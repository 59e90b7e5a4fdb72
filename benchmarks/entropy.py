"""What an entropy coder could save in `.esd` files of a model.

    python benchmarks/entropy.py FOLDER [--model 25hz_nano] [--n-quantizers 3]

Prints, for the audio files below FOLDER, the bits a code takes up at fixed width, and what ideal coders would need: one
that learns each file's frequencies while it codes (adaptive, starts with all codes equally likely), and one that knows
the frequencies of all other files in advance (static, leave-one-out, with one count added to every code).
"""

import argparse
import math
from collections import Counter
from pathlib import Path

import numpy as np

import esdcodec
from esdcodec.audio import audio_files, read


def adaptive_bits(codes: np.ndarray, size: int, weight: float = 1 / 64) -> float:
    """Bits of a coder that has seen only what it coded before; each code begins with a count of `weight`."""
    seen: Counter[int] = Counter()
    bits = 0.0
    for i, code in enumerate(codes.tolist()):
        bits -= math.log2((seen[code] + weight) / (i + weight * size))
        seen[code] += 1
    return bits


def static_bits(codes: np.ndarray, counts: np.ndarray) -> float:
    """Bits of a coder that knows how often each code occurs in the other files."""
    others = counts - np.bincount(codes, minlength=len(counts)) + 1
    return float(-np.log2(others[codes] / others.sum()).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="25hz_nano")
    parser.add_argument("--n-quantizers", type=int, default=3)
    args = parser.parse_args()
    codec = esdcodec.load(args.model)
    files = [
        codec.encode(audio, rate, n_quantizers=args.n_quantizers)[0].cpu().numpy()
        for audio, rate in map(read, audio_files(args.folder).files)
    ]
    n_frames = sum(codes.shape[1] for codes in files)
    print(f"{len(files)} files, {n_frames} frames")
    print(f"{'codebook':>8} {'fixed':>8} {'adaptive':>8} {'static':>8}  bits a code")
    totals = np.zeros(3)
    for i, size in enumerate(codec.codebook_sizes[: args.n_quantizers]):
        counts = sum(np.bincount(codes[i], minlength=size) for codes in files)
        bits = np.array(
            [
                n_frames * (size - 1).bit_length(),
                sum(adaptive_bits(codes[i], size) for codes in files),
                sum(static_bits(codes[i], counts) for codes in files),
            ]
        )
        totals += bits
        print(f"{i:8} " + " ".join(f"{b / n_frames:8.2f}" for b in bits))
    print("all      " + " ".join(f"{b / n_frames:8.2f}" for b in totals))
    print(f"gain of an adaptive coder {1 - totals[1] / totals[0]:.1%}, of a static one {1 - totals[2] / totals[0]:.1%}")


if __name__ == "__main__":
    main()
