"""Copies between host and device, and where the host waits for the device, counted on a real one or a pretended one.

A pretended device is torch's `meta`: its tensors have shapes but no values, code takes the paths that it takes on any
device that is no CPU, and whatever asks for a value shows. What the loader pins is pinned only where there is a GPU, so
here a copy counts as waited for when it is told to block.
"""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PRETENDED = torch.device("meta")
FROM_HOST_VALUES = (torch.tensor, torch.as_tensor, torch.scalar_tensor, Tensor.new_tensor)
ASKS_FOR_VALUES = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)


class Transfers(TorchDispatchMode):
    """Counts what the operators within it do between the host and `device`.

    `counts` has copies `to device` and `to host`, the same `and waited for` (blocking, or from memory that is not
    pinned), and `values asked for`, for which the host waits too.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.counts: Counter[str] = Counter()
        self.where: Counter[str] = Counter()  # operators
        self._constructors = _Constructors(self)

    def __enter__(self) -> "Transfers":
        self._constructors.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._constructors.__exit__(*error)

    @property
    def waits(self) -> int:
        """How often the host waited for the device."""
        return self.counts.total() - self.counts["to device"] - self.counts["to host"]

    def count(self, kind: str, what: Any) -> None:
        self.counts[kind] += 1
        self.where[f"{kind}: {what}"] += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        here = [tensor for tensor in tensors if tensor.device.type == self.device.type]
        if func is torch.ops.aten._to_copy.default:
            return self._copy(args[0], kwargs.get("device"), kwargs.get("non_blocking", False), func, args, kwargs)
        if func is torch.ops.aten.copy_.default:
            return self._copy(args[1], args[0].device, len(args) > 2 and args[2], func, args, kwargs)
        if here and (_asks_for_values(func) or _selects_by_flags(func, args)):
            self.count("values asked for", func)
            if self.device == PRETENDED and func is torch.ops.aten._local_scalar_dense.default:
                return torch.zeros((), dtype=here[0].dtype).item()
        return func(*args, **kwargs)

    def _copy(self, source: Tensor, device: Any, non_blocking: bool, func: Any, args: Any, kwargs: Any) -> Any:
        target = torch.device(device).type if device is not None else source.device.type
        if {source.device.type, target} == {"cpu", self.device.type}:
            if target == "cpu":
                self.count("to host" if non_blocking else "to host and waited for", func)
                if self.device == PRETENDED:
                    dtype = kwargs.get("dtype") or source.dtype
                    in_place = func is torch.ops.aten.copy_.default
                    return args[0] if in_place else torch.zeros(source.shape, dtype=dtype)
            else:
                pinned = self.device == PRETENDED or source.is_pinned()
                self.count("to device" if non_blocking and pinned else "to device and waited for", func)
        return func(*args, **kwargs)


class _Constructors(TorchFunctionMode):
    """Tensors of numbers that Python has: torch copies them without an operator that could be seen."""

    def __init__(self, transfers: Transfers) -> None:
        super().__init__()
        self.transfers = transfers

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in FROM_HOST_VALUES and result.device.type == self.transfers.device.type:
            self.transfers.count("to device and waited for", func.__name__)
        return result


def _asks_for_values(func: Any) -> bool:
    return any(tag in func.tags for tag in ASKS_FOR_VALUES) and func not in _INDEXING


_INDEXING = (
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put.default,
    torch.ops.aten.index_put_.default,
    torch.ops.aten._unsafe_index.Tensor,
)


def _selects_by_flags(func: Any, args: Any) -> bool:
    """Whether how much is selected depends on values."""
    return func in _INDEXING and any(each is not None and each.dtype in (torch.bool, torch.uint8) for each in args[1])


# ---- a trainer on a device that is not there ---


@contextmanager
def pretended(trainer: Any) -> Iterator[torch.device]:
    """Have a trainer on a CPU, which has taken a step, go on as if its tensors were on a device; it is of no use after.

    A step comes first because torch makes an optimizer's state, and looks at its device, in the first.
    """
    accelerator = trainer.accelerator
    real, asked_for_cpu = accelerator.device, os.environ.pop("ACCELERATE_USE_CPU", None)  # it would insist
    _set_device(accelerator, PRETENDED)
    try:
        for learner in trainer.task.learners:
            _pretend(learner.unwrapped)
            if learner.average is not None:
                _pretend(learner.average)
            for state in learner.optimizer.state.values():
                for name, value in state.items():
                    if isinstance(value, Tensor) and (value.dim() or learner.optimizer.param_groups[0].get("fused")):
                        state[name] = value.to(PRETENDED)
        _pretend_attributes(trainer.window, trainer.task.usage, trainer.task.objective, trainer)
        if trainer.task.objective.teacher is not None:
            _pretend(trainer.task.objective.teacher)
        yield PRETENDED
    finally:
        _set_device(accelerator, real)
        if asked_for_cpu is not None:
            os.environ["ACCELERATE_USE_CPU"] = asked_for_cpu


def _set_device(accelerator: Accelerator, device: torch.device) -> None:
    for state in (PartialState(), accelerator.state):  # one is copied into the other now and then
        state.device = device


def _pretend(network: torch.nn.Module) -> None:
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)  # the optimizers know the parameters as objects
    try:
        network.to(PRETENDED)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)


def _pretend_attributes(*owners: Any) -> None:
    for owner in owners:
        for name, value in vars(owner).items():
            if isinstance(value, Tensor):
                setattr(owner, name, value.to(PRETENDED))
            elif isinstance(value, torch.device):
                setattr(owner, name, PRETENDED)
