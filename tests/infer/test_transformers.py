"""A saved folder with transformers' Auto classes: the contract of its own codecs, and no network."""

import inspect
import json
import socket
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoProcessor, MimiModel

import esdcodec
from esdcodec.infer.transformers import ESDCodecModel
from tests.conftest import speech


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("modules")


@pytest.fixture(autouse=True)
def no_network(monkeypatch, cache):
    def refused(*_):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(cache))


@pytest.fixture
def auto_model(model):
    return AutoModel.from_pretrained(model, trust_remote_code=True)


@pytest.fixture
def inputs(model):
    audio = [speech(seconds, seed=seed)[0, 0].numpy() for seed, seconds in enumerate((1.0, 0.71, 0.3))]
    return AutoFeatureExtractor.from_pretrained(model)(audio, sampling_rate=24000, return_tensors="pt")


class TestContract:
    def test_the_folder_gives_the_codes_of_load(self, auto_model, codec):
        assert type(auto_model) is ESDCodecModel
        assert not auto_model.training
        assert torch.equal(auto_model.encode(speech(1.0)).audio_codes, codec.encode(speech(1.0)))

    @pytest.mark.parametrize("method", ["encode", "decode", "forward"])
    def test_arguments_come_in_the_order_of_mimi(self, method):
        ours = list(inspect.signature(getattr(ESDCodecModel, method)).parameters)
        theirs = inspect.signature(inspect.unwrap(getattr(MimiModel, method))).parameters
        assert ours[:-1] == [name for name in theirs if name in ours[:-1]]
        assert ours[-1] == "return_dict"

    def test_a_batch_with_masks_equals_its_items_alone(self, auto_model, inputs):
        codes = auto_model.encode(inputs["input_values"], inputs["padding_mask"]).audio_codes
        mask = auto_model.get_audio_codes_mask(inputs["padding_mask"])
        audio = auto_model.decode(codes, inputs["padding_mask"]).audio_values
        assert audio.shape == inputs["input_values"].shape
        for i, n_samples in enumerate(inputs["padding_mask"].sum(-1).tolist()):
            alone = auto_model.encode(inputs["input_values"][i : i + 1, :, :n_samples]).audio_codes
            assert torch.equal(codes[i][:, mask[i]], alone[0])
            assert (codes[i][:, ~mask[i]] == -1).all()
            decoded = auto_model.decode(alone).audio_values[0, :, : audio.shape[-1]]
            torch.testing.assert_close(audio[i, :, : decoded.shape[-1]], decoded, rtol=0, atol=1e-6)

    def test_a_mask_of_each_channel_is_one_of_each_item(self, auto_model, inputs):
        mask = inputs["padding_mask"]
        one, other = (auto_model.encode(inputs["input_values"], m).audio_codes for m in (mask, mask[:, None]))
        assert torch.equal(one, other)

    def test_padding_on_the_left_is_refused(self, auto_model, inputs):
        with pytest.raises(ValueError, match="pad on the right"):
            auto_model.encode(inputs["input_values"], inputs["padding_mask"].flip(-1))

    def test_forward_is_encode_and_decode(self, auto_model, inputs):
        output = auto_model(**inputs, num_quantizers=2)
        codes = auto_model.encode(**inputs, num_quantizers=2).audio_codes
        assert torch.equal(output.audio_codes, codes)
        assert output.audio_codes.shape[1] == 2
        assert output.audio_values.shape == inputs["input_values"].shape
        again = auto_model(inputs["input_values"], audio_codes=codes)
        assert torch.equal(again.audio_values, output.audio_values)

    def test_tuples_where_they_are_asked_for(self, auto_model):
        (codes,) = auto_model.encode(speech(0.3), return_dict=False)
        (audio,) = auto_model.decode(codes, return_dict=False)
        auto_model.config.return_dict = False
        assert [part.shape for part in auto_model(speech(0.3))] == [codes.shape, audio[..., : 24000 * 3 // 10].shape]

    def test_the_configuration_answers_as_those_of_other_codecs(self, model, codec):
        config = AutoConfig.from_pretrained(model, trust_remote_code=True)
        assert (config.sampling_rate, config.hop_length, config.frame_rate) == (
            24000,
            codec.hop_length,
            codec.frame_rate,
        )
        assert (config.num_quantizers, config.codebook_sizes) == (codec.n_codebooks, list(codec.codebook_sizes))


class TestFiles:
    def test_saved_again_it_serves_both(self, auto_model, codec, tmp_path):
        auto_model.save_pretrained(tmp_path)
        again = AutoModel.from_pretrained(tmp_path, trust_remote_code=True)
        codes = codec.encode(speech(0.5))
        assert torch.equal(again.encode(speech(0.5)).audio_codes, codes)
        assert torch.equal(esdcodec.load(tmp_path, device="cpu").encode(speech(0.5)), codes)

    def test_a_configuration_that_transformers_has_written_is_read_by_load(self, model, auto_model, codec, tmp_path):
        auto_model.save_pretrained(tmp_path)
        AutoConfig.from_pretrained(model, trust_remote_code=True).save_pretrained(tmp_path)
        assert "transformers_version" in json.loads((tmp_path / "config.json").read_text())
        assert torch.equal(esdcodec.load(tmp_path, device="cpu").encode(speech(0.3)), codec.encode(speech(0.3)))
        AutoModel.from_pretrained(tmp_path, trust_remote_code=True)

    def test_a_new_model_has_the_initialisation_of_the_codec(self, model, codec):
        config = AutoConfig.from_pretrained(model, trust_remote_code=True)
        torch.manual_seed(0)
        new = AutoModel.from_config(config, trust_remote_code=True)
        torch.manual_seed(0)
        expected = esdcodec.ESDCodec(**codec.config).state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in new.codec.state_dict().items())

    def test_the_feature_extractor_needs_no_code_of_the_folder(self, model):
        extractor = AutoFeatureExtractor.from_pretrained(model)
        assert type(extractor).__module__.startswith("transformers.")
        assert extractor.sampling_rate == 24000
        assert type(AutoProcessor.from_pretrained(model, trust_remote_code=True)) is type(extractor)
        with pytest.raises(ValueError, match="24000"):
            extractor(speech(0.1)[0, 0].numpy(), sampling_rate=16000)

    def test_dtype_and_device_as_transformers_names_them(self, model):
        for dtype in ("bfloat16", torch.bfloat16):
            loaded = AutoModel.from_pretrained(model, trust_remote_code=True, dtype=dtype, device_map={"": "cpu"})
            assert loaded.codec.dtype == torch.bfloat16
            assert loaded.codec.semantic_quantizer.codebook.dtype == torch.float32

    def test_what_cannot_be_is_refused(self, model):
        with pytest.raises(TypeError, match="surprise"):
            ESDCodecModel.from_pretrained(model, surprise=1)
        with pytest.raises(ValueError, match="one device"):
            ESDCodecModel.from_pretrained(model, device_map={"encoder": "cpu", "decoder": "cuda"})
        config = AutoConfig.from_pretrained(model, trust_remote_code=True)
        config.condition_blocks += 1
        with pytest.raises(ValueError, match="condition_blocks"):
            ESDCodecModel.from_pretrained(model, config=config)

    def test_the_code_in_the_folder_is_an_import_of_the_package(self, model):
        statements = (Path(model) / "modeling_esdcodec.py").read_text().split('"""')[-1].strip().splitlines()
        assert statements[0].startswith("from esdcodec.infer.transformers import")
        assert len(statements) <= 3
