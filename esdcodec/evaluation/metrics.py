"""Scores of a decoded signal against its original."""

import warnings

import numpy as np

from ..audio import Waveform


def si_sdr(estimate: Waveform, reference: Waveform) -> float:
    """Scale-invariant signal-to-distortion ratio of ``[T]`` signals, in dB (Le Roux et al. 2018, arXiv:1811.02508)."""
    reference = reference.astype(np.float64) - reference.mean()
    estimate = estimate.astype(np.float64) - estimate.mean()
    target = (estimate @ reference) / max(reference @ reference, 1e-12) * reference
    noise = estimate - target
    return float(10 * np.log10(max(target @ target, 1e-12) / max(noise @ noise, 1e-12)))


def stoi(estimate: Waveform, reference: Waveform, sample_rate: int) -> float | None:
    """Short-time objective intelligibility (Taal et al. 2011), by pystoi; None where there is too little speech."""
    import pystoi

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # its word for less than 30 frames that are not silence
        try:
            return float(pystoi.stoi(reference, estimate, sample_rate))
        except RuntimeWarning:
            return None
