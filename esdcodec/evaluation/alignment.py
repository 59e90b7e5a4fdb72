"""The delay of decoded audio against the original."""

import numpy as np
import torch

from ..audio import Waveform, resample

RATE = 16000  # Hz
STEP, WINDOW = RATE // 1000, RATE // 50  # samples: a spectrum each millisecond, of 20 ms
BANDS, BINS = 16, 5  # up to 4 kHz in bands of 250 Hz
SECONDS = 20  # of the recording that are compared, the loudest
FURTHEST = 500  # ms, on each side
SIMILAR = 0.5  # correlation from which two signals are the same speech


def delay_ms(reference: Waveform, estimate: Waveform, sample_rate: int) -> float | None:
    """By how many milliseconds `estimate` is later than `reference`, both ``[T]``; None where they are too unlike.

    The shift at which the logarithms of their energies in 16 bands correlate best. So it works for vocoders too, which
    do not keep phases.
    """
    signals = [resample(waveform, sample_rate, RATE) for waveform in (reference, estimate)]
    first = _loudest(signals[0], SECONDS * RATE)
    levels = [_levels(signal[first : first + SECONDS * RATE]) for signal in signals]
    if min(level.shape[1] for level in levels) < 100:  # a tenth of a second
        return None
    size = 2 ** int(np.ceil(np.log2(max(level.shape[1] for level in levels) + FURTHEST)))
    spectra = [np.fft.rfft(level, size) for level in levels]
    correlation = np.fft.irfft((spectra[0].conj() * spectra[1]).sum(0), size)
    correlation = np.concatenate([correlation[-FURTHEST:], correlation[: FURTHEST + 1]])
    energy = float(np.sqrt((levels[0] ** 2).sum() * (levels[1] ** 2).sum()))
    best = int(correlation.argmax())
    return float(best - FURTHEST) if energy and correlation[best] / energy >= SIMILAR else None


def _loudest(waveform: Waveform, length: int) -> int:
    """Where the loudest `length` samples begin, to a second."""
    if len(waveform) <= length:
        return 0
    energy = np.concatenate([[0.0], np.cumsum(waveform.astype(np.float64) ** 2)])[::RATE]
    seconds = length // RATE
    return int((energy[seconds:] - energy[:-seconds]).argmax()) * RATE


def _levels(waveform: Waveform) -> np.ndarray:
    """Level in each band and millisecond ``[BANDS, L]``, in dB down to 50 below the loudest, without its mean."""
    if len(waveform) < WINDOW:
        return np.zeros((BANDS, 0))
    window = torch.hann_window(WINDOW)
    signal = torch.from_numpy(waveform.astype(np.float32))
    spectrum = torch.stft(signal, WINDOW, STEP, window=window, center=False, return_complex=True)
    power = spectrum[1 : 1 + BANDS * BINS].abs().square().unflatten(0, (BANDS, BINS)).sum(1).double().numpy()
    level = 10 * np.log10(np.maximum(power, max(power.max(), 1e-20) * 1e-5))
    return level - level.mean(1, keepdims=True)
