"""How loud a recording is, and the gain that brings it to the level at which the codec codes best.

Pauses are left out as ITU-R BS.1770-5 does. Levels are those of the samples, without the weighting of that standard,
because the network also responds to what the ear does not hear: a constant offset, amplified with quiet speech, does
harm.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = -16.0  # dBFS, at which the codec codes best; docs/format.md has the figures
MAX_GAIN_DB = 60.0
STEP = 0.1  # seconds; a gating block is four of them, and begins with each
ABSOLUTE_GATE = -70.0  # dBFS: what is quieter is silence
RELATIVE_GATE = -10.0  # dB below the mean of what is not silence: pauses
BIN = 0.1  # dB; levels of blocks are counted in bins, so that memory does not grow with a recording
N_BINS = 2000


class LoudnessMeter:
    """Gated level of a mono recording that comes in pieces, whatever their lengths.

    Args:
        sample_rate: Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self.step = max(1, round(STEP * sample_rate))  # samples
        self.pending: NDArray[np.float32] = np.zeros(0, np.float32)  # samples that do not fill a step yet
        self.powers: NDArray[np.float64] = np.zeros(0)  # of the last three steps
        self.n_steps = 0
        self.counts = np.zeros(N_BINS)  # blocks of each level
        self.sums = np.zeros(N_BINS)  # and their power

    def push(self, waveform: NDArray[np.float32]) -> None:
        """Measure the next piece ``[T]``."""
        samples = np.concatenate([self.pending, waveform])
        whole = len(samples) // self.step * self.step
        self.pending = samples[whole:].copy()
        if whole:
            self._add(samples[:whole].reshape(-1, self.step))

    @property
    def loudness(self) -> float:
        """dBFS of what was pushed, a full-scale sine being -3; minus infinity for silence.

        Less than 0.4 s counts as 0.4 s.
        """
        counts, sums = self.counts, self.sums
        if self.n_steps < 4:
            power = self.powers.sum() + np.square(self.pending, dtype=np.float64).sum() / self.step
            counts, sums = _histogram(np.array([power / 4]))
        if not counts.any():
            return -math.inf
        threshold = _level(sums.sum() / counts.sum()) + RELATIVE_GATE
        kept = np.arange(N_BINS) >= math.floor((threshold - ABSOLUTE_GATE) / BIN)
        return float(_level(sums[kept].sum() / counts[kept].sum()))

    @property
    def gain_db(self) -> float:
        """dB, in hundredths, from this recording's loudness to the codec's level; 0 for silence."""
        loudness = self.loudness
        return 0.0 if loudness == -math.inf else round(max(-MAX_GAIN_DB, min(MAX_GAIN_DB, LEVEL - loudness)), 2)

    def _add(self, steps: NDArray[np.float32]) -> None:
        self.n_steps += len(steps)
        powers = np.concatenate([self.powers, np.square(steps, dtype=np.float64).mean(1)])
        if len(powers) > 3:
            counts, sums = _histogram(np.lib.stride_tricks.sliding_window_view(powers, 4).mean(1))
            self.counts, self.sums = self.counts + counts, self.sums + sums
        self.powers = powers[-3:]


def _level(power: Any) -> Any:
    return 10 * np.log10(power)


def _histogram(powers: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """How many blocks of each level there are, and their power; silent ones are left out."""
    levels = _level(np.maximum(powers, 1e-20))
    loud = levels > ABSOLUTE_GATE
    bins = np.minimum(((levels[loud] - ABSOLUTE_GATE) / BIN).astype(int), N_BINS - 1)
    return np.bincount(bins, minlength=N_BINS), np.bincount(bins, powers[loud], minlength=N_BINS)


def gain_for(audio: Any, sample_rate: int) -> float:
    """Gain in dB, in hundredths, with which `ESDCodec.encode` and `decode` code a recording best; 0 for silence.

    Args:
        audio: tensor or array of one recording ``[T]``, ``[1, T]`` or ``[1, 1, T]``, of any float dtype (full scale
            1.0) or int16, on any device.
        sample_rate: Hz.

    Raises:
        ValueError: the audio is not as described above.
    """
    import torch

    from .model_codec.checks import check_audio, check_sample_rate

    waveform = check_audio(audio, audio.device if isinstance(audio, torch.Tensor) else torch.device("cpu"))
    meter = LoudnessMeter(check_sample_rate(sample_rate, sample_rate))
    if len(waveform) > 1:
        raise ValueError(f"audio of shape {list(audio.shape)} has {len(waveform)} recordings: each has its own gain")
    meter.push(waveform[0, 0].cpu().numpy())
    return meter.gain_db
