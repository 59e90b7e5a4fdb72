"""The networks in plain operators, and as ONNX files."""

import copy
import json
import sys

import numpy as np
import pytest
import soundfile
import torch

from esdcodec import ESDCodec, load
from esdcodec.audio import resample
from esdcodec.onnx_export import DecoderGraph, EncoderGraph, export_onnx
from esdcodec.weights import BUNDLED
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


def sessions(codec, folder):
    """Encoder and decoder of a codec in onnxruntime, by way of files in `folder`."""
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    models = export_onnx(codec, folder)[:2]
    return [onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]) for path in models]


@pytest.mark.filterwarnings("ignore")
def test_in_onnxruntime(codec, audio, tmp_path):
    """At another length and batch than the export's example."""
    encoder, decoder = sessions(codec, tmp_path)
    codes = codec.encode(audio)
    (ours,) = encoder.run(None, {"audio": audio.numpy()})
    assert (torch.from_numpy(ours) == codes).float().mean() > 0.99
    for n in (1, 3, codec.n_codebooks):
        (decoded,) = decoder.run(None, {"codes": codes[:, :n].numpy()})
        torch.testing.assert_close(torch.from_numpy(decoded), codec.decode(codes[:, :n]), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_windows_with_the_described_context_give_the_values_of_one_pass(codec, tmp_path):
    encoder, decoder = sessions(codec, tmp_path)
    about = json.loads((tmp_path / "codec.json").read_text())
    assert (about["fingerprint"], about["hop_length"]) == (codec.fingerprint.hex(), codec.hop_length)
    long, hop = speech(5.0, seed=2).numpy()[..., : 120 * codec.hop_length], codec.hop_length
    (codes,) = encoder.run(None, {"audio": long})
    (whole,) = decoder.run(None, {"codes": codes})
    for side in ("encoder", "decoder"):
        left, right = about[f"{side}_context"]["left"], about[f"{side}_context"]["right"]
        start, stop = 60 - left, 61 + right
        if side == "encoder":
            (window,) = encoder.run(None, {"audio": long[..., start * hop : stop * hop]})
            assert (window[..., left] == codes[..., 60]).all()
        else:
            (window,) = decoder.run(None, {"codes": codes[..., start:stop]})
            np.testing.assert_allclose(window[..., left * hop :][..., :hop], whole[..., 60 * hop : 61 * hop], atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_one_frame_is_coded_too(codec, audio, tmp_path):
    encoder, decoder = sessions(codec, tmp_path)
    short = audio[..., : codec.hop_length]
    (codes,) = encoder.run(None, {"audio": short.numpy()})
    assert (torch.from_numpy(codes) == codec.encode(short)).float().mean() > 0.9  # near ties
    (decoded,) = decoder.run(None, {"codes": codes})
    torch.testing.assert_close(torch.from_numpy(decoded), codec.decode(torch.from_numpy(codes)), rtol=0, atol=1e-5)


def test_a_folder_named_onnx_is_not_taken_for_the_package(codec, tmp_path, monkeypatch):
    (tmp_path / "onnx").mkdir()
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "onnx", raising=False)
    with pytest.raises(ImportError, match=r"esdcodec\[onnx\]"):
        export_onnx(codec, tmp_path / "onnx")


def stored(folder):
    """Each model's weights in `folder`: name -> type, offset and bytes in the one file."""
    import onnx

    models = [onnx.load(str(folder / name), load_external_data=False) for name in ("encoder.onnx", "decoder.onnx")]
    entries = []
    for model in models:
        external = {tensor.name: tensor for tensor in model.graph.initializer if tensor.external_data}
        entries.append({})
        for name, tensor in external.items():
            where = {entry.key: entry.value for entry in tensor.external_data}
            assert where["location"] == "weights.bin"
            kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            entries[-1][name] = (kind, int(where["offset"]), int(where["length"]))
    return entries


@pytest.mark.filterwarnings("ignore")
def test_constants_have_the_types_in_which_they_are_used(codec, tmp_path):
    """A runtime for graphics cards converts no doubles, and clamps no integers."""
    onnx = pytest.importorskip("onnx")
    export_onnx(codec, tmp_path)
    for name in ("encoder.onnx", "decoder.onnx"):
        nodes = onnx.load(str(tmp_path / name), load_external_data=False).graph.node
        constants = {node.output[0]: node.attribute[0].t for node in nodes if node.op_type == "Constant"}
        used = [name for node in nodes for name in node.input]
        assert set(constants) <= set(used)
        assert not [node.name for node in nodes if node.op_type == "Cast" and node.input[0] in constants]
        assert onnx.TensorProto.DOUBLE not in {tensor.data_type for tensor in constants.values()}


@pytest.mark.filterwarnings("ignore")
class TestSharedWeights:
    def test_weights_of_both_halves_are_stored_once(self, codec, tmp_path):
        paths = export_onnx(codec, tmp_path)
        assert [path.name for path in paths] == ["encoder.onnx", "decoder.onnx", "weights.bin", "codec.json"]
        assert {path.name for path in tmp_path.iterdir()} == {path.name for path in paths}
        encoder, decoder = stored(tmp_path)
        common = set(encoder) & set(decoder)
        assert {"semantic_quantizer.codebook", "semantic_quantizer.projection.weight"} <= common
        assert all(encoder[name] == decoder[name] for name in common)
        places = {place[1:] for place in (*encoder.values(), *decoder.values())}
        size = (tmp_path / "weights.bin").stat().st_size
        assert sum(length for _, length in places) <= size < sum(length + 64 for _, length in places)

    def test_what_half_precision_would_change_stays_as_it_is(self, codec, tmp_path):
        codec = copy.deepcopy(codec)
        with torch.no_grad():
            for parameter in codec.parameters():
                parameter.copy_(parameter.half())
            codec.decoder.conv_in.weight_v.mul_(1.001)
            codec.decoder.conv_in.bias[0] = 1e6  # infinite in half precision
        export_onnx(codec, tmp_path)
        _, decoder = stored(tmp_path)
        assert decoder["decoder.conv_in.weight_v"][0] == np.float32
        assert "decoder.conv_in.bias.float16" not in decoder
        assert decoder["semantic_quantizer.codebook.float16"][0] == np.float16

    def test_the_bundled_model_keeps_its_size_and_every_code(self, tmp_path):
        codec = load(device="cpu")
        encoder, decoder = sessions(codec, tmp_path)
        size = sum(path.stat().st_size for path in tmp_path.iterdir())
        assert size < (BUNDLED["25hz_nano"] / "model.safetensors").stat().st_size + 600_000  # of the graphs
        audio, rate = soundfile.read(BUNDLED["25hz_nano"].parent / "sample.flac", dtype="float32")
        audio = torch.from_numpy(resample(audio[: 2 * rate], rate, codec.sample_rate))[None, None]
        codes = codec.encode(audio)
        (ours,) = encoder.run(None, {"audio": audio.numpy()})
        assert (torch.from_numpy(ours) == codes).float().mean() >= 0.999  # all of them on the machine that wrote this
        (decoded,) = decoder.run(None, {"codes": ours[:, :3]})
        torch.testing.assert_close(torch.from_numpy(decoded), codec.decode(codes[:, :3]), rtol=0, atol=1e-4)
