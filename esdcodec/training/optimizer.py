"""How a network learns: AdamW, Muon for convolutions, the schedule of the learning rate, the moving average."""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from ..model_codec.decoder import Decoder
from ..model_codec.discriminator import Discriminator
from ..model_codec.encoder import Encoder
from ..model_codec.layers import Conv1d, Conv2d, ConvTranspose1d, to_unit_length
from .settings import ConfigurationError, OptimizerSettings

_ITERATION = 3.4445, -4.7750, 2.0315  # of Newton and Schulz, for singular values of 0.7 to 1.2 after five steps


class Muon(AdamW):
    """Steps of equal size in every direction of a weight matrix (Jordan et al. 2024, "Muon").

    AdamW first learns the few directions in which the gradients of all examples agree (for an encoder of speech the
    level of a band), and much later those that matter to few, such as pitch. Muon replaces the
    momentum of a weight matrix by the nearest orthogonal matrix. It is used for `directions`, the v of
    weight-normalised convolutions, whose length has no effect: it is kept at 1 for each output channel, so that
    `muon_lr`, the learning rate of these, is the angle in radians by which a step rotates a channel's weights. All
    other parameters take AdamW's step.
    """

    def __init__(self, directions: Iterable[Tensor], others: Iterable[Tensor], *, muon_lr: float, **adamw: Any) -> None:
        directions = list(directions)
        groups: list[dict[str, Any]] = [{"params": others}, {"params": directions, "lr": muon_lr, "muon": True}]
        super().__init__(groups, **adamw)
        for direction in directions:
            to_unit_length(direction)

    found_inf: Tensor | None = None  # as of torch's fused AdamW: where it is 1, a step changes nothing

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        directions = [(p, group["lr"]) for group in self.param_groups if group.get("muon") for p in group["params"]]
        gradients = [p.grad for p, _ in directions]
        for p, lr in directions:
            if p.grad is not None:
                self._rotate(p, p.grad, lr)
            p.grad = None  # AdamW passes over it
        super().step()
        for (p, _), gradient in zip(directions, gradients):
            p.grad = gradient

    def _rotate(self, direction: Tensor, gradient: Tensor, angle: float) -> None:
        state = self.state[direction]
        if not state:
            state["step"] = torch.zeros(())  # AdamW's loading of a state asks for it
            state["momentum"] = torch.zeros_like(direction)
        momentum = state["momentum"].lerp(gradient, 0.05)
        update = orthogonalised(gradient.lerp(momentum, 0.95).flatten(1))
        update *= angle / update.norm(dim=1).mean().clamp(min=1e-9)
        turned = direction - update.view_as(direction)
        to_unit_length(turned)
        if self.found_inf is not None:
            momentum = torch.where(self.found_inf > 0, state["momentum"], momentum)
            turned = torch.where(self.found_inf > 0, direction, turned)
        state["momentum"].copy_(momentum)
        direction.copy_(turned)


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


def make_optimizer(network: nn.Module, *, muon_lr: float | None, **adamw: Any) -> AdamW:
    """Fused AdamW, or `Muon` that rotates the weights of encoders, decoders and discriminators by `muon_lr` radians.

    Not those of one output channel, where it would be a step of fixed length.

    Raises:
        ConfigurationError: there are no such weights.
    """
    adamw["fused"] = True  # one kernel for all weights, which can leave a step out without the host
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
    if not directions:
        name = type(network).__name__
        raise ConfigurationError(
            f"muon_lr={muon_lr}, but {name} has no encoder, decoder or discriminator: set it to null"
        )
    return Muon(directions.values(), [p for p in parameters if id(p) not in directions], muon_lr=muon_lr, **adamw)


def warmup_cosine(optimizer: Optimizer, *, warmup_steps: int, decay_steps: int, final_ratio: float) -> LambdaLR:
    """Linear warm-up over `warmup_steps`, then half a cosine down to `final_ratio` of the rate at `decay_steps`."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = min(1.0, (step - warmup_steps) / max(1, decay_steps - warmup_steps))
        return final_ratio + (1 - final_ratio) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


@dataclass
class Learner:
    """A network that learns, and what moves its weights. Checkpoints hold all of it."""

    name: str  # in the log: `lr/NAME`, `grad_norm/NAME`
    network: Any  # as Accelerate wraps it: what a forward pass that is trained goes through
    unwrapped: Any
    optimizer: Any
    schedule: LambdaLR
    average: AveragedModel | None = None  # of the weights
    decay: float = 0.0  # of the average, a step
    clip_grad_norm: float | None = None  # None: that of the run

    def __post_init__(self) -> None:
        self.options = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]

    def keep_to_settings(self) -> None:
        """Learn by the settings that this was made with, also where the state of another run's was loaded.

        What a checkpoint holds are moments and the number of steps; learning rates, betas and weight decay are those
        of the configuration.
        """
        self.schedule.base_lrs = [options["initial_lr"] for options in self.options]
        for group, options, base, factor in zip(
            self.optimizer.param_groups, self.options, self.schedule.base_lrs, self.schedule.lr_lambdas
        ):
            group.update(options)
            group["lr"] = base * factor(self.schedule.last_epoch)
        self.schedule._last_lr = [group["lr"] for group in self.optimizer.param_groups]
        for parameter, state in self.optimizer.state.items():  # an AdamW that was not fused has it on the host
            state["step"] = state["step"].to(parameter.device)

    def digest(self) -> str:
        """SHA-256 of all weights, those of the average too."""
        found = hashlib.sha256()
        for network in (self.unwrapped, self.average):
            for tensor in network.state_dict().values() if network is not None else ():
                found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return found.hexdigest()

    @classmethod
    def make(cls, accelerator: Accelerator, name: str, network: nn.Module, settings: OptimizerSettings) -> "Learner":
        """Give `network` to the device and the other processes, with an optimizer and a schedule by `settings`."""
        optimizer = make_optimizer(
            network,
            muon_lr=settings.muon_lr,
            lr=settings.lr,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
        )
        schedule = warmup_cosine(
            optimizer,
            warmup_steps=settings.warmup_steps,
            decay_steps=settings.decay_steps,
            final_ratio=settings.final_lr / settings.lr,
        )
        wrapped, optimizer = accelerator.prepare(network, optimizer)
        accelerator.register_for_checkpointing(schedule)
        unwrapped = accelerator.unwrap_model(wrapped, keep_torch_compile=False)
        return cls(name, wrapped, unwrapped, optimizer, schedule, clip_grad_norm=settings.clip_grad_norm)

    def keep_average(self, accelerator: Accelerator, decay: float) -> None:
        """Keep an exponential moving average of the weights from now on."""
        self.average, self.decay = AveragedModel(self.unwrapped, device=accelerator.device), decay
        accelerator.register_for_checkpointing(self.average)

    def step(self, skip: Tensor) -> None:
        """A step of the optimizer; none where `skip`, at which only the device looks, is 1."""
        optimizer = self.optimizer.optimizer  # in Accelerate's
        optimizer.found_inf = skip
        self.optimizer.step()
        optimizer.found_inf = None

    @torch.no_grad()
    def update_average(self, skip: Tensor) -> None:
        """Let the average follow the weights; where `skip` is 1 it stays as it is."""
        if self.average is None:
            return
        n_averaged = self.average.n_averaged
        share = torch.where(n_averaged == 0, 1.0, 1 - self.decay) * (1 - skip)  # it begins at the weights
        for average, weight in zip(self.average.module.parameters(), self.unwrapped.parameters()):
            average.lerp_(weight, share)
        n_averaged += (1 - skip).to(n_averaged.dtype)

    @property
    def averaged(self) -> Any:
        """What is validated and exported: the moving average, where there is one."""
        return self.average.module if self.average is not None else self.unwrapped
