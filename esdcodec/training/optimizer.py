"""AdamW, and Muon for the convolutions of encoder, decoder and discriminators."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from ..model_codec.decoder import Decoder
from ..model_codec.discriminator import Discriminator
from ..model_codec.encoder import Encoder
from ..model_codec.layers import Conv1d, Conv2d, ConvTranspose1d

_ITERATION = 3.4445, -4.7750, 2.0315  # of Newton and Schulz, for singular values of 0.7 to 1.2 after five steps


class Muon(AdamW):
    """Steps of equal size in every direction of a weight matrix (Jordan et al. 2024, "Muon").

    AdamW follows the few directions that all examples agree on, which for an encoder of speech is how loud a band is,
    long before those that few ask for, such as pitch. Muon replaces the momentum of a weight matrix by the nearest
    orthogonal matrix. It is used for `directions`, the v of weight-normalised convolutions, whose length means
    nothing: it is kept at 1 for each output channel, so that `turn`, the learning rate of these, is the angle in
    radians by which a step turns a channel's weights. All other parameters take AdamW's step.
    """

    def __init__(self, directions: Iterable[Tensor], others: Iterable[Tensor], *, turn: float, **adamw: Any) -> None:
        directions = list(directions)
        super().__init__([{"params": others}, {"params": directions, "lr": turn, "muon": True}], **adamw)
        for direction in directions:
            _to_unit_length(direction)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        directions = [(p, group["lr"]) for group in self.param_groups if group.get("muon") for p in group["params"]]
        gradients = [p.grad for p, _ in directions]
        for p, lr in directions:
            if p.grad is not None:
                self._turn(p, p.grad, lr)
            p.grad = None  # AdamW passes over it
        super().step()
        for (p, _), gradient in zip(directions, gradients):
            p.grad = gradient

    def _turn(self, direction: Tensor, gradient: Tensor, angle: float) -> None:
        state = self.state[direction]
        if not state:
            state["step"] = torch.zeros(())  # AdamW's loading of a state asks for it
            state["momentum"] = torch.zeros_like(direction)
        state["momentum"].lerp_(gradient, 0.05)
        update = orthogonalised(gradient.lerp(state["momentum"], 0.95).flatten(1))
        update *= angle / update.norm(dim=1).mean().clamp(min=1e-9)
        direction.sub_(update.view_as(direction))
        _to_unit_length(direction)


def orthogonalised(matrix: Tensor) -> Tensor:
    """`matrix` with all its singular values brought near 1, by five steps of a Newton-Schulz iteration."""
    a, b, c = _ITERATION
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=1e-9)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


@torch.no_grad()
def _to_unit_length(direction: Tensor) -> None:
    direction.div_(direction.flatten(1).norm(dim=1).view(-1, *[1] * (direction.dim() - 1)))


def make_optimizer(network: nn.Module, *, muon_lr: float | None, **adamw: Any) -> AdamW:
    """AdamW, or `Muon` that turns the weights of encoders, decoders and discriminators by `muon_lr` radians a step.

    Not those of one output channel, where it would be a step of fixed length.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    if muon_lr is None:
        return AdamW(parameters, **adamw)
    directions = {
        id(layer.weight_v): layer.weight_v
        for part in network.modules()
        if isinstance(part, Encoder | Decoder | Discriminator)
        for layer in part.modules()
        if isinstance(layer, Conv1d | ConvTranspose1d | Conv2d)
        and layer.weight_v.requires_grad
        and len(layer.weight_v) > 1
    }
    return Muon(directions.values(), [p for p in parameters if id(p) not in directions], turn=muon_lr, **adamw)
