"""Values that come from the device while it goes on."""

import torch
from torch import Tensor


def steps_behind(device: torch.device) -> int:
    """How many steps `device` works on while the host prepares the next."""
    return 0 if device.type == "cpu" else 1


class HostCopy:
    """A copy of `tensor` on the host, which is under way until somebody asks for it."""

    def __init__(self, tensor: Tensor) -> None:
        self._values = tensor.to("cpu", non_blocking=True)
        self._copied = None
        if tensor.device.type not in ("cpu", "meta"):
            self._copied = torch.Event(tensor.device)
            self._copied.record()

    def tolist(self) -> list[float]:
        """The values, once all that the device was told to do before the copy is done; what came after it may go on."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._values.tolist()
