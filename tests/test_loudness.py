"""Loudness leaves the pauses out, whatever the pieces, and the gain is what is missing to the codec's level."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import esdcodec
from esdcodec.loudness import LEVEL, LoudnessMeter, gain_for
from tests.conftest import speech


def sine(decibels, seconds=5.0, frequency=997.0, rate=24000):
    """Of this peak, in dB of full scale."""
    t = np.arange(round(seconds * rate)) / rate
    return (10 ** (decibels / 20) * np.sin(2 * np.pi * frequency * t)).astype(np.float32)


def loudness(*pieces, rate=24000):
    meter = LoudnessMeter(rate)
    for piece in pieces:
        meter.push(piece)
    return meter.loudness


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 24000, 44100, 48000, 96000])
def test_a_sine_of_full_scale_is_minus_3_dbfs(rate):
    assert loudness(sine(0, rate=rate), rate=rate) == pytest.approx(-3.01, abs=0.1)
    assert loudness(sine(-40, rate=rate), rate=rate) == pytest.approx(-43.01, abs=0.1)


def test_what_the_ear_does_not_hear_counts_because_the_network_hears_it():
    assert gain_for(sine(-40) + np.float32(0.1), 24000) < 5
    assert gain_for(sine(-40) + sine(-20, frequency=12), 24000) < 8


def test_pauses_are_left_out():
    """The examples of EBU Tech 3341, cases 3 and 4 (in mono)."""
    expected = loudness(sine(-23))
    assert loudness(sine(-36, 10), sine(-23, 60), sine(-36, 10)) == pytest.approx(expected, abs=0.1)
    assert loudness(sine(-72, 10), sine(-36, 10), sine(-23, 60), sine(-36, 10), sine(-72, 10)) == pytest.approx(
        expected, abs=0.1
    )
    assert loudness(np.zeros(24000 * 60, np.float32), sine(-23)) == pytest.approx(expected, abs=0.3)


@given(cuts=st.lists(st.integers(0, 40000), max_size=6), length=st.integers(1, 40000))
@settings(deadline=None, max_examples=50)
def test_pieces_do_not_matter(cuts, length):
    audio = speech(2.0)[0, 0].numpy()[:length]
    assert loudness(*np.split(audio, sorted(cuts))) == pytest.approx(loudness(audio), abs=1e-9)


@pytest.mark.parametrize("seconds", [1 / 24000, 0.05, 0.1, 0.25, 0.39, 0.4, 0.41])
def test_short_recordings_have_a_loudness(seconds):
    assert math.isfinite(loudness(sine(-10, seconds) + np.float32(0.5)))


def test_silence_has_none_and_its_gain_is_0():
    assert loudness() == loudness(np.zeros(50000, np.float32)) == loudness(np.zeros(9, np.float32)) == -math.inf
    assert gain_for(np.zeros(50000, np.float32), 24000) == 0
    assert gain_for(sine(-75), 24000) == 0


@pytest.mark.parametrize("level", [0, -10, -36, -46, -65])
def test_the_gain_brings_a_recording_to_the_level(level):
    audio = speech(2.0)[0, 0].numpy()
    audio *= np.float32(10 ** ((level - loudness(audio)) / 20))
    gain = gain_for(audio, 24000)
    assert gain == round(gain, 2)
    assert loudness(audio * np.float32(10 ** (gain / 20))) == pytest.approx(LEVEL, abs=0.02)


def test_memory_does_not_grow_with_the_recording():
    meter = LoudnessMeter(24000)
    for _ in range(20):
        meter.push(sine(-20, 7.03))
    held = [value for value in vars(meter).values() if isinstance(value, np.ndarray)]
    assert sum(value.nbytes for value in held) < 100_000


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor], ids=["array", "tensor"])
def test_recordings_come_as_encode_takes_them(kind):
    audio = sine(-30)
    expected = gain_for(audio, 24000)
    assert esdcodec.gain_for(kind(audio)[None, None], 24000) == expected
    assert gain_for(kind((audio * 32768).round().astype(np.int16)), 24000) == pytest.approx(expected, abs=0.01)
    with pytest.raises(ValueError, match="each has its own gain"):
        gain_for(kind(np.stack([audio, audio])), 24000)
    with pytest.raises(ValueError, match="sample_rate=0"):
        gain_for(audio, 0)
