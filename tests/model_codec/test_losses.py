"""Laws of the objective that the goldens cannot decide."""

import julius
import librosa
import pytest
import torch

from esdcodec.model_codec.discriminator import Discriminator
from esdcodec.model_codec.losses import (
    LOW_BAND_WINDOWS,
    SUBBAND_WINDOWS,
    WINDOWS,
    discriminator_loss,
    distillation_loss,
    feature_matching_loss,
    magnitude_loss,
    mel_loss,
)
from esdcodec.model_codec.spectral import decimate, frame_spectrum, mel_filters
from tests.conftest import speech


@pytest.mark.parametrize(("sample_rate", "windows"), [(24000, WINDOWS), (6000, SUBBAND_WINDOWS)])
def test_mel_filters_are_slaneys(sample_rate, windows):
    for window, n_mels in windows.items():
        expected = librosa.filters.mel(sr=sample_rate, n_fft=window, n_mels=n_mels)
        torch.testing.assert_close(
            mel_filters(sample_rate, window, n_mels), torch.from_numpy(expected), rtol=1e-4, atol=1e-7
        )


@pytest.mark.parametrize("length", [24000, 23999, 501])
@pytest.mark.parametrize("factor", [2, 4])
def test_decimation_is_that_of_julius(length, factor):
    audio = speech(1.0)[0, :, :length]
    expected = julius.resample_frac(audio, factor, 1, zeros=24, rolloff=0.945)
    torch.testing.assert_close(decimate(audio, factor), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("length", [6000, 6001, 6239])
def test_frame_spectrum_has_a_frame_for_each_started_hop(length):
    assert frame_spectrum(torch.randn(2, length), 960, 240).shape == (2, 481, -(-length // 240))


def test_a_perfect_reconstruction_costs_nothing():
    audio = speech(0.5)
    assert mel_loss(audio, audio, 24000, WINDOWS) == 0
    magnitude = frame_spectrum(audio[:, 0], 960, 240).abs()
    assert magnitude_loss(magnitude, magnitude) == 0


def test_silence_has_finite_losses_and_gradients():
    estimate = torch.zeros(1, 1, 12000, requires_grad=True)
    loss = mel_loss(estimate, torch.zeros(1, 1, 12000), 24000, WINDOWS)
    loss += magnitude_loss(frame_spectrum(estimate[:, 0], 960, 240).abs(), torch.zeros(1, 481, 50))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(estimate.grad).all()


def test_below_the_floor_nothing_counts_in_the_logarithm():
    quiet, quieter = 1e-9 * speech(0.5), 1e-10 * speech(0.5)
    assert mel_loss(quiet, quieter, 24000, WINDOWS) < 1e-6


def test_low_band_ignores_what_is_above_it():
    t = torch.arange(24000) / 24000
    low, high = torch.sin(2 * torch.pi * 100 * t), torch.sin(2 * torch.pi * 9000 * t)
    reference = low[None, None]
    full = mel_loss((low + 0.1 * high)[None, None], reference, 24000, LOW_BAND_WINDOWS)
    band = mel_loss((low + 0.1 * high)[None, None], reference, 24000, LOW_BAND_WINDOWS, low_band=0.1)
    assert band < 1e-3 * full


def test_spectral_convergence_is_over_the_whole_batch():
    reference = torch.stack([torch.full((3, 4), 10.0), torch.full((3, 4), 1.0)])
    estimate = reference.clone()
    estimate[1] = 2.0
    convergence = magnitude_loss(estimate, reference) - torch.tensor(2.0).log() / 2
    torch.testing.assert_close(convergence, (12 / (12 * 100 + 12)) ** 0.5 * torch.ones(()))


def test_lengths_are_trimmed_to_the_shorter():
    a, b = torch.randn(1, 8, 10), torch.randn(1, 8, 12)
    for loss, x, y in ((distillation_loss, a, b), (magnitude_loss, a.abs(), b.abs())):
        torch.testing.assert_close(loss(x, y), loss(x, y[..., :10]))
        torch.testing.assert_close(loss(y, x), loss(y[..., :10], x))


@pytest.fixture
def small_discriminator():
    return Discriminator(periods=(2, 3), period_channels=(4, 8), windows=(256,), resolution_channels=4)


@pytest.mark.parametrize("length", [4800, 4801, 4803])
def test_discriminators_take_any_length_and_scale(small_discriminator, length):
    audio = speech(0.3)[..., :length]
    maps = small_discriminator(audio)
    assert len(maps) == 3
    for one, other in zip(maps, small_discriminator(0.3 * audio + 0.1)):  # the mean and the level are taken out
        torch.testing.assert_close(one[-1], other[-1], rtol=0, atol=1e-4)


def test_untrained_discriminators_keep_the_scale_of_what_they_hear():
    noise = torch.randn(2, 1, 12000)
    discriminator = Discriminator(
        period_channels=(8, 16, 32, 64), resolution_channels=16, spectrograms={1024: 256, 512: 128}
    )
    for *maps, score in discriminator(noise):
        assert all(0.05 < m.std() < 1.5 for m in maps)  # at a peak of 0.8, the noise has 0.2, its logarithm 0.3
        assert score.std() > 0.01


def test_spectrogram_discriminators_are_blind_to_the_sign_but_not_to_the_sound():
    discriminator = Discriminator(periods=(), windows=(), spectrograms={256: 64}, spectrogram_channels=(4, 4, 4, 4))
    audio = speech(0.5)
    audio = audio - audio.mean()
    (maps,), (opposite,) = discriminator(audio), discriminator(-audio)
    torch.testing.assert_close(maps[-1], opposite[-1])
    (other,) = discriminator(speech(0.5, seed=1))
    assert not torch.allclose(maps[-1], other[-1], atol=1e-3)


def test_feature_matching_leaves_out_the_score_and_spares_the_reference(small_discriminator):
    real, fake = (small_discriminator(speech(0.3, seed=i)) for i in range(2))
    expected = feature_matching_loss(real, fake)
    changed = [[*maps[:-1], maps[-1] + 1] for maps in fake]
    assert feature_matching_loss(real, changed) == expected
    reference = speech(0.3).requires_grad_()
    feature_matching_loss(small_discriminator(reference), fake).backward()
    assert reference.grad is None


def test_discriminator_loss_is_least_when_it_is_right(small_discriminator):
    maps = small_discriminator(speech(0.3))
    ones = [[torch.ones_like(m[-1])] for m in maps]
    zeros = [[torch.zeros_like(m[-1])] for m in maps]
    assert discriminator_loss(ones, zeros) == 0
    assert discriminator_loss(zeros, ones) == 6
