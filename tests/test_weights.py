"""Every way to load a codec, and every way in which it can fail."""

import json
import re

import pytest
import torch
from safetensors.torch import save_file

import esdcodec
from esdcodec import ESDCodec, bundled, published
from esdcodec.codec import load
from esdcodec.pretrained import push
from esdcodec.weights import BUNDLED, ModelNotFoundError, WeightsError
from tests.conftest import TINY, speech


@pytest.fixture
def folder(tiny_codec, tmp_path):
    tiny_codec.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def same(one: ESDCodec, other: ESDCodec) -> bool:
    audio = speech(0.2)
    codes = one.encode(audio)
    return torch.equal(codes, other.encode(audio)) and torch.equal(one.decode(codes), other.decode(codes))


class TestBundled:
    def test_loads_without_a_network(self, monkeypatch):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        codec = esdcodec.load(device="cpu")
        assert not codec.training
        assert codec.bitrate(3) == 850
        assert codec.decode(codec.encode(speech(0.5))).shape == (1, 1, 12480)

    def test_a_name_stands_for_its_newest_version(self):
        newest = bundled.NEWEST["25hz_nano"]
        assert load("25hz_nano", device="cpu").name == load(newest, device="cpu").name == newest

    @pytest.mark.parametrize(
        ("name", "advice"),
        [
            ("25hz_nano_v99", "bundled with a newer esdcodec: `pip install --upgrade esdcodec`"),
            (f"{bundled.NEWEST['25hz_nano']}1", "bundled with a newer esdcodec"),
            ("25hz_nano_v", "is no model"),
            ("25hz_nano_v1.0", "is no model"),
        ],
    )
    def test_another_version_is_refused_with_the_way_to_get_it(self, name, advice):
        with pytest.raises(ModelNotFoundError, match=re.escape(advice)):
            load(name, device="cpu")

    def test_an_earlier_version_is_refused_with_the_way_to_get_it(self, monkeypatch):
        monkeypatch.setattr(bundled, "NEWEST", {"25hz_nano": "25hz_nano_v3"})
        monkeypatch.setattr(bundled, "EARLIER", {"25hz_nano_v2": "`pip install 'esdcodec==0.4'` has it"})
        with pytest.raises(ModelNotFoundError, match="25hz_nano_v2 was bundled before 25hz_nano_v3; `pip install"):
            load("25hz_nano_v2", device="cpu")

    def test_is_small_enough_for_the_wheel(self):
        assert sum(f.stat().st_size for f in BUNDLED["25hz_nano"].iterdir()) <= 15e6


class TestOwnFormat:
    def test_folder(self, tiny_codec, folder):
        assert same(tiny_codec, load(folder, device="cpu"))
        assert same(tiny_codec, ESDCodec.from_pretrained(str(folder), device="cpu"))

    def test_file_alone(self, tiny_codec, folder, tmp_path):
        (tmp_path / "config.json").write_text('{"model_type": "bert"}')  # of another model, and no concern of ours
        moved = (folder / "model.safetensors").rename(tmp_path / "any name")
        assert same(tiny_codec, load(moved, device="cpu"))

    def test_folder_with_the_weights_alone(self, tiny_codec, folder):
        (folder / "config.json").unlink()
        assert same(tiny_codec, load(folder, device="cpu"))

    def test_file_without_embedded_configuration_takes_the_one_beside_it(self, tiny_codec, folder):
        save_file(tiny_codec.state_dict(), folder / "model.safetensors")
        assert same(tiny_codec, load(folder / "model.safetensors", device="cpu"))

    def test_files_can_be_read_by_others(self, folder):
        assert len({p.stat().st_mode for p in folder.iterdir()}) == 1

    def test_stored_in_half_precision(self, tiny_codec, tmp_path):
        tiny_codec.save_pretrained(tmp_path, dtype=torch.float16)
        loaded = load(tmp_path, device="cpu")
        assert loaded.dtype == torch.float32
        torch.testing.assert_close(
            loaded.decode(tiny_codec.encode(speech(0.2))),
            tiny_codec.decode(tiny_codec.encode(speech(0.2))),
            rtol=0,
            atol=5e-3,
        )

    def test_saving_again_replaces_and_leaves_nothing_else(self, tiny_codec, folder):
        tiny_codec.save_pretrained(folder)
        for_transformers = {"modeling_esdcodec.py", "preprocessor_config.json"}
        assert {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors", *for_transformers}

    def test_dtype_and_device(self, folder):
        codec = load(folder, device="cpu", dtype=torch.bfloat16)
        assert (codec.dtype, codec.device.type) == (torch.bfloat16, "cpu")
        assert codec.semantic_quantizer.codebook.dtype == torch.float32

    @pytest.mark.parametrize("device", ["nothing", "cpu:x", "cuda:99", 3.5])
    def test_a_device_that_is_not_there_is_a_plain_word(self, folder, device):
        with pytest.raises(ValueError, match=r"cannot be used here \(.*\): leave it out"):
            load(folder, device=device)

    @pytest.mark.parametrize("dtype", [torch.int8, torch.complex64, torch.float8_e4m3fn, "float32", int])
    def test_so_is_a_dtype_that_no_convolution_has(self, folder, dtype):
        with pytest.raises(ValueError, match=r"must be one of torch\.float32, torch\.bfloat16"):
            load(folder, device="cpu", dtype=dtype)

    def test_training_can_go_on_from_it(self, folder):
        codec = load(folder, device="cpu").train()
        codec(speech(0.2)).audio.square().sum().backward()
        assert codec.encoder[0].weight_v.grad.abs().max() > 0

    @pytest.mark.parametrize(
        "config",
        [
            "{",
            "[]",
            "\udcff",
            '{"model_type": "other"}',
            json.dumps(TINY),
            json.dumps({"model_type": "esdcodec", "surprise": 1}),
            json.dumps({"model_type": "esdcodec", "latent_dim": "x"}),
            json.dumps({"model_type": "esdcodec", "latent_dim": -1}),
            json.dumps({"model_type": "esdcodec", "encoder_rates": None}),
            json.dumps({"model_type": "esdcodec", "encoder_rates": [2]}),
            json.dumps({"model_type": "esdcodec", "sample_rate": 0}),
            json.dumps({"model_type": "esdcodec", "acoustic_codebooks": 10**9}),
            json.dumps({"model_type": "esdcodec", "condition_blocks": 10**9}),
            json.dumps({"model_type": "esdcodec", "decoder_rates": [1] * 10**5}),
            json.dumps({"model_type": "esdcodec", "latent_dim": 10**30}),
            json.dumps({"model_type": "esdcodec", "latent_dim": 0.5}),
            json.dumps({"model_type": "esdcodec", "encoder_rates": [4, 5, "6", 8]}),
            json.dumps({"model_type": "esdcodec", "semantic_dim": None}),
            "[" * 10**5,
            '{"model_type": "esdcodec", "latent_dim": ' + "[" * 10**5 + "]" * 10**5 + "}",
            '{"model_type": "esdcodec", "latent_dim": ' + "9" * 10**5 + "}",
            " " * 2**20 + json.dumps({"model_type": "esdcodec"}),
        ],
    )
    def test_bad_config(self, folder, config):
        (folder / "config.json").write_text(config, errors="surrogateescape")
        with pytest.raises(WeightsError, match=r"config\.json"):
            load(folder)

    def test_config_of_another_size(self, folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "latent_dim": 16}))
        with pytest.raises(WeightsError, match=r"model\.safetensors does not fit .* expected \[16, .* more\)"):
            load(folder)


@pytest.fixture(scope="module")
def downloaded(published_weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("esdcodec_ckpts")
    torch.save(published_weights, folder / published.WEIGHTS)
    return folder


class TestPublishedLayout:
    """The published layout has one size, so these files are large; the laws of its names are tested on names alone."""

    @pytest.mark.slow
    def test_downloaded_folder_and_file(self, downloaded, published_codec):
        for source in (downloaded, downloaded / published.WEIGHTS):
            loaded = load(source, device="cpu").state_dict()
            assert all(torch.equal(tensor, loaded[name]) for name, tensor in published_codec.state_dict().items())

    @pytest.mark.slow
    @pytest.mark.parametrize("write", ["safetensors", "pickle"])
    def test_other_formats_whatever_the_name(self, write, published_weights, published_codec, tmp_path):
        file = tmp_path / "weights.pt"
        if write == "safetensors":
            save_file(published_weights, file)
        else:
            torch.save(published_weights, file, _use_new_zipfile_serialization=False)
        loaded = load(file, device="cpu").state_dict()
        assert all(torch.equal(tensor, loaded[name]) for name, tensor in published_codec.state_dict().items())

    @pytest.mark.slow
    def test_missing_surplus_and_misshapen_parameters_are_named(self, published_weights, tmp_path):
        file = tmp_path / "weights.safetensors"
        save_file({k: v for k, v in published_weights.items() if k != "dac.encoder.block.0.bias"}, file)
        with pytest.raises(WeightsError, match=r"weights\.safetensors .*25hz_v1: encoder\.0\.bias \[64\] is missing"):
            load(file)
        save_file({**published_weights, "dac.extra": torch.zeros(3)}, file)
        with pytest.raises(WeightsError, match=r"dac\.extra \[3\] is not of this model"):
            load(file)
        save_file({**published_weights, "dac.encoder.block.0.bias": torch.zeros(3)}, file)
        with pytest.raises(WeightsError, match=r"encoder\.0\.bias is \[3\], expected \[64\]"):
            load(file)

    def test_every_published_name_is_one_of_ours(self):
        from tests.conftest import DATA

        with torch.device("meta"):
            ours = {name: list(t.shape) for name, t in ESDCodec().state_dict().items()}
        shapes = json.loads((DATA / "shapes_25hz_v1.json").read_text())
        mapped = {published.our_name(k): shape for k, shape in shapes.items() if k not in published.CONSTANTS}
        assert mapped == ours


class TestHub:
    """The Hub's client is replaced by a folder: what is asked of it, and what becomes of its errors."""

    @pytest.fixture
    def hub(self, monkeypatch, tmp_path):
        from huggingface_hub.errors import EntryNotFoundError

        asked = []

        def hf_hub_download(repo_id, file, revision=None):
            asked.append((repo_id, file, revision))
            if not (tmp_path / repo_id / file).exists():
                raise EntryNotFoundError(f"404 {file}")
            return str(tmp_path / repo_id / file)

        monkeypatch.setattr("huggingface_hub.hf_hub_download", hf_hub_download)
        return asked

    def test_hub_id_and_revision(self, hub, tiny_codec, tmp_path):
        tiny_codec.save_pretrained(tmp_path / "owner/name")
        assert same(tiny_codec, load("owner/name", device="cpu", revision="main"))
        assert hub == [("owner/name", "config.json", "main"), ("owner/name", "model.safetensors", "main")]

    @pytest.mark.slow
    def test_published_name_and_repository(self, hub, published_weights, tmp_path):
        (tmp_path / published.REPOSITORY).mkdir(parents=True)
        torch.save(published_weights, tmp_path / published.REPOSITORY / published.WEIGHTS)
        for source in ("25hz_v1", published.REPOSITORY):
            assert load(source, device="cpu").bitrate() == 3100
        assert set(hub) == {(published.REPOSITORY, published.WEIGHTS, None)}

    def test_a_repository_without_a_model(self, hub):
        with pytest.raises(ModelNotFoundError, match=f"{published.WEIGHTS} of owner/name cannot be downloaded"):
            load("owner/name")

    def test_ids_with_dots_are_ids(self, hub, tiny_codec, tmp_path):
        tiny_codec.save_pretrained(tmp_path / "owner/codec-v1.5")
        assert same(tiny_codec, load("owner/codec-v1.5", device="cpu"))

    def test_a_connection_that_breaks(self, monkeypatch):
        def hf_hub_download(*args, **kwargs):
            raise RuntimeError("peer closed connection")  # HTTP libraries have errors of their own

        monkeypatch.setattr("huggingface_hub.hf_hub_download", hf_hub_download)
        with pytest.raises(ModelNotFoundError, match=r"peer closed connection.*25hz_nano"):
            load("25hz_v1")

    def test_offline(self, tmp_path):
        import subprocess
        import sys

        code = "import esdcodec; esdcodec.load('25hz_v1')"
        env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": "", "PYTHONPATH": ":".join(sys.path)}
        result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
        assert "ModelNotFoundError" in result.stderr
        assert "hf download vspeech/ESDCodec --local-dir" in result.stderr
        assert "esdcodec.load('25hz_nano')" in result.stderr

    def test_push(self, monkeypatch, tiny_codec):
        calls = {}

        class Api:
            def __init__(self, token):
                calls["token"] = token

            def create_repo(self, repo_id, private, exist_ok):
                calls["created"] = (repo_id, private, exist_ok)

            def upload_folder(self, repo_id, folder_path, commit_message):
                calls["uploaded"] = same(tiny_codec, load(folder_path, device="cpu"))
                return type("Commit", (), {"commit_url": f"https://hub/{repo_id}"})

        monkeypatch.setattr("huggingface_hub.HfApi", Api)
        assert tiny_codec.push_to_hub("me/mine", private=True, token="t") == "https://hub/me/mine"
        assert calls == {"token": "t", "created": ("me/mine", True, True), "uploaded": True}
        assert push(tiny_codec, "me/mine") == "https://hub/me/mine"
        assert calls == {"token": None, "created": ("me/mine", None, True), "uploaded": True}
