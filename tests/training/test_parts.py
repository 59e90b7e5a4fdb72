"""Parts of the trainer."""

import math

import numpy as np
import pytest
import torch
from conftest import TINY, speech
from torch import nn
from transformers import Wav2Vec2BertModel

from esdcodec.model_codec import ESDCodec
from esdcodec.training.initialise import fit_to_latents
from esdcodec.training.schedule import warmup_cosine
from esdcodec.training.teacher import FeatureExtraction, W2vBert, read_statistics


class TestSchedule:
    def rates(self, steps, **options):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = warmup_cosine(optimizer, **options)
        rates = []
        for _ in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        return rates

    def test_shape(self):
        rates = self.rates(200, warmup_steps=10, decay_steps=110, final_ratio=0.5)
        assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
        assert rates[60] == pytest.approx(0.75)
        assert rates[110:] == pytest.approx([0.5] * 90)
        assert rates[10:] == sorted(rates[10:], reverse=True)

    def test_constant(self):
        assert self.rates(20, warmup_steps=0, decay_steps=1, final_ratio=1.0) == [1.0] * 20


class TestTeacher:
    @pytest.fixture
    def inputs(self, w2v_bert):
        return FeatureExtraction(str(w2v_bert), 24000)(np.concatenate([speech(2.0, seed=i)[0] for i in range(2)]))

    def test_target_is_the_normalised_pooled_hidden_state(self, w2v_bert, inputs):
        target = W2vBert(str(w2v_bert), str(w2v_bert / "stats.pt"), layer=2)(**inputs)
        with torch.no_grad():
            states = (
                Wav2Vec2BertModel.from_pretrained(w2v_bert).eval()(**inputs, output_hidden_states=True).hidden_states
            )
        mean, var = read_statistics(w2v_bert / "stats.pt", 32)
        normalised = ((states[2] - mean) / var.sqrt()).transpose(1, 2)
        n_frames = normalised.shape[-1] // 2
        expected = normalised[..., : 2 * n_frames].unflatten(-1, (n_frames, 2)).mean(-1)
        torch.testing.assert_close(target, expected, rtol=1e-4, atol=1e-5)
        assert target.shape == (2, 32, 49)  # 25 a second, the last one not whole

    def test_layers_above_are_not_there_and_nothing_learns(self, w2v_bert):
        teacher = W2vBert(str(w2v_bert), layer=2)
        assert len(teacher.model.encoder.layers) == 2
        assert not any(p.requires_grad for p in teacher.parameters())
        teacher.train()
        assert not any(module.training for module in teacher.modules())

    def test_a_layer_that_is_not_there(self, w2v_bert):
        with pytest.raises(ValueError, match="layers 1 to 4"):
            W2vBert(str(w2v_bert), layer=5)

    @pytest.mark.parametrize(
        ("stored", "message"),
        [
            ({"mean": torch.zeros(32)}, "`mean` and `var`"),
            ({"mean": torch.zeros(3), "var": torch.ones(3)}, "32 channels"),
        ],
    )
    def test_bad_statistics(self, tmp_path, stored, message):
        torch.save(stored, tmp_path / "stats.pt")
        with pytest.raises(ValueError, match=message):
            read_statistics(tmp_path / "stats.pt", 32)


class TestFitToLatents:
    @pytest.fixture
    def audio(self):
        return torch.cat([speech(1.0, seed=i) for i in range(4)])

    def test_codes_begin_to_say_something(self, audio):
        torch.manual_seed(0)
        codec = ESDCodec(**TINY).eval()
        before = [book.unique().numel() for book in codec.encode(audio).transpose(0, 1)]
        fit_to_latents(codec, audio)
        after = [book.unique().numel() for book in codec.encode(audio).transpose(0, 1)]
        assert all(b > 2 * a for a, b in zip(before, after))
        latent = codec.encode_latent(audio)
        with torch.no_grad():
            output = codec(audio)
            reconstructed = codec.dequantize(output.codes)
        error = (latent - reconstructed).square().mean() / latent.var((0, 2)).mean()
        assert error < 0.3

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
