"""Mean and variance of the teacher's states over a corpus, in the published file's format.

    python -m esdcodec.training.teacher_statistics TEACHER SHARDS OUTPUT.pt [--layer 17] [--hours 10]

TEACHER is a folder or Hub id, as `model.teacher.path`; SHARDS as `data.train`; `model.teacher.statistics` takes OUTPUT.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ..codec import best_device
from ..dataset.filters import Filters
from ..dataset.loader import Loaders, Source
from ..dataset.skip_counts import SkipCounts
from .teacher import TEACHER_RATE, FeatureExtraction, W2vBert


class Moments:
    """Mean and variance of vectors that come in pieces, by sums in float64."""

    def __init__(self, dim: int) -> None:
        self.number = 0
        self.sums = torch.zeros(2, dim, dtype=torch.float64)

    def add(self, vectors: Tensor) -> None:
        """Take in vectors ``[M, D]``."""
        vectors = vectors.double().cpu()
        self.number += len(vectors)
        self.sums += torch.stack([vectors.sum(0), vectors.square().sum(0)])

    def mean_and_variance(self) -> tuple[Tensor, Tensor]:
        """``[D]`` each, in float32.

        Raises:
            ValueError: there were no vectors.
        """
        if not self.number:
            raise ValueError("no frame was seen: are the shards readable, and do they hold speech?")
        mean, square = self.sums / self.number
        return mean.float(), (square - mean.square()).float()


def measure(teacher: W2vBert, batches: Iterable[dict[str, Tensor]], device: torch.device) -> Moments:
    """Moments of the states of every frame that no mask leaves out."""
    moments = Moments(teacher.dim)
    for inputs in batches:
        inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
        states, mask = teacher.states(**inputs), inputs.get("attention_mask")
        moments.add(states.flatten(0, 1) if mask is None else states[mask.bool()])
    return moments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher")
    parser.add_argument("shards")
    parser.add_argument("output", type=Path)
    parser.add_argument("--layer", type=int, default=17, help="index into the hidden states (default: %(default)s)")
    parser.add_argument("--hours", type=float, default=10, help="of speech to look at (default: %(default)s)")
    parser.add_argument("--segment-seconds", type=float, default=10, help="(default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--num-workers", type=int, default=4)
    args = parser.parse_args()

    device = best_device()
    teacher = W2vBert(args.teacher, layer=args.layer).to_device(device)
    loaders = Loaders(
        Filters(),
        sample_rate=TEACHER_RATE,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        max_broken_share=0.05,
    )
    training = loaders.training(
        Source.parse(args.shards),
        segment_length=round(args.segment_seconds * TEACHER_RATE),
        per_utterance=1,
        shuffle_buffer=1000,
        shuffle_window=200000,
        seed=0,
        skip_counts=SkipCounts(),
        extract=FeatureExtraction(args.teacher, TEACHER_RATE),
    )
    n_batches = max(1, round(args.hours * 3600 / args.segment_seconds / args.batch_size))
    batches = training.batches(0)
    inputs = (next(batches).features for _ in tqdm(range(n_batches), unit="batch"))
    mean, variance = measure(teacher, inputs, device).mean_and_variance()
    torch.save({"mean": mean, "var": variance}, args.output)
    print(f"{args.output}: mean and variance of {teacher.dim} channels, layer {args.layer}")


if __name__ == "__main__":
    main()
