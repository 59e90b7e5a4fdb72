"""The networks in plain operators, and as ONNX files."""

import copy
import sys

import pytest
import torch

from esdcodec import ESDCodec
from esdcodec.onnx_export import DecoderGraph, EncoderGraph, export_onnx
from tests.conftest import make_tiny_codec, speech


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
        graph = DecoderGraph(copy.deepcopy(codec))
        torch.testing.assert_close(graph(codes[:, :n]), expected, rtol=0, atol=1e-5)
        codes[:, n or codec.n_codebooks :] = -1
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
    for n in (1, 3, codec.n_codebooks):
        (decoded,) = decoder.run(None, {"codes": codes[:, :n].numpy()})
        torch.testing.assert_close(torch.from_numpy(decoded), codec.decode(codes[:, :n]), rtol=0, atol=1e-5)


def test_a_folder_named_onnx_is_not_taken_for_the_package(codec, tmp_path, monkeypatch):
    (tmp_path / "onnx").mkdir()
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "onnx", raising=False)
    with pytest.raises(ImportError, match=r"esdcodec\[onnx\]"):
        export_onnx(codec, tmp_path / "onnx")
