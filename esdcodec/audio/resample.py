"""From one sample rate to another."""

import numpy as np
import soxr
from numpy.typing import NDArray

Waveform = NDArray[np.float32]  # [T], mono, full scale 1.0


def resample(waveform: Waveform, from_rate: int, to_rate: int) -> Waveform:
    """Resample ``[T]`` to ⌈T · to_rate / from_rate⌉ samples, at the highest quality that soxr has.

    Raises:
        ValueError: a rate is not positive.
    """
    if from_rate <= 0 or to_rate <= 0:
        raise ValueError(f"sample rates must be positive numbers of Hz, not {from_rate} and {to_rate}")
    if from_rate == to_rate:
        return waveform
    length = -(-len(waveform) * to_rate // from_rate)
    resampled = soxr.resample(waveform.astype(np.float32), from_rate, to_rate, quality="VHQ")
    return np.pad(resampled, (0, max(0, length - len(resampled))))[:length]


class Resampler:
    """Resamples a recording that comes in pieces; the values are those of `resample` on the whole."""

    def __init__(self, from_rate: int, to_rate: int) -> None:
        self.from_rate, self.to_rate = from_rate, to_rate
        self.taken = self.given = 0  # samples
        self.stream = soxr.ResampleStream(from_rate, to_rate, 1, quality="VHQ")

    def push(self, waveform: Waveform) -> Waveform:
        """The resampled samples that are known after the next piece ``[T]``."""
        self.taken += len(waveform)
        return self._give(self.stream.resample_chunk(np.ascontiguousarray(waveform, np.float32)))

    def finish(self) -> Waveform:
        """The samples that were waiting for what follows."""
        rest = self._give(self.stream.resample_chunk(np.zeros(0, np.float32), last=True))
        return np.concatenate([rest, np.zeros(self._left(), np.float32)])

    def _left(self) -> int:
        """Samples still to be given of what was taken."""
        return -(-self.taken * self.to_rate // self.from_rate) - self.given

    def _give(self, resampled: Waveform) -> Waveform:
        resampled = resampled[: self._left()]
        self.given += len(resampled)
        return resampled
