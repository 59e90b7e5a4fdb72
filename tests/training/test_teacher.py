"""The distillation teacher: its targets, masks and statistics."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import Wav2Vec2BertModel

from esdcodec.model_codec.losses import distillation_loss
from esdcodec.training.teacher import FeatureExtraction, W2vBert, read_statistics
from tests.conftest import speech


class TestTeacher:
    @pytest.fixture
    def extract(self, w2v_bert):
        return FeatureExtraction(str(w2v_bert), 24000)

    @pytest.fixture
    def waveforms(self):
        return [speech(2.0, seed=i)[0, 0].numpy() for i in range(2)]

    def test_target_is_the_normalised_pooled_hidden_state(self, w2v_bert, extract, waveforms):
        inputs = extract(waveforms)
        target, mask = W2vBert(str(w2v_bert), str(w2v_bert / "stats.pt"), layer=2)(**inputs)
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
        assert mask.all()

    def test_an_utterance_has_the_target_it_has_alone(self, w2v_bert, extract, waveforms):
        teacher = W2vBert(str(w2v_bert), layer=2)
        short = waveforms[1][:24000]
        target, mask = teacher(**extract([waveforms[0], short]))
        alone, _ = teacher(**extract([short]))
        n_frames = int(mask[1].sum())
        assert 23 <= n_frames <= 25
        assert mask[0].all()
        torch.testing.assert_close(target[1, :, : n_frames - 4], alone[0, :, : n_frames - 4], rtol=1e-3, atol=1e-3)

    def test_what_is_masked_is_not_in_the_loss(self):
        latent, target = torch.randn(2, 4, 10), torch.randn(2, 4, 9)
        mask = torch.ones(2, 9)
        mask[1, 5:] = 0
        expected = torch.cat([(latent - F.pad(target, (0, 1)))[0, :, :9], (latent[..., :9] - target)[1, :, :5]], 1)
        assert distillation_loss(latent, target, mask).item() == pytest.approx(
            expected.square().mean().item(), rel=1e-5
        )
        whole = distillation_loss(latent, target, torch.ones(2, 9))
        torch.testing.assert_close(whole, distillation_loss(latent, target))

    def test_very_short_segments_can_be_taken(self, w2v_bert, extract):
        target, _ = W2vBert(str(w2v_bert), layer=2)(**extract([np.zeros(10, np.float32)]))
        assert torch.isfinite(target).all()

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
