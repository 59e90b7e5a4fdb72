"""All state of a run, copied to host memory at one moment, and the files of a checkpoint that it becomes."""

import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import extract_model_from_parallel, gather_object
from accelerate.utils import load as load_pickled
from safetensors.torch import load_model, save_file
from torch import Tensor, nn


@dataclass(frozen=True)
class TrainingState:
    """Copies that the steps which follow do not change.

    The files have the names and the content that Accelerate gives them, except that networks are saved as they are
    without the wrappers of several processes and of `torch.compile`: a run goes on with another number of processes.
    """

    networks: dict[str, dict[str, Tensor]]  # name of a file -> weights
    others: dict[str, Any]  # name of a file -> state of an optimizer, a schedule, an average; random numbers of a rank

    @classmethod
    def take(
        cls, accelerator: Accelerator, random_states: list[dict[str, Any]], reuse: "TrainingState | None" = None
    ) -> "TrainingState":
        """Copy the state of all that `accelerator` holds.

        Args:
            random_states: of each rank.
            reuse: a state that nobody needs any more, whose memory is written over: new memory costs ten times the
                time of the copy.
        """
        networks = {
            name: host_copy(_distinct(network.state_dict()), reuse and reuse.networks.get(name))
            for name, network in _networks(accelerator)
        }
        others = {
            name: host_copy(part.state_dict(), reuse and reuse.others.get(name)) for name, part in _others(accelerator)
        }
        others |= {_random_file(rank): state for rank, state in enumerate(random_states)}
        return cls(networks, others)

    def write(self, folder: Path) -> None:
        """Write the files into a folder that exists; they are not synchronised with the disk yet."""
        for name, tensors in self.networks.items():
            save_file(tensors, folder / name, metadata={"format": "pt"})
        for name, state in self.others.items():
            torch.save(state, folder / name)


def restore(accelerator: Accelerator, folder: Path) -> None:
    """Give all that `accelerator` holds the state in the files of `folder`, and this rank its random numbers.

    A rank that the saved run did not have keeps those it was started with.
    """
    for name, network in _networks(accelerator):
        load_model(network, folder / name)
    for name, part in _others(accelerator):
        part.load_state_dict(load_pickled(folder / name, map_location="cpu"))
    file = folder / _random_file(accelerator.process_index)
    if file.exists():
        set_random_state(load_pickled(file), accelerator.device)


def _distinct(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without further names of a tensor that several have: the first in the alphabet stays, as `load_model` asks."""
    names: dict[int, str] = {}
    for name, tensor in sorted(tensors.items()):
        if tensor.numel():
            names.setdefault(tensor.data_ptr(), name)
    return {name: t for name, t in tensors.items() if not t.numel() or names[t.data_ptr()] == name}


def _networks(accelerator: Accelerator) -> Iterator[tuple[str, nn.Module]]:
    for i, network in enumerate(accelerator._models):
        yield f"model{_number(i)}.safetensors", extract_model_from_parallel(network, keep_torch_compile=False)


def _others(accelerator: Accelerator) -> Iterator[tuple[str, Any]]:
    for i, optimizer in enumerate(accelerator._optimizers):
        yield f"optimizer{_number(i)}.bin", optimizer
    for i, part in enumerate(accelerator._custom_objects):
        yield f"custom_checkpoint_{i}.pkl", part


def _number(i: int) -> str:
    return f"_{i}" if i else ""


def _random_file(rank: int) -> str:
    return f"random_states_{rank}.pkl"


def host_copy(state: Any, reuse: Any = None) -> Any:
    """A copy of a nested state, whose tensors are in host memory: in that of `reuse` where it has the same shapes."""
    if isinstance(state, Tensor):
        if not isinstance(reuse, Tensor) or (reuse.shape, reuse.dtype) != (state.shape, state.dtype):
            reuse = torch.empty(state.shape, dtype=state.dtype)
        return reuse.copy_(state.detach())
    if isinstance(state, dict):
        before = reuse if isinstance(reuse, dict) else {}
        return {key: host_copy(value, before.get(key)) for key, value in state.items()}
    return copy.deepcopy(state)


# ---- random numbers --------------------------------------------------------------------------------------------------


def gather_random_states(accelerator: Accelerator) -> list[dict[str, Any]]:
    """Of all ranks, on all ranks: where their generators are."""
    state = {
        "random_state": random.getstate(),
        "numpy_random_seed": np.random.get_state(),  # noqa: NPY002
        "torch_manual_seed": torch.get_rng_state(),
    }
    device = accelerator.device
    if _has_generators(device):
        state[_device_key(device)] = torch.get_device_module(device).get_rng_state_all()
    return list(gather_object([state]))


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    random.setstate(state["random_state"])
    np.random.set_state(state["numpy_random_seed"])  # noqa: NPY002
    torch.set_rng_state(state["torch_manual_seed"])
    saved = state.get(_device_key(device))  # None: the run was on another kind of device
    if saved is not None and len(saved) == torch.get_device_module(device).device_count():
        torch.get_device_module(device).set_rng_state_all(saved)


def _has_generators(device: torch.device) -> bool:
    return device.type != "cpu" and hasattr(torch.get_device_module(device), "get_rng_state_all")


def _device_key(device: torch.device) -> str:
    return f"torch_{device.type}_manual_seed"
