"""Quantizers that start where the latents are."""

import math

import pytest
import torch

from esdcodec import ESDCodec
from esdcodec.model_codec.quantizer import SimVQ
from esdcodec.training import initialise
from esdcodec.training.initialise import fit_simvq, fit_to_latents, water_level
from tests.conftest import TINY, speech


class TestFitToLatents:
    @pytest.fixture
    def audio(self):
        return torch.cat([speech(1.0, seed=i) for i in range(4)])

    @staticmethod
    @torch.no_grad()
    def lost(codec, audio):
        """Share of the latent's variance that the codes do not tell."""
        latent = codec.encode_latent(audio)
        return ((latent - codec.dequantize(codec.encode(audio))).square().mean() / latent.var((0, 2)).mean()).item()

    def test_codes_begin_to_say_something(self, audio):
        codec = ESDCodec(**TINY).eval()
        before = self.lost(codec, audio)
        fit_to_latents(codec, audio)
        assert self.lost(codec, audio) < min(0.5, 0.5 * before)
        _, *acoustic = codec.encode(audio).transpose(0, 1)
        assert all(book.unique().numel() == TINY["acoustic_codebook_size"] for book in acoustic)

    @torch.no_grad()
    def test_reconstruction_past_the_quantizers_stays(self, audio):
        codec = ESDCodec(**TINY).eval()
        before = codec(audio, continuous=True).audio
        fit_to_latents(codec, audio)
        torch.testing.assert_close(codec(audio, continuous=True).audio, before, rtol=0, atol=1e-4)
        assert codec.encode_latent(audio).std((0, 2)).square().mean().sqrt().item() == pytest.approx(0.1, rel=1e-3)

    @torch.no_grad()
    def test_the_codebook_itself_stays_frozen(self, audio):
        codec = ESDCodec(**TINY).eval()
        before = codec.semantic_quantizer.codebook.clone()
        fit_to_latents(codec, audio)
        assert torch.equal(codec.semantic_quantizer.codebook, before)
        assert math.isfinite(codec.semantic_quantizer.projection.weight.sum())

    def test_memory_does_not_grow_with_the_audio(self, audio, monkeypatch):
        """Each pass of the network and of the search for the nearest entry has one item."""
        codec = ESDCodec(**TINY).eval()
        seen = []
        for part in (codec.encoder, codec.semantic_quantizer, codec.semantic_decoder):
            part.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
        fit_to_latents(codec, audio)
        assert set(seen) == {1}
        monkeypatch.setattr(initialise, "FRAMES", 3 * codec.num_frames(audio.shape[-1]))
        seen.clear()
        fit_to_latents(codec, torch.cat([audio, audio, audio]))
        assert len(seen) == 3 * 4  # of twelve items, encoder, quantizer and twice the decoder

    @torch.no_grad()
    def test_ranks_fit_what_one_fits_to_all(self, audio):
        codec, twin = ESDCodec(**TINY).eval(), ESDCodec(**TINY).eval()
        twin.load_state_dict(codec.state_dict())
        other = codec.encode_latent(audio[2:])

        def gather(own):
            return torch.cat([own, other]) if own.dim() == 3 else own.repeat(2)

        fit_to_latents(codec, audio[:2], gather)
        fit_to_latents(twin, audio)
        for ours, theirs in zip(codec.parameters(), twin.parameters()):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


class TestWaterFilling:
    @pytest.mark.parametrize("bits", [0.5, 3.0, 14.0])
    def test_what_is_above_the_water_takes_the_bits(self, bits):
        variances = torch.rand(40).double() ** 4 * 9
        level = water_level(variances, bits)
        above = variances[variances > level]
        assert 0.5 * (above / level).log2().sum().item() == pytest.approx(bits)

    def test_a_codebook_fitted_so_loses_less_and_uses_more(self):
        points = torch.randn(4000, 8) * torch.tensor([4.0, 2, 1, 1, 0.5, 0.5, 0.2, 0.1])
        errors, used = {}, {}
        for name in ("as wide as the points", "fitted"):
            torch.manual_seed(1)
            quantizer = SimVQ(1024, 8)
            fit_simvq(quantizer, points)
            if name != "fitted":
                values, vectors = torch.linalg.eigh(points.T.cov())
                root = vectors @ values.sqrt().diag() @ vectors.T
                quantizer.projection.weight.data.copy_(root / quantizer.codebook.std())
            quantized = quantizer(points.T[None])
            errors[name], used[name] = quantized.codebook_loss.item(), len(quantized.codes.unique())
        assert errors["fitted"] < errors["as wide as the points"]
        assert used["fitted"] > used["as wide as the points"]

    def test_a_codebook_of_few_dimensions_takes_the_largest_components(self):
        points = torch.randn(4000, 8) * torch.tensor([4.0, 0.01, 2, 0.01, 1, 0.01, 0.01, 0.01])
        errors = {}
        for dim in (2, 3, 8):
            torch.manual_seed(1)
            quantizer = SimVQ(1024, 8, dim)
            fit_simvq(quantizer, points)
            quantized = quantizer(points.T[None])
            assert quantized.latent.shape == (1, 8, 4000)
            errors[dim] = quantized.codebook_loss.item()
        assert errors[3] == pytest.approx(errors[8], rel=0.1)  # there are no more above the water
        assert errors[2] > 1.5 * errors[3]
