"""A record of a network's weights and modules, by which code that keeps derived values sees whether they changed."""

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook


def is_customised(module: nn.Module) -> bool:
    """Whether the module is compiled or scripted, or has hooks."""
    compiled = module._compiled_call_impl is not None or "_orig_mod" in module._modules
    hooks = module._forward_hooks or module._forward_pre_hooks
    return bool(compiled or hooks or isinstance(module, torch.jit.ScriptModule))


class Snapshot:
    """The weights and modules of a network at one moment.

    It detects changes by an optimizer or another operation in place (by torch's version counters), by loading, by
    `to`, and by replaced parameters or modules. It does not detect writing to `parameter.data`.
    """

    def __init__(self, network: nn.Module) -> None:
        self.modules = [(module, is_customised(module)) for module in network.modules()]
        # views keep the memory, so that no other tensor can come to lie at the same address
        self.tensors = [(tensor.detach(), _version(tensor)) for tensor in _tensors(network)]

    def is_still(self, network: nn.Module) -> bool:
        """Whether neither weights nor modules of `network` have changed, nor which of these are customised."""
        modules = list(network.modules())
        return (
            len(modules) == len(self.modules)
            and all(m is kept and is_customised(m) is was for m, (kept, was) in zip(modules, self.modules))
            and self.has_weights_of(network)
        )

    def has_weights_of(self, network: nn.Module) -> bool:
        """Whether the weights of `network` have not changed."""
        tensors = _tensors(network)
        return len(tensors) == len(self.tensors) and all(
            t.data_ptr() == kept.data_ptr() and _version(t) == version is not None
            for t, (kept, version) in zip(tensors, self.tensors)
        )


def _count_fused_step(optimizer: Optimizer, *_: object) -> None:
    """Fused optimizers write past torch's version counters (seen with AdamW of torch 2.14 on a CPU)."""
    for group in optimizer.param_groups:
        if group.get("fused"):
            torch.autograd.graph.increment_version(group["params"])


register_optimizer_step_post_hook(_count_fused_step)


def _tensors(network: nn.Module) -> list[Tensor]:
    owned = (each for m in network.modules() for each in (*m._parameters.values(), *m._buffers.values()))
    return [tensor for tensor in owned if tensor is not None]


def _version(tensor: Tensor) -> int | None:
    """None: made in inference mode, where nothing is counted."""
    return None if tensor.is_inference() else tensor._version
