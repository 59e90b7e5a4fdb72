"""Streams that are pushed."""

from itertools import pairwise

import torch

HOP = 120
ONE_PASS = 1e4  # seconds


def random_sizes(total, most):
    """Sizes from 1 to `most` that add up to `total`."""
    sizes = torch.randint(1, most + 1, (total,)).cumsum(0)
    ends = [0, *sizes[sizes < total].tolist(), total]
    return [end - start for start, end in pairwise(ends)]


def pushed(stream, whole, size):
    """All that a stream gives for `whole`, in pieces of `size`, or of each of these sizes."""
    return torch.cat([*(stream.push(piece) for piece in whole.split(size, dim=-1)), stream.finish()], dim=-1)
