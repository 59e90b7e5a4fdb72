import pytest
import torch

import esdcodec
from esdcodec import Inference, get_model
from esdcodec.published import REPOSITORY
from tests.conftest import speech


def test_the_calls_of_dualcodec_scripts(tiny_codec):
    inference = Inference(esdcodec_model=tiny_codec, device="cpu")
    audio = speech(0.3)
    semantic, acoustic = inference.encode(audio, n_quantizers=4)
    assert (semantic.dtype, acoustic.dtype) == (torch.int64, torch.int64)
    assert (semantic.shape, acoustic.shape) == ((1, 1, 60), (1, 3, 60))
    codes = tiny_codec.encode(audio, n_quantizers=4)
    assert torch.equal(torch.cat([semantic, acoustic], 1), codes)
    assert torch.equal(inference.decode(semantic, acoustic), tiny_codec.decode(codes))
    assert torch.equal(inference.decode(semantic, None), tiny_codec.decode(codes[:, :1]))


def test_one_codebook_is_the_semantic_one(tiny_codec):
    semantic, acoustic = Inference(tiny_codec).encode(speech(0.3), n_quantizers=1)
    assert acoustic.shape == (1, 0, 60)
    assert Inference(tiny_codec).decode(semantic, acoustic).shape == (1, 1, 7200)


def test_default_number_of_codebooks_is_eight():
    semantic, acoustic = Inference(esdcodec_path="25hz_nano", device="cpu").encode(speech(0.2))
    assert (semantic.shape[1], acoustic.shape[1]) == (1, 7)


def test_autocast_gives_integers_too(tiny_codec):
    inference = Inference(tiny_codec, autocast=True)
    semantic, acoustic = inference.encode(speech(0.3), n_quantizers=3)
    assert inference.decode(semantic, acoustic).dtype == torch.float32


def test_get_model(tiny_codec, tmp_path):
    tiny_codec.save_pretrained(tmp_path)
    assert get_model("25hz_v1", tmp_path).config == tiny_codec.config
    assert get_model("25hz_nano").config == esdcodec.load(device="cpu").config
    with pytest.raises(ValueError, match="25hz_nano, 25hz_v1"):
        get_model(REPOSITORY)


def test_nothing_to_load():
    with pytest.raises(ValueError, match="esdcodec_model"):
        Inference()
