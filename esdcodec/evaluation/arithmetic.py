"""The arithmetic of a call, counted."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


def _of_product(_: Any, a: torch.Size, b: torch.Size, **__: Any) -> int:
    return 2 * math.prod(a) * b[-1]


_IN_PLACE = dict.fromkeys((torch.ops.aten.addmm_, torch.ops.aten.baddbmm_), _of_product)


def flops_of(function: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and convolutions in a call, those in place included."""
    with FlopCounterMode(display=False, custom_mapping=_IN_PLACE) as counter:
        function()
    return int(counter.get_total_flops())
