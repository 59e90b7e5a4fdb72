import copy

import pytest
import torch
from conftest import TINY, speech
from torch import nn

from esdcodec.model_codec import ESDCodec
from esdcodec.model_codec.layers import Conv1d, Conv2d, ConvNeXtBlock, ConvTranspose1d, ResidualUnit, Snake, snake


def test_snake_gradient_is_that_of_its_formula():
    x = torch.randn(2, 3, 7, dtype=torch.float64, requires_grad=True)
    layer = Snake(3).double()
    with torch.no_grad():
        layer.alpha.copy_(torch.tensor([0.3, 1.0, 2.5]).view(1, 3, 1))
    grads = torch.autograd.grad(layer(x).pow(2).sum(), (x, layer.alpha))
    reference = x + torch.sin(layer.alpha * x) ** 2 / (layer.alpha + 1e-9)
    expected = torch.autograd.grad(reference.pow(2).sum(), (x, layer.alpha))
    torch.testing.assert_close(layer(x), reference)
    torch.testing.assert_close(grads, expected)


def test_snake_without_gradients_is_the_same():
    x, layer = torch.randn(2, 3, 7), Snake(3)
    with torch.no_grad():
        without = layer(x)
    torch.testing.assert_close(without, layer(x), rtol=0, atol=0)
    torch.testing.assert_close(snake(x, layer.alpha), without, rtol=0, atol=0)


def test_snake_in_place_overwrites_nothing_that_gradients_need():
    x, layer = torch.randn(2, 3, 7), Snake(3, in_place=True)
    before = x.clone()
    expected = layer(x)
    torch.testing.assert_close(x, before, rtol=0, atol=0)
    with torch.no_grad():
        assert layer(x) is x
    torch.testing.assert_close(x, expected, rtol=0, atol=0)


@pytest.mark.parametrize("stride", [2, 3, 4, 5, 8])
def test_strided_and_transposed_convolutions_keep_whole_frames(stride):
    x = torch.randn(1, 4, 6 * stride)
    down = Conv1d(4, 4, 2 * stride, stride=stride, padding=(stride + 1) // 2)(x)
    assert down.shape[-1] == 6
    assert ConvTranspose1d(4, 4, stride)(down).shape[-1] == 6 * stride


@pytest.mark.parametrize("stride", [2, 3, 5, 8])
@pytest.mark.parametrize("length", [1, 2, 7])
def test_transposed_convolution_without_gradients_is_the_same(stride, length):
    layer, x = ConvTranspose1d(3, 5, stride).eval(), torch.randn(2, 3, length)
    with torch.no_grad():
        without = layer(x)
    torch.testing.assert_close(without, layer(x))


@pytest.mark.parametrize("batch", [1, 3])
def test_residual_unit_without_gradients_is_the_same(batch):
    layer, x = ResidualUnit(4, 3).eval(), torch.randn(batch, 4, 9)
    with torch.no_grad():
        layer[-1].bias.normal_()
        without = layer(x.clone())
    before = x.clone()
    torch.testing.assert_close(without, layer(x))
    torch.testing.assert_close(x, before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("layer", "reference"),
    [
        (lambda: Conv1d(3, 5, 7, dilation=3), lambda: nn.Conv1d(3, 5, 7, dilation=3, padding=9)),
        (lambda: Conv2d(3, 5, (3, 9)), lambda: nn.Conv2d(3, 5, (3, 9), padding=(1, 4))),
        (lambda: ConvTranspose1d(3, 5, 4), lambda: nn.ConvTranspose1d(3, 5, 8, 4, 2)),
    ],
    ids=["conv", "conv 2-D", "transposed"],
)
def test_weight_norm_is_that_of_torch(layer, reference):
    ours, theirs = layer(), nn.utils.parametrizations.weight_norm(reference(), dim=0)
    theirs.load_state_dict(
        {
            "bias": ours.bias.data,
            "parametrizations.weight.original0": ours.weight_g.data * 1.5,
            "parametrizations.weight.original1": ours.weight_v.data,
        }
    )
    ours.weight_g.data *= 1.5
    x = torch.randn(2, 3, *[20] * (ours.weight_v.dim() - 2))
    torch.testing.assert_close(ours(x), theirs(x))


class TestKeptWeights:
    """In evaluation without gradients the normalised weight is computed once, and never stale."""

    @pytest.fixture
    def layer(self):
        return Conv1d(3, 5, 7).eval()

    @torch.no_grad()
    def test_is_kept(self, layer):
        assert layer.normalised_weight() is layer.normalised_weight()

    def test_is_not_kept_in_training_or_with_gradients(self, layer):
        assert layer.normalised_weight() is not layer.normalised_weight()
        assert layer.normalised_weight().requires_grad
        with torch.no_grad():
            layer.train()
            assert layer.normalised_weight() is not layer.normalised_weight()

    @pytest.mark.parametrize(
        "change",
        [
            lambda layer: layer.weight_g.mul_(2),
            lambda layer: layer.load_state_dict({k: 2 * v for k, v in layer.state_dict().items()}),
            lambda layer: layer.train().weight_g.data.mul_(2),
            lambda layer: layer.double(),
        ],
        ids=["in place", "load_state_dict", "behind autograd's back while training", "dtype"],
    )
    @torch.no_grad()
    def test_follows_its_parameters(self, layer, change):
        layer.normalised_weight()
        change(layer)
        layer.eval()
        norm = layer.weight_v.flatten(1).norm(dim=1)[:, None, None]
        torch.testing.assert_close(layer.normalised_weight(), layer.weight_g * layer.weight_v / norm)

    @torch.no_grad()
    def test_each_form_of_it_is_its_own(self, layer):
        layer(torch.randn(1, 3, 9))  # keeps the weight as it is laid out for the input
        assert layer.normalised_weight().shape == (5, 3, 7)

    def test_follows_an_optimizer(self, layer):
        with torch.no_grad():
            before = layer.normalised_weight()
        layer(torch.randn(1, 3, 9)).sum().backward()
        torch.optim.AdamW(layer.parameters(), lr=0.1).step()
        with torch.no_grad():
            assert not torch.equal(layer.normalised_weight(), before)

    @torch.no_grad()
    def test_copies_do_not_share_it(self, layer):
        layer.normalised_weight()
        twin = copy.deepcopy(layer)
        twin.weight_g.mul_(2)
        torch.testing.assert_close(twin.normalised_weight(), 2 * layer.normalised_weight())

    def test_can_be_computed_in_inference_mode_and_used_outside(self, layer):
        x = torch.randn(1, 3, 9)
        with torch.inference_mode():
            inside = layer(x)
        torch.testing.assert_close(layer(x).detach(), inside.clone())
        layer(x).sum().backward()


def test_convnext_block_without_layer_scale_is_layer_scale_one():
    torch.manual_seed(0)
    plain, scaled = ConvNeXtBlock(4, 8), ConvNeXtBlock(4, 8, layer_scale=1.0)
    scaled.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(2, 4, 5)
    torch.testing.assert_close(plain(x), scaled(x))


def test_torch_compile_sees_one_graph():
    """Every break costs a training step a return to Python; after a few of one kind, it is no longer compiled."""
    codec = ESDCodec(**TINY).train()
    found = torch._dynamo.explain(codec)(speech(0.2), torch.tensor([3]))
    torch._dynamo.reset()
    assert found.graph_count == 1, [reason.reason for reason in found.break_reasons]
