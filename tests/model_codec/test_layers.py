import pytest
import torch
from torch import nn

from esdcodec import ESDCodec
from esdcodec.model_codec.discriminator import Discriminator
from esdcodec.model_codec.kernels import snake
from esdcodec.model_codec.layers import Conv1d, Conv2d, ConvNeXtBlock, ConvTranspose1d, Snake
from tests.conftest import TINY, speech


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


@pytest.mark.parametrize("stride", [2, 3, 4, 5, 8])
def test_strided_and_transposed_convolutions_keep_whole_frames(stride):
    x = torch.randn(1, 4, 6 * stride)
    down = Conv1d(4, 4, 2 * stride, stride=stride, padding=(stride + 1) // 2)(x)
    assert down.shape[-1] == 6
    assert ConvTranspose1d(4, 4, stride)(down).shape[-1] == 6 * stride


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


@pytest.mark.parametrize(
    "network",
    [
        lambda: ESDCodec(**TINY).encoder,
        lambda: ESDCodec(**TINY).decoder,
        lambda: Discriminator(windows=[64], spectrograms={64: 16}),
    ],
    ids=["encoder", "decoder", "discriminator"],
)
def test_a_step_of_adamw_turns_new_weights_as_far_as_unnormalised_ones(network):
    """Its steps are of one size for every weight: the longer a direction, the less it turns."""
    torch.manual_seed(0)
    for layer in network().modules():
        if isinstance(layer, Conv1d | Conv2d):
            plain = nn.Parameter(torch.empty_like(layer.weight_v))
            nn.init.kaiming_normal_(plain, nonlinearity="linear")
            assert _turn(layer.weight_v) > 0.5 * _turn(plain), layer


def _turn(weight: nn.Parameter) -> float:
    """Mean angle in radians by which a step turns the weights of an output channel."""
    before = weight.detach().double().flatten(1)
    weight.grad = torch.randn_like(weight)
    torch.optim.AdamW([weight], 1e-4).step()
    return nn.functional.cosine_similarity(before, weight.detach().double().flatten(1)).acos().mean().item()


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
