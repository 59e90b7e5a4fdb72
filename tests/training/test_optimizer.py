"""Learning rates and Muon."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from esdcodec import ESDCodec
from esdcodec.training.optimizer import make_optimizer, orthogonalised, warmup_cosine
from esdcodec.training.settings import ConfigurationError
from tests.conftest import TINY


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

    def test_where_there_is_nothing_for_it_this_is_said(self, codec):
        with pytest.raises(ConfigurationError, match=r"muon_lr=0.01, but ConditionNetwork has no encoder"):
            make_optimizer(codec.condition_network, muon_lr=0.01)
        assert len(self.turned(make_optimizer(codec.encoder, muon_lr=0.01))) > 10

    def test_goes_on_from_its_state(self, codec, optimizer):
        """Bit by bit, restored as a run does it: making an optimizer rounds the weights; they are loaded after it."""
        self.step(codec, optimizer, 0)
        twin = ESDCodec(**TINY)
        theirs = make_optimizer(twin, muon_lr=0.05, lr=0.0, weight_decay=0.0)
        twin.load_state_dict(codec.state_dict())
        theirs.load_state_dict(deepcopy(optimizer.state_dict()))  # torch would share the tensors
        for network, each in ((codec, optimizer), (twin, theirs)):
            self.step(network, each, 1)
        for ours, other in zip(self.turned(optimizer), self.turned(theirs), strict=True):
            torch.testing.assert_close(ours, other, rtol=0, atol=0)
