"""The network and the objective agree with the published model's numbers, at full size."""

import json

import numpy as np
import pytest
import torch

from esdcodec.model_codec.discriminator import Discriminator
from esdcodec.model_codec.losses import (
    LOW_BAND_WINDOWS,
    SUBBAND_WINDOWS,
    WINDOWS,
    adversarial_loss,
    discriminator_loss,
    distillation_loss,
    feature_matching_loss,
    magnitude_loss,
    mel_loss,
)
from esdcodec.model_codec.spectral import decimate, frame_spectrum
from esdcodec.published import CONSTANTS, our_name
from esdcodec.training.objective import reconstruction_losses, weighted_sum
from tests import weights
from tests.conftest import DATA, speech

pytestmark = pytest.mark.slow
GOLDEN = json.loads((DATA / "golden_objective.json").read_text())


def assert_close(values, expected):
    """Within 1e-4 of the maximum."""
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


def agreement(codes, expected):
    return (codes == expected).double().mean().item()


@pytest.fixture(scope="module")
def output(published_codec):
    with torch.no_grad():
        return published_codec(speech(2.0))


class TestCodec:
    def test_encoder_latent(self, published_codec, golden):
        with torch.no_grad():
            assert_close(published_codec.encode_latent(speech(2.0)), golden["encoder_latent"])

    def test_semantic_codes(self, output, golden):
        assert agreement(output.codes[:, :1], golden["semantic_codes"]) >= 0.99

    def test_acoustic_codes(self, output, golden):
        assert agreement(output.codes[:, 1:], golden["acoustic_codes"]) >= 0.99

    def test_semantic_latent(self, output, golden):
        assert_close(output.semantic_latent, golden["semantic_latent"])

    def test_subband(self, output, golden):
        assert_close(output.subband[0], golden["subband"].reshape(1, -1))

    def test_audio(self, output, golden):
        assert_close(output.audio, golden["audio"])

    def test_codes_by_encode(self, published_codec, golden):
        codes = published_codec.encode(speech(2.0))
        expected = torch.cat([golden["semantic_codes"], golden["acoustic_codes"]], dim=1)
        assert codes.shape == (1, 12, 50)
        assert agreement(codes, expected) >= 0.99

    def test_decoding_the_golden_codes(self, published_codec, golden):
        codes = torch.cat([golden["semantic_codes"], golden["acoustic_codes"]], dim=1)
        assert_close(published_codec.decode(codes), golden["audio"])

    def test_decoding_the_golden_semantic_codes_alone(self, published_codec, golden):
        assert_close(published_codec.decode(golden["semantic_codes"]), golden["audio_semantic_only"])

    def test_sizes(self, published_codec):
        millions = {
            name: sum(p.numel() for p in part.parameters()) / 1e6 for name, part in published_codec.named_children()
        }
        assert {name: round(n, 1) for name, n in millions.items()} == {
            "encoder": 21.9,
            "semantic_quantizer": 17.8,
            "semantic_decoder": 7.4,
            "acoustic_quantizer": 0.3,
            "condition_network": 5.7,
            "decoder": 57.5,
        }


@pytest.fixture(scope="module")
def discriminator():
    network = Discriminator()
    shapes = json.loads((DATA / "shapes_discriminator.json").read_text())
    network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.state_dict(shapes).items()})
    return network


@pytest.fixture(scope="module")
def reference():
    return speech(1.0, seed=1)


@pytest.fixture(scope="module")
def estimate(reference):
    return 0.8 * speech(1.0, seed=2) + 0.2 * reference


class TestLosses:
    def test_mel(self, estimate, reference):
        loss = mel_loss(estimate, reference, 24000, WINDOWS)
        assert loss.item() == pytest.approx(GOLDEN["mel_24k"], rel=1e-3)

    def test_low_band_mel(self, estimate, reference):
        loss = mel_loss(estimate, reference, 24000, LOW_BAND_WINDOWS, low_band=0.1)
        assert loss.item() == pytest.approx(GOLDEN["semantic_band_mel_24k"], rel=1e-3)

    def test_subband_mel_and_magnitude(self, estimate, reference):
        y, x = decimate(estimate[:, 0], 4), decimate(reference[:, 0], 4)
        loss = mel_loss(y[:, None], x[:, None], 6000, SUBBAND_WINDOWS)
        assert loss.item() == pytest.approx(GOLDEN["mel_6k"], rel=1e-3)
        magnitudes = [frame_spectrum(s, 960, 240).abs() for s in (y, x)]
        assert magnitudes[0].shape[-1] == GOLDEN["magnitude_6k_frames"]
        expected = GOLDEN["magnitude_6k_spectral_convergence"] + GOLDEN["magnitude_6k_log_l1"]
        assert magnitude_loss(*magnitudes).item() == pytest.approx(expected, rel=1e-3)

    @torch.no_grad()
    def test_discriminators(self, discriminator, estimate, reference):
        real, fake = discriminator(reference), discriminator(estimate)
        assert [maps[-1].mean().item() for maps in real] == pytest.approx(GOLDEN["discriminator_scores"], abs=1e-5)
        assert discriminator_loss(real, fake).item() == pytest.approx(GOLDEN["discriminator_loss"], rel=1e-3)
        assert adversarial_loss(fake).item() == pytest.approx(GOLDEN["adversarial_loss"], rel=1e-3)
        assert feature_matching_loss(real, fake).item() == pytest.approx(GOLDEN["feature_matching_loss"], rel=1e-3)


@pytest.fixture(scope="module")
def terms(published_codec, discriminator, reference):
    output = published_codec(reference)
    target = np.random.Generator(np.random.Philox(key=[11, 0])).standard_normal((1, 1024, 25), dtype=np.float32)
    fake = discriminator(output.audio)
    with torch.no_grad():
        real = discriminator(reference)
    return {
        **reconstruction_losses(output, reference, 24000, 6000),
        "distillation": distillation_loss(output.semantic_latent, torch.from_numpy(target)),
        "adversarial": adversarial_loss(fake),
        "feature_matching": feature_matching_loss(real, fake),
    }


class TestObjective:
    def test_every_term(self, terms):
        assert {k: v.item() for k, v in terms.items()} == pytest.approx(GOLDEN["objective_terms"], rel=1e-3)

    def test_total_and_gradients(self, published_codec, terms, published_weights):
        total = weighted_sum(terms, GOLDEN["objective_weights"])
        assert total.item() == pytest.approx(GOLDEN["objective_total"], rel=1e-3)
        published_codec.zero_grad()
        total.backward()
        parameters = dict(published_codec.named_parameters())
        squares: dict[str, float] = {}
        for name in set(published_weights) - CONSTANTS - set(GOLDEN["frozen"]):
            part = name.split(".")[1]
            grad = parameters[our_name(name)].grad
            squares[part] = squares.get(part, 0.0) + grad.double().square().sum().item()
        published_codec.zero_grad()
        norms = {part: square**0.5 for part, square in squares.items()}
        assert norms == pytest.approx(GOLDEN["objective_grad_norm"], rel=1e-2)
        assert all(parameters[our_name(name)].grad is None for name in GOLDEN["frozen"])
