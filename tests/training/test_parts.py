"""Parts of the trainer."""

import math
from copy import deepcopy
from typing import ClassVar

import numpy as np
import pystoi
import pytest
import torch
import torch.nn.functional as F
from conftest import TINY, speech
from torch import nn
from transformers import Wav2Vec2BertModel

from esdcodec.evaluation.metrics import si_sdr, stoi
from esdcodec.model_codec import ESDCodec
from esdcodec.model_codec.losses import distillation_loss
from esdcodec.model_codec.quantizer import SimVQ
from esdcodec.model_codec.usage import CodebookUsage
from esdcodec.training import teacher_statistics
from esdcodec.training.initialise import fit_simvq, fit_to_latents, water_level
from esdcodec.training.monitor import Window, progress_line
from esdcodec.training.optimizer import make_optimizer, orthogonalised
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


class TestMuon:
    @pytest.fixture
    def codec(self):
        return ESDCodec(**TINY)

    @pytest.fixture
    def optimizer(self, codec):
        return make_optimizer(codec, muon_lr=0.05, lr=0.0, weight_decay=0.0)

    @staticmethod
    def turned(optimizer) -> list[torch.Tensor]:
        (group,) = (group for group in optimizer.param_groups if group.get("muon"))
        return [p.detach().flatten(1) for p in group["params"]]

    @staticmethod
    def step(codec, optimizer, seed):
        torch.manual_seed(seed)
        codec(0.1 * torch.randn(2, 1, 4 * codec.hop_length), continuous=True).audio.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    @pytest.mark.parametrize("shape", [(8, 8), (5, 40), (40, 5)])
    def test_singular_values_come_near_one(self, shape):
        values = torch.linalg.svdvals(orthogonalised(torch.randn(shape) * torch.logspace(0, -1, shape[1])))
        assert values.min() > 0.3
        assert values.max() < 1.3

    def test_making_it_leaves_the_codec_as_it_is(self, codec):
        codec.eval()
        audio = 0.1 * torch.randn(1, 1, 8 * codec.hop_length)
        with torch.no_grad():
            before = codec(audio, continuous=True).audio
            make_optimizer(codec, muon_lr=0.05)
            torch.testing.assert_close(codec(audio, continuous=True).audio, before)

    def test_a_step_turns_weights_by_about_its_angle_and_keeps_their_length(self, codec, optimizer):
        before = [w.clone() for w in self.turned(optimizer)]
        self.step(codec, optimizer, 0)
        for old, new in zip(before, self.turned(optimizer), strict=True):
            torch.testing.assert_close(new.norm(dim=1), torch.ones(len(new)))
            assert 0.02 < (old * new).sum(1).clamp(max=1).acos().mean() < 0.051

    def test_all_other_parameters_take_the_step_of_adamw(self, codec):
        optimizers = [make_optimizer(codec, muon_lr=0.0, lr=1e-3)]
        twin = ESDCodec(**TINY)
        twin.load_state_dict(codec.state_dict())  # as making the optimizer left it: both have the same gradients
        optimizers.append(make_optimizer(twin, muon_lr=None, lr=1e-3))
        for network, optimizer in zip((codec, twin), optimizers):
            self.step(network, optimizer, 0)
        turned = {id(p) for p in optimizers[0].param_groups[1]["params"]}
        for (name, ours), theirs in zip(codec.named_parameters(), twin.parameters()):
            if id(ours) not in turned:
                torch.testing.assert_close(ours, theirs, rtol=0, atol=0, msg=name)

    def test_goes_on_from_its_state(self, codec, optimizer):
        """Bit by bit, restored as a run does it: making an optimizer rounds the weights, so they are loaded after it."""
        self.step(codec, optimizer, 0)
        twin = ESDCodec(**TINY)
        theirs = make_optimizer(twin, muon_lr=0.05, lr=0.0, weight_decay=0.0)
        twin.load_state_dict(codec.state_dict())
        theirs.load_state_dict(deepcopy(optimizer.state_dict()))  # torch would share the tensors
        for network, each in ((codec, optimizer), (twin, theirs)):
            self.step(network, each, 1)
        for ours, other in zip(self.turned(optimizer), self.turned(theirs), strict=True):
            torch.testing.assert_close(ours, other, rtol=0, atol=0)


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


class TestStatistics:
    def test_of_a_corpus_are_those_of_its_frames_and_are_read_back(self, w2v_bert, shards, tmp_path, monkeypatch):
        file = tmp_path / "stats.pt"
        command = ("x", str(w2v_bert), str(shards), str(file), "--layer", "2", "--hours", str(8 * 1.5 / 3600))
        monkeypatch.setattr(
            "sys.argv", [*command, "--segment-seconds", "1.5", "--batch-size", "1", "--num-workers", "0"]
        )
        monkeypatch.setattr(teacher_statistics, "best_device", lambda: torch.device("cpu"))
        teacher_statistics.main()
        assert set(torch.load(file)) == {"mean", "var"}
        mean, var = read_statistics(file, 32)

        extract, teacher = FeatureExtraction(str(w2v_bert), 24000), W2vBert(str(w2v_bert), layer=2)
        waveforms = [[speech(1.5, seed=i)[0, 0].numpy()] for i in range(8)]  # those of the shards, each once
        states = torch.cat([teacher.states(**extract(waveform))[0] for waveform in waveforms])
        torch.testing.assert_close(mean, states.mean(0), rtol=0.02, atol=0.02)
        torch.testing.assert_close(var, states.var(0, unbiased=False), rtol=0.05, atol=0.02)

    def test_masked_frames_do_not_count(self):
        moments = teacher_statistics.Moments(3)
        vectors = torch.randn(100, 3) * 5 + 100
        for part in vectors.split(7):
            moments.add(part)
        mean, var = moments.mean_and_variance()
        torch.testing.assert_close(mean, vectors.mean(0))
        torch.testing.assert_close(var, vectors.var(0, unbiased=False), rtol=1e-4, atol=1e-4)

    def test_of_nothing_are_an_error(self):
        with pytest.raises(ValueError, match="no frame was seen"):
            teacher_statistics.Moments(3).mean_and_variance()


class TestMonitor:
    VALUES: ClassVar = {
        "perplexity/semantic": 50.0, "discriminator/real": 0.6, "discriminator/fake": 0.4, "data/wait": 0.01,
        "speed/steps_per_second": 2.0, "speed/audio_seconds_per_second": 20.0, "data/skipped": 0, "loss/total": 12.34,
    }  # fmt: skip

    @pytest.fixture
    def window(self):
        window = Window((256, 64), torch.device("cpu"))
        window.usage.add(torch.randint(0, 64, (10, 2, 100)))
        return window

    @pytest.mark.parametrize(
        ("changed", "disease"),
        [
            ({}, None),
            ({"perplexity/semantic": 1.5}, "semantic codebook collapse"),
            ({"discriminator/real": 0.99, "discriminator/fake": 0.01}, "discriminator dominance"),
            ({"data/wait": 0.5}, "data starvation: 50 %"),
        ],
    )
    def test_diseases_are_named(self, window, changed, disease):
        found = window.diseases({**self.VALUES, **changed})
        assert len(found) == (disease is not None)
        assert disease is None or disease in found[0]

    def test_codes_tell_nothing_while_the_quantizers_are_passed_by(self, window):
        assert not window.diseases({**self.VALUES, "perplexity/semantic": 1.5}, quantized=False)

    def test_a_line_that_a_person_can_read(self):
        line = progress_line(1500, 6000, {**self.VALUES, "data/skipped": 3})
        assert line.startswith("step 1,500 of 6,000 (25 %)  loss 12.3")
        assert line.endswith("2 steps/s  20 s audio/s  wait 1 %  skipped 3  38 min left")


class TestUsage:
    def test_against_the_definitions(self):
        usage = CodebookUsage((4, 8))
        usage.add(torch.tensor([[[0, 0, 1, 1], [7, 7, 7, 7]]]))
        assert usage.frames == 4
        assert usage.used() == [0.5, 0.125]
        assert usage.entropy() == pytest.approx([1.0, 0.0])
        assert usage.perplexity() == pytest.approx([2.0, 1.0])

    def test_pieces_add_up(self):
        codes = torch.randint(0, 8, (3, 2, 50))
        whole, parts = CodebookUsage((8, 8)), CodebookUsage((8, 8))
        whole.add(codes)
        for part in codes.split(7, dim=2):
            parts.add(part)
        assert torch.equal(whole.counts, parts.counts)
        assert all(0 < entropy <= 3 for entropy in whole.entropy())


class TestScores:
    def test_si_sdr(self):
        rng = np.random.default_rng(0)
        reference, noise = rng.standard_normal((2, 10000)).astype(np.float32)
        noise -= reference * (noise @ reference) / (reference @ reference)
        scaled = noise * np.linalg.norm(reference) / np.linalg.norm(noise)
        assert si_sdr(0.3 * (reference + 0.1 * scaled), reference) == pytest.approx(20, abs=0.1)
        assert si_sdr(5 * reference, reference) > 60

    def test_stoi_is_that_of_its_package(self):
        reference = speech(2.0)[0, 0].numpy()
        noisy = reference + 0.1 * np.random.default_rng(0).standard_normal(len(reference)).astype(np.float32)
        assert stoi(noisy, reference, 24000) == pytest.approx(pystoi.stoi(reference, noisy, 24000))
        assert stoi(noisy[:2000], reference[:2000], 24000) is None


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
