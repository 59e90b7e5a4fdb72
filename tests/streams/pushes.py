"""Streams that are pushed, and what it costs."""

import torch
from torch.utils.flop_counter import FlopCounterMode

HOP = 120
ONE_PASS = 1e4  # seconds


def arithmetic(function):
    """Floating-point operations of the products and convolutions in a call."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def pushed(stream, whole, size):
    """All that a stream gives for `whole`, in pieces of `size`."""
    return torch.cat([*(stream.push(piece) for piece in whole.split(size, dim=-1)), stream.finish()], dim=-1)
