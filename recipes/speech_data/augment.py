"""Voices and rooms that nobody recorded, made of those that somebody did: small stages, randomness passed in.

Two kinds. What changes the speech itself (`new_voice`) changes what a codec shall tell, so it comes before anything is
measured. What damages it (`damage`) is heard by the encoder only: what it shall tell is measured on the clean signal.
"""

import io
from collections.abc import Callable

import numpy as np
import soundfile

from esdcodec.audio import Waveform, resample

Random = np.random.Generator
RATE = 24000
STRETCH = (0.75, 1.3)  # pitch, formants and pace together; log-uniform
GAIN_DB = (-35.0, 6.0)
LOUDEST = 0.99
EQUALISER_DB = 3.0  # standard deviation
NARROW_HZ, NARROW_SHARE = (3400.0, 9000.0), 0.3
TELEPHONE_HZ = (300.0, 3400.0)
NOISE_DB = (15.0, 45.0)  # of speech to noise


# ---- other voices ----------------------------------------------------------------------------------------------------


def new_voice(waveform: Waveform, random: Random) -> Waveform:
    """``[T]`` -> ``[T']``: another vocal tract, microphone, band and distance."""
    waveform = equalised(stretched(waveform, random), random)
    if random.random() < NARROW_SHARE:
        waveform = narrowed(waveform, random)
    return gain(waveform, random)


def stretched(waveform: Waveform, random: Random) -> Waveform:
    """The speech as if recorded at another rate: slower is deeper, of a longer vocal tract."""
    factor = np.exp(random.uniform(*np.log(STRETCH)))
    return resample(waveform, round(RATE * factor), RATE)


def equalised(waveform: Waveform, random: Random) -> Waveform:
    """A smooth random response: a few dB at each of some frequencies, spaced by their logarithm."""
    knots = np.log(np.geomspace(60, RATE / 2, 7))
    decibels = random.normal(0, EQUALISER_DB, len(knots))
    return filtered(waveform, lambda hz: 10 ** (np.interp(np.log(hz + 1), knots, decibels) / 20))


def narrowed(waveform: Waveform, random: Random) -> Waveform:
    """Nothing above a random frequency: a model that knows one band only fails on all others."""
    top = np.exp(random.uniform(*np.log(NARROW_HZ)))
    return filtered(waveform, lambda hz: hz < top)


def gain(waveform: Waveform, random: Random) -> Waveform:
    factor = 10 ** (random.uniform(*GAIN_DB) / 20)
    return waveform * np.float32(min(factor, LOUDEST / max(np.abs(waveform).max(initial=0), 1e-6)))


# ---- damage ----------------------------------------------------------------------------------------------------------


def damage(waveform: Waveform, random: Random) -> Waveform:
    """``[T]`` -> ``[T]``: noise, a room, or a lossy format, each now and then, in time with the clean signal."""
    for probability, stage in ((0.15, room), (0.4, noisy), (0.15, lossy)):
        if random.random() < probability:
            waveform = stage(waveform, random)
    return waveform


def noisy(waveform: Waveform, random: Random) -> Waveform:
    """Noise whose spectrum falls by 0 to 6 dB an octave."""
    slope = random.uniform(0, 1)
    noise = filtered(random.standard_normal(len(waveform), np.float32), lambda hz: (hz + 50) ** -slope)
    level = np.sqrt(np.mean(waveform**2)) * 10 ** (-random.uniform(*NOISE_DB) / 20)
    return waveform + noise * np.float32(level / max(np.sqrt(np.mean(noise**2)), 1e-9))


def room(waveform: Waveform, random: Random) -> Waveform:
    """A small room: the direct sound, then noise that decays by 60 dB in 0.15 to 0.5 s."""
    decay = random.uniform(0.15, 0.5)
    time = np.arange(round(decay * RATE)) / RATE
    tail = random.standard_normal(len(time), np.float32) * np.exp(-6.9 * time / decay).astype(np.float32)
    tail[: round(0.003 * RATE)] = 0
    tail *= np.float32(10 ** (random.uniform(-15, -3) / 20) / np.sqrt(np.sum(tail**2)))
    tail[0] = 1
    size = 2 ** int(np.ceil(np.log2(len(waveform) + len(tail))))
    convolved = np.fft.irfft(np.fft.rfft(waveform, size) * np.fft.rfft(tail, size), size)
    return convolved[: len(waveform)].astype(np.float32)


def lossy(waveform: Waveform, random: Random) -> Waveform:
    """Through a telephone band, or mp3 or Opus and back, aligned."""
    kind = random.integers(3)
    if kind == 0:
        return telephone(waveform)
    format, subtype = (("MP3", "MPEG_LAYER_III"), ("OGG", "OPUS"))[kind - 1]
    file = io.BytesIO()
    soundfile.write(file, waveform.clip(-1, 1), RATE, format=format, subtype=subtype, compression_level=0.9)
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32")
    return _aligned(decoded, waveform)


def telephone(waveform: Waveform) -> Waveform:
    """300 to 3,400 Hz at 8 kHz, and back."""
    low, high = TELEPHONE_HZ
    narrow = resample(filtered(waveform, lambda hz: (hz >= low) * (hz <= high)), RATE, 8000)
    return _fitted(resample(narrow, 8000, RATE), len(waveform))


def filtered(waveform: Waveform, response: Callable[[np.ndarray], np.ndarray]) -> Waveform:
    """`waveform` ``[T]`` with its spectrum multiplied by `response` of each frequency in Hz: no delay."""
    spectrum = np.fft.rfft(waveform) * response(np.fft.rfftfreq(len(waveform), 1 / RATE))
    return np.fft.irfft(spectrum, len(waveform)).astype(np.float32)


def _aligned(decoded: Waveform, waveform: Waveform, most: int = 3000) -> Waveform:
    """`decoded` shifted by what its coder delayed it, found by correlation."""
    size = 2 ** int(np.ceil(np.log2(len(waveform) + len(decoded))))
    correlation = np.fft.irfft(np.fft.rfft(decoded, size) * np.fft.rfft(waveform, size).conj(), size)
    return _fitted(decoded[int(correlation[:most].argmax()) :], len(waveform))


def _fitted(waveform: Waveform, length: int) -> Waveform:
    return np.pad(waveform[:length], (0, max(0, length - len(waveform))))
