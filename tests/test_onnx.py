"""The networks in plain operators, and as ONNX files."""

import copy

import pytest
import torch
from conftest import make_tiny_codec, speech

from esdcodec.model_codec import ESDCodec
from esdcodec.onnx_export import DecoderGraph, EncoderGraph, export_onnx


@pytest.fixture(scope="module")
def codec() -> ESDCodec:
    return make_tiny_codec()


@pytest.fixture(scope="module")
def audio(codec) -> torch.Tensor:
    both = torch.cat([speech(1.0, seed=seed) for seed in (0, 1)])
    return both[..., : both.shape[-1] // codec.hop_length * codec.hop_length]


@pytest.mark.filterwarnings("ignore")
class TestGraphs:
    @torch.no_grad()
    def test_codes_are_those_of_encode(self, codec, audio):
        graph = EncoderGraph(copy.deepcopy(codec))
        assert (graph(audio) == codec.encode(audio)).float().mean() > 0.99  # near ties

    @torch.no_grad()
    @pytest.mark.parametrize("n", [1, 2, None])
    def test_audio_is_that_of_decode(self, codec, audio, n):
        codes = codec.encode(audio)
        expected = codec.decode(codes[:, :n])
        codes[:, n or codec.n_codebooks :] = -1
        graph = DecoderGraph(copy.deepcopy(codec))
        torch.testing.assert_close(graph(codes), expected, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_in_onnxruntime(codec, audio, tmp_path):
    """At another length and batch than the export's example."""
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    encoder, decoder = (
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for path in export_onnx(codec, tmp_path)
    )
    codes = codec.encode(audio)
    (ours,) = encoder.run(None, {"audio": audio.numpy()})
    assert (torch.from_numpy(ours) == codes).float().mean() > 0.99
    (decoded,) = decoder.run(None, {"codes": codes.numpy()})
    torch.testing.assert_close(torch.from_numpy(decoded), codec.decode(codes), rtol=0, atol=1e-5)
