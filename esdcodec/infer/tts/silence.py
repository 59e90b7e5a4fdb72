"""The silence before and after a sentence: cut to a known length, so that the pauses between sentences are chosen."""

import math

import torch
from torch import Tensor

WINDOW = 0.01  # seconds
THRESHOLD = -50.0  # dBFS; speech is at about -16
MARGIN = 0.06  # seconds of what is quiet that stay on each side: weak consonants, and the room
FADE = 0.005  # seconds, at both ends


class SilenceTrimmer:
    """Takes the silence off the ends of one sentence that comes in pieces, but for a margin that fades.

    What is quiet waits until it is known whether speech follows. How the audio is cut into pieces changes nothing.
    """

    def __init__(self, sample_rate: int) -> None:
        self.window = max(1, round(WINDOW * sample_rate))  # samples
        self.margin = round(MARGIN / WINDOW) * self.window
        self.fade = max(1, round(FADE * sample_rate))
        self.held = torch.zeros(0)  # samples whose fate is not known
        self.n_quiet = 0  # windows of them that were measured, all quiet
        self.begun = False

    def push(self, audio: Tensor) -> Tensor:
        """What is certain to stay after the next piece ``[T]``."""
        self.held = torch.cat([self.held, audio])
        n_windows = len(self.held) // self.window
        windows = self.held[: n_windows * self.window].reshape(n_windows, self.window)[self.n_quiet :]
        loud = (windows.double().square().mean(1) > 10 ** (THRESHOLD / 10)).nonzero()[:, 0] + self.n_quiet
        self.n_quiet = n_windows
        if not len(loud):
            return self._without_the_beginning()
        given = self.held[: int(loud[-1]) * self.window]  # the last loud window waits: it may be the end, which fades
        if not self.begun:
            self.begun = True
            given = self._faded_in(given, int(loud[0]) * self.window)
        self._keep(len(self.held) - int(loud[-1]) * self.window, n_windows - int(loud[-1]))
        return given

    def finish(self) -> Tensor:
        """The rest: what is left of the speech, and the margin."""
        loudest = self.window if self.begun else 0
        rest, self.held = self.held[: loudest + self.margin].clone(), self.held[:0]
        n = min(self.fade, len(rest))
        rest[len(rest) - n :] *= ramp(n).flip(0)
        return rest

    def _without_the_beginning(self) -> Tensor:
        if not self.begun:
            surplus = max(0, self.n_quiet * self.window - self.margin) // self.window
            self._keep(len(self.held) - surplus * self.window, self.n_quiet - surplus)
        return self.held[:0]

    def _faded_in(self, given: Tensor, first: int) -> Tensor:
        """From the margin before sample `first` on."""
        start = max(0, first - self.margin)
        n = min(self.fade, len(self.held) - start)
        self.held[start : start + n] *= ramp(n)
        return given[start:]

    def _keep(self, n_samples: int, n_quiet: int) -> None:
        self.held = self.held[len(self.held) - n_samples :].clone()
        self.n_quiet = n_quiet


def ramp(n: int) -> Tensor:
    """From 0 to 1, ``[n]``."""
    return torch.sin(torch.arange(n) / max(1, n) * math.pi / 2).square()


def silence(seconds: float, sample_rate: int) -> Tensor:
    return torch.zeros(round(seconds * sample_rate))
