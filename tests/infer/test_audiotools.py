"""`AudioSignal` in and out."""

import pytest
import torch

from esdcodec.infer.audiotools import decode_signal, encode_signal
from tests.conftest import speech

audiotools = pytest.importorskip(
    "audiotools", reason='needs pip install "esdcodec[audiotools]", an environment of its own'
)


@pytest.fixture
def signal():
    stereo = torch.cat([speech(0.5, seed=0), speech(0.5, seed=1)], dim=1)  # [1, 2, T]
    return audiotools.AudioSignal(stereo, 24000)


def test_codes_are_those_of_the_mean_of_the_channels(tiny_codec, signal):
    expected = tiny_codec.encode(signal.audio_data.mean(1, keepdim=True), n_quantizers=2)
    assert encode_signal(tiny_codec, signal, 2).equal(expected)


@pytest.mark.parametrize("rate", [16000, 24000, 44100])
def test_a_decoded_signal_has_the_rate_and_length_of_the_one_it_is_like(tiny_codec, signal, rate):
    signal = signal.resample(rate)
    decoded = decode_signal(tiny_codec, encode_signal(tiny_codec, signal), like=signal)
    assert (decoded.sample_rate, decoded.signal_length) == (rate, signal.signal_length)
    assert decoded.audio_data.shape[:2] == (1, 1)


def test_a_decoded_signal_is_what_decode_gives(tiny_codec, signal):
    codes = encode_signal(tiny_codec, signal)
    decoded = decode_signal(tiny_codec, codes)
    assert decoded.sample_rate == tiny_codec.sample_rate
    assert decoded.audio_data.equal(tiny_codec.decode(codes))
