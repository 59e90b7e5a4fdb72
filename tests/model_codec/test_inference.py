"""The form for inference gives what the plain network gives, is made once, and is never stale."""

import copy
import pickle
import threading

import pytest
import torch

from esdcodec import ESDCodec
from esdcodec.model_codec.inference import FOLDED, ON_CPU, inference_form, rewritten
from esdcodec.model_codec.layers import Conv1d, ConvTranspose1d, ResidualUnit, Snake
from tests.conftest import make_tiny_codec, speech


def in_form(layer, x):
    """What the inference form of `layer` makes of a copy of `x`."""
    with torch.no_grad():
        return inference_form(torch.nn.Sequential(layer.eval()))[0](x.clone())


class TestLayers:
    @pytest.mark.parametrize("stride", [2, 3, 5, 8])
    @pytest.mark.parametrize("length", [1, 2, 7])
    def test_transposed_convolution_is_the_same(self, stride, length):
        layer, x = ConvTranspose1d(3, 5, stride), torch.randn(2, 3, length)
        torch.testing.assert_close(in_form(layer, x), layer(x))

    @pytest.mark.parametrize("batch", [1, 3])
    def test_residual_unit_is_the_same_and_takes_the_place_of_its_input(self, batch):
        layer, x = ResidualUnit(4, 3), torch.randn(batch, 9, 4).transpose(1, 2)
        torch.nn.init.normal_(layer[-1].bias)
        before, form = x.clone(), inference_form(torch.nn.Sequential(layer))
        with torch.no_grad():
            result = form(x)
        torch.testing.assert_close(result, layer(before))
        assert result.data_ptr() == x.data_ptr()

    @pytest.mark.parametrize("kernel", [{"dilation": 3}, {"stride": 2, "padding": 3}, {"bias": False}])
    def test_convolution_is_the_same(self, kernel):
        layer, x = Conv1d(3, 5, 7, **kernel), torch.randn(2, 3, 20)
        torch.testing.assert_close(in_form(layer, x), layer(x))

    def test_snake_is_the_same_and_overwrites_nothing_that_gradients_need(self):
        layer, x = Snake(3), torch.randn(2, 3, 7)
        before, expected = x.clone(), layer(x)
        torch.testing.assert_close(x, before, rtol=0, atol=0)
        form = inference_form(torch.nn.Sequential(layer))
        with torch.no_grad():
            assert form(x) is x
        torch.testing.assert_close(x, expected, rtol=0, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("rules", [ON_CPU, FOLDED], ids=["on a CPU", "elsewhere"])
def test_every_step_is_that_of_the_plain_network(tiny_codec, dtype, rules):
    codec = tiny_codec.to(dtype)
    form, audio = rewritten(codec, rules), speech(0.5)
    tolerance = {"rtol": 0, "atol": 0.2 if dtype == torch.bfloat16 else 1e-5}
    latent = codec.encode_latent(audio)
    torch.testing.assert_close(form.encode_latent(audio), latent, **tolerance)
    codes = codec.quantize(latent, 6)
    assert (form.quantize(latent, 6) == codes).float().mean() > (0.9 if dtype == torch.bfloat16 else 0.999)
    latent = codec.dequantize(codes)
    torch.testing.assert_close(form.dequantize(codes), latent, **tolerance)
    for ours, plain in zip(form.decode_latent(latent), codec.decode_latent(latent)):
        torch.testing.assert_close(ours, plain, **tolerance)


CHANGES = {
    "in place": lambda codec: codec.decoder.conv_in.weight_g.mul_(2),
    "one bias": lambda codec: codec.decoder.stages[0].upsample.bias.add_(1),
    "the codebook": lambda codec: codec.semantic_quantizer.projection.weight.mul_(2),
    "load_state_dict": lambda codec: codec.load_state_dict(make_tiny_codec(seed=1).state_dict()),
    "load_state_dict by assignment": lambda codec: codec.load_state_dict(
        make_tiny_codec(seed=1).state_dict(), assign=True
    ),
    "load_state_dict of a part": lambda codec: codec.decoder.load_state_dict(
        make_tiny_codec(seed=1).decoder.state_dict()
    ),
    "behind autograd's back while training": lambda codec: codec.train().decoder.conv_in.weight_g.data.mul_(2),
    "another parameter": lambda codec: setattr(
        codec.decoder.conv_in, "weight_g", torch.nn.Parameter(2 * codec.decoder.conv_in.weight_g)
    ),
    "another part": lambda codec: setattr(codec, "decoder", make_tiny_codec(seed=1).decoder),
    "a part to another dtype and back": lambda codec: codec.decoder.bfloat16().float(),
}


class TestNeverStale:
    @torch.no_grad()
    @pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
    def test_form_and_fingerprint_follow_the_weights(self, tiny_codec, change):
        codes = tiny_codec.encode(speech(0.2))
        decoded, fingerprint = tiny_codec.decode(codes), tiny_codec.fingerprint
        change(tiny_codec)
        tiny_codec.eval()
        again = tiny_codec.decode(codes)
        assert not torch.equal(again, decoded)
        torch.testing.assert_close(again, tiny_codec.decode_latent(tiny_codec.dequantize(codes))[0], rtol=0, atol=1e-5)
        assert tiny_codec.fingerprint != fingerprint

    @pytest.mark.parametrize("fused", [False, True])
    def test_they_follow_an_optimizer_in_evaluation_mode(self, tiny_codec, fused):
        codes = tiny_codec.encode(speech(0.2))
        decoded, fingerprint = tiny_codec.decode(codes), tiny_codec.fingerprint
        tiny_codec(speech(0.2)).audio.square().sum().backward()
        parameters = [p for p in tiny_codec.parameters() if p.requires_grad]
        torch.optim.AdamW(parameters, lr=0.1, fused=fused).step()
        assert not torch.equal(tiny_codec.decode(codes), decoded)
        assert tiny_codec.fingerprint != fingerprint

    @torch.no_grad()
    def test_it_is_made_once(self, tiny_codec):
        form = tiny_codec.inference_form()
        tiny_codec.encode(speech(0.2))
        assert tiny_codec.inference_form() is form
        tiny_codec.train()
        assert tiny_codec.inference_form() is tiny_codec
        assert tiny_codec.eval().inference_form() is not form

    @torch.no_grad()
    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda codec: pickle.loads(pickle.dumps(codec))])
    def test_copies_do_not_share_it(self, tiny_codec, copied):
        codes = tiny_codec.encode(speech(0.2))
        decoded = tiny_codec.decode(codes)
        twin = copied(tiny_codec)
        assert torch.equal(twin.decode(codes), decoded)
        twin.decoder.conv_in.weight_g.mul_(2)
        assert not torch.equal(twin.decode(codes), decoded)
        assert torch.equal(tiny_codec.decode(codes), decoded)

    def test_made_in_inference_mode_it_can_be_used_outside(self, tiny_codec):
        with torch.inference_mode():
            inside = tiny_codec.decode(tiny_codec.encode(speech(0.2)))
        assert torch.equal(tiny_codec.decode(tiny_codec.encode(speech(0.2))), inside.clone())
        tiny_codec(speech(0.2)).audio.sum().backward()

    def test_a_codec_made_in_inference_mode_works(self):
        with torch.inference_mode():
            codec = make_tiny_codec()
            codes = codec.encode(speech(0.2))
            codec.decoder.conv_in.weight_g.mul_(2)
            expected = codec.decode_latent(codec.dequantize(codes))[0]
            torch.testing.assert_close(codec.decode(codes), expected, rtol=0, atol=1e-5)


class TestFingerprint:
    @pytest.fixture
    def half(self, tiny_codec, tmp_path):
        """The same codec, loaded in bfloat16."""
        tiny_codec.save_pretrained(tmp_path)
        return ESDCodec.from_pretrained(tmp_path, device="cpu", dtype=torch.bfloat16)

    def test_a_converted_codec_has_that_of_the_weights_it_was_loaded_from(self, tiny_codec, half):
        assert half.fingerprint == tiny_codec.fingerprint
        assert copy.deepcopy(half).fingerprint == tiny_codec.fingerprint
        assert half.to("cpu").fingerprint == tiny_codec.fingerprint

    def test_but_not_when_it_has_other_weights(self, tiny_codec, half):
        other = make_tiny_codec(seed=1)
        half.load_state_dict(other.state_dict())
        assert half.fingerprint not in (tiny_codec.fingerprint, other.fingerprint)  # other's in bfloat16

    def test_nor_after_a_step_in_evaluation_mode(self, tiny_codec, half):
        with torch.no_grad():
            half.decoder.conv_in.weight_g.add_(0.1)
        assert half.fingerprint != tiny_codec.fingerprint

    def test_nor_after_a_conversion_of_its_own(self, tiny_codec, half):
        assert half.float().fingerprint != tiny_codec.fingerprint

    def test_the_encoder_may_change(self, tiny_codec):
        before = tiny_codec.fingerprint
        with torch.no_grad():
            tiny_codec.encoder[0].weight_g.mul_(2)
        assert tiny_codec.fingerprint == before


def test_threads_of_which_one_uses_autocast_get_what_they_get_alone(tiny_codec):
    codes = tiny_codec.encode(speech(0.3))

    def decode(autocast: bool) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return tiny_codec.decode(codes)

    expected = {autocast: decode(autocast) for autocast in (False, True)}
    wrong = []

    def work(autocast: bool) -> None:
        for _ in range(20):
            try:
                if not torch.equal(decode(autocast), expected[autocast]):
                    wrong.append(autocast)
            except Exception as error:
                wrong.append(error)

    def change() -> None:  # forms are dropped and made while others decode
        for _ in range(60):
            tiny_codec._inference_form = None

    threads = [threading.Thread(target=work, args=(autocast,)) for autocast in (False, True, False)]
    threads.append(threading.Thread(target=change))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


class TestCompilers:
    @torch.no_grad()
    @pytest.mark.parametrize("step", ["encode_latent", "decode_latent", "dequantize", "quantize"])
    def test_steps_compile_without_graph_breaks(self, tiny_codec, step):
        latent = tiny_codec.encode_latent(speech(0.2))
        arguments = {
            "encode_latent": (speech(0.2),),
            "decode_latent": (latent,),
            "quantize": (latent, 3),
            "dequantize": (tiny_codec.quantize(latent, 3),),
        }[step]
        tiny_codec.decode(tiny_codec.encode(speech(0.2)))  # a form is there, and is not looked at
        expected = getattr(tiny_codec, step)(*arguments)
        result = torch.compile(getattr(tiny_codec, step), fullgraph=True, backend="eager")(*arguments)
        torch._dynamo.reset()
        torch.testing.assert_close(result, expected)

    @pytest.mark.filterwarnings("ignore")
    def test_the_network_can_be_exported(self, tiny_codec):
        class Decode(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.codec = tiny_codec

            def forward(self, codes):
                return self.codec.decode_latent(self.codec.dequantize(codes))[0]

        codes = tiny_codec.encode(speech(0.2))
        with torch.no_grad():
            program = torch.export.export(Decode(), (codes,))
            torch.testing.assert_close(program.module()(codes), tiny_codec.decode(codes), rtol=0, atol=1e-5)
            program = torch.export.export(tiny_codec, (speech(0.2),))
            torch.testing.assert_close(program.module()(speech(0.2)).audio, tiny_codec(speech(0.2)).audio)

    @pytest.mark.parametrize("part", ["encoder", "decoder", "semantic_decoder", "condition_network"])
    @pytest.mark.parametrize("in_place", [False, True])
    def test_a_compiled_part_is_used_as_it_is(self, tiny_codec, part, in_place):
        codes = tiny_codec.encode(speech(0.2))
        decoded, fingerprint = tiny_codec.decode(codes), tiny_codec.fingerprint
        runs = []

        def backend(graph, inputs):
            runs.append(graph)
            return graph

        if in_place:
            getattr(tiny_codec, part).compile(backend=backend)
        else:
            setattr(tiny_codec, part, torch.compile(getattr(tiny_codec, part), backend=backend))
        assert (tiny_codec.encode(speech(0.2)) == codes).float().mean() > 0.99
        torch.testing.assert_close(tiny_codec.decode(codes), decoded, rtol=0, atol=1e-5)
        assert runs
        assert tiny_codec.fingerprint == fingerprint
        torch._dynamo.reset()

    def test_hooks_on_layers_are_called(self, tiny_codec):
        seen = []
        tiny_codec.encode(speech(0.2))
        tiny_codec.encoder[0].register_forward_hook(lambda layer, inputs, output: seen.append(output.shape))
        tiny_codec.encode(speech(0.2))
        assert len(seen) == 1


def test_a_codec_with_a_compiled_part_is_saved_under_the_usual_names(tiny_codec, tmp_path):
    decoded = tiny_codec.decode(codes := tiny_codec.encode(speech(0.2)))
    tiny_codec.decoder = torch.compile(tiny_codec.decoder, backend="eager")
    tiny_codec.save_pretrained(tmp_path)
    assert torch.equal(ESDCodec.from_pretrained(tmp_path, device="cpu").decode(codes), decoded)
