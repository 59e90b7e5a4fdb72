"""What a run logs: means over a window of steps, a progress line, sounds and their spectrograms."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

STARVED = 0.2  # share of the time spent waiting for data

Sounds = Mapping[str, tuple[np.ndarray, int]]  # name -> waveform [T] and its rate


class LogWindow:
    """Collects the scalars of the steps since the last log line."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stopped = False
        self.clear()

    def clear(self) -> None:
        self.scalars: dict[str, list[Tensor]] = defaultdict(list)
        self.started = time.perf_counter()
        self.waited = 0.0  # seconds for data
        self.audio_seconds = 0.0  # of all ranks
        self.steps = 0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The time spent within does not count."""
        self.stopped, began = True, time.perf_counter()
        try:
            yield
        finally:
            self.stopped = False
            self.started += time.perf_counter() - began

    def add(self, scalars: Mapping[str, Tensor]) -> None:
        for name, value in scalars.items():
            self.scalars[name].append(value.detach().float())

    def summary(self, accelerator: Accelerator) -> dict[str, float]:
        """Means over the window and all ranks, and speed."""
        elapsed = max(time.perf_counter() - self.started, 1e-9)
        names = sorted(self.scalars)
        means = [torch.stack(self.scalars[name]).mean() for name in names]
        own = torch.stack([*means, torch.tensor(self.waited / elapsed, device=self.device).float()])
        values = dict(zip([*names, "data/wait"], accelerator.reduce(own, "mean").tolist()))
        return {
            **values,
            "speed/steps_per_second": self.steps / elapsed,
            "speed/audio_seconds_per_second": self.audio_seconds / elapsed,
        }


def starvation(values: Mapping[str, float]) -> list[str]:
    """A warning if, by the values of `summary`, too much time is spent waiting for data."""
    if values["data/wait"] <= STARVED:
        return []
    return [
        f"data starvation: {100 * values['data/wait']:.0f} % of the time is spent waiting for data. Raise "
        "data.num_workers, or put the shards on a faster disk"
    ]


def progress_line(step: int, max_steps: int, values: Mapping[str, float], shown: Mapping[str, str]) -> str:
    """The progress line, with the values in `shown` under their labels there."""
    terms = "  ".join(f"{label} {values[name]:.3g}" for name, label in shown.items() if name in values)
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


def log_sounds(accelerator: Accelerator, sounds: Sounds, step: int, folder: str = "samples") -> None:
    """Hand sounds to the trackers, each with a picture of its spectrogram."""
    if not sounds:
        return
    from ..evaluation.plot import spectrogram_image

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
