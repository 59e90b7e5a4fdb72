"""STOI, mel distance and codebook usage of a model on a folder of speech.

    python benchmarks/quality.py data/debian_speech/test [--model 25hz_nano] [--n-quantizers 1 3 8 12]

STOI (Taal et al. 2011) is pystoi's, at 24 kHz; the mel distance is that of the training objective.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from pystoi import stoi
from tqdm import tqdm

import esdcodec
from esdcodec.audio import audio_files, read
from esdcodec.model_codec.losses import WINDOWS, mel_loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="25hz_nano")
    parser.add_argument("--n-quantizers", type=int, nargs="+", default=[1, 3, 8, 12])
    args = parser.parse_args()

    codec = esdcodec.load(args.model, device="cpu")
    files = audio_files(args.folder)
    if not files:
        parser.error(f"no audio files in {args.folder}")
    scores: dict[int, list[tuple[float, float]]] = {n: [] for n in args.n_quantizers}
    all_codes = []
    for file in tqdm(files):
        waveform, _ = read(file, codec.sample_rate)
        codes = codec.encode(waveform)
        all_codes.append(codes[0])
        for n in args.n_quantizers:
            decoded = codec.decode(codes[:, :n], length=len(waveform))
            mel = mel_loss(decoded, torch.from_numpy(waveform)[None, None], codec.sample_rate, WINDOWS)
            scores[n].append((stoi(waveform, decoded[0, 0].numpy(), codec.sample_rate), mel.item()))

    print(f"{args.model}: {len(files)} files of {args.folder}")
    for n, values in scores.items():
        intelligibility, mel = np.mean(values, axis=0)
        print(f"  n={n:<3d} {codec.bitrate(n):5.0f} bit/s   STOI {intelligibility:.3f}   mel {mel:.3f}")
    codes = torch.cat(all_codes, dim=1)
    used = [f"{book.unique().numel()}/{size}" for book, size in zip(codes, codec.codebook_sizes)]
    print(f"  entries used in {codes.shape[1]} frames: {', '.join(used)}")


if __name__ == "__main__":
    main()
