"""What a run shows of itself: averages over a window, a line to read, the names of diseases, sounds, pictures."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from ..model_codec.usage import CodebookUsage

COLLAPSED = 0.01  # a healthy semantic codebook's perplexity is above this share of what the window could show
DOMINATED = 0.9  # D(real) − D(fake) of discriminators that are never fooled
STARVED = 0.2  # share of the time spent waiting for data
SHOWN = {  # in the progress line
    "loss/total": "loss",
    "loss/mel": "mel",
    "loss/distillation": "distillation",
    "loss/semantic_commitment": "commitment",
    "discriminator/real": "D(real)",
    "discriminator/fake": "D(fake)",
}


class Window:
    """Collects what the steps since the last log line say."""

    def __init__(self, codebook_sizes: Sequence[int], device: torch.device) -> None:
        self.usage = CodebookUsage(codebook_sizes, device)
        self.clear()

    def clear(self) -> None:
        self.scalars: dict[str, list[Tensor]] = defaultdict(list)
        self.usage.clear()
        self.started = time.perf_counter()
        self.waited = 0.0  # seconds for data
        self.audio_seconds = 0.0  # of all ranks
        self.steps = 0

    def add(self, scalars: Mapping[str, Tensor]) -> None:
        for name, value in scalars.items():
            self.scalars[name].append(value.detach().float())

    def summary(self, accelerator: Accelerator) -> dict[str, float]:
        """Means over the window and all ranks, codebook usage and speed."""
        elapsed = max(time.perf_counter() - self.started, 1e-9)
        names = sorted(self.scalars)
        means = [torch.stack(self.scalars[name]).mean() for name in names]
        own = torch.stack([*means, torch.tensor(self.waited / elapsed, device=accelerator.device).float()])
        values = dict(zip([*names, "data/wait"], accelerator.reduce(own, "mean").tolist()))

        self.usage.counts = accelerator.reduce(self.usage.counts, "sum")
        for i, (used, perplexity) in enumerate(zip(self.usage.used(), self.usage.perplexity())):
            name = "semantic" if i == 0 else f"acoustic_{i}"
            values |= {f"usage/{name}": used, f"perplexity/{name}": perplexity}
        return {
            **values,
            "speed/steps_per_second": self.steps / elapsed,
            "speed/audio_seconds_per_second": self.audio_seconds / elapsed,
        }

    def diseases(self, values: Mapping[str, float], *, quantized: bool = True) -> list[str]:
        """What is wrong with a run of which `summary` says this, and what helps.

        While it is trained past the quantizers (not `quantized`), what codes there would be tells nothing.
        """
        found = []
        entries, shown = self.usage.sizes[0], min(self.usage.sizes[0], self.usage.frames)
        perplexity = values["perplexity/semantic"]
        if quantized and perplexity < COLLAPSED * shown:
            found.append(
                f"semantic codebook collapse: {perplexity:.1f} entries are as good as in use, of {entries}. Distil "
                "from a teacher, or set trainer.continuous_steps and trainer.fit_batches; a lower learning rate and "
                "longer warm-up help"
            )
        real, fake = values.get("discriminator/real", 0.0), values.get("discriminator/fake", 0.0)
        if real - fake > DOMINATED:
            found.append(
                f"discriminator dominance: D(real) {real:.2f}, D(fake) {fake:.2f}, so the codec learns nothing from "
                "them. Lower trainer.discriminator.lr, or raise trainer.discriminator_start"
            )
        if values["data/wait"] > STARVED:
            found.append(
                f"data starvation: {100 * values['data/wait']:.0f} % of the time is spent waiting for data. Raise "
                "data.num_workers, or put the shards on a faster disk"
            )
        return found


def progress_line(step: int, max_steps: int, values: Mapping[str, float]) -> str:
    """One line that a person can read."""
    terms = "  ".join(f"{label} {values[name]:.3g}" for name, label in SHOWN.items() if name in values)
    speed = values["speed/steps_per_second"]
    left = (max_steps - step) / max(speed, 1e-9)
    skipped = f"  skipped {values['data/skipped']:,.0f}" if values["data/skipped"] else ""
    return (
        f"step {step:,} of {max_steps:,} ({100 * step / max_steps:.0f} %)  {terms}  {speed:.3g} steps/s  "
        f"{values['speed/audio_seconds_per_second']:.3g} s audio/s  wait {100 * values['data/wait']:.0f} %{skipped}  "
        f"{_duration(left)} left"
    )


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60:,} h"


def log_sounds(
    accelerator: Accelerator, sounds: Mapping[str, tuple[np.ndarray, int]], step: int, folder: str = "samples"
) -> None:
    """Hand sounds, ``[T]`` and their rate, to the trackers, each with a picture of its spectrogram."""
    from ..infer.plot import spectrogram_image

    for name, (waveform, rate) in sounds.items():
        image = spectrogram_image(waveform, rate, title=name)
        for tracker in accelerator.trackers:
            _log_sound(tracker, f"{folder}/{name}", waveform, rate, image, step)


def _log_sound(tracker: Any, name: str, waveform: np.ndarray, rate: int, image: np.ndarray, step: int) -> None:
    if tracker.name == "tensorboard":
        tracker.tracker.add_audio(name, np.clip(waveform, -1, 1), step, sample_rate=rate)
        tracker.tracker.add_image(f"{name}_spectrogram", image, step, dataformats="HWC")
    elif tracker.name == "wandb":
        import wandb

        values = {name: wandb.Audio(waveform, sample_rate=rate), f"{name}_spectrogram": wandb.Image(image)}
        tracker.tracker.log(values, step=step)
