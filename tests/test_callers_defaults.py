"""Whatever default device, dtype or mode the caller has set: the same results, or a clear word."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from esdcodec.codec import ESDCodec, load
from tests.conftest import speech


@pytest.fixture
def folder(tiny_codec, tmp_path):
    tiny_codec.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


class TestWhateverTheCallerHasSet:
    """Loading, encoding and decoding are the same under any default device, dtype or mode."""

    @pytest.fixture
    def expected(self, folder):
        codec = load(folder, device="cpu")
        codes = codec.encode(self.AUDIO)
        return codes, codec.decode(codes)

    AUDIO = (32767 * speech(0.2)[0, 0].numpy()).astype(np.int16)

    @staticmethod
    @contextmanager
    def default_dtype(dtype):
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(before)

    @pytest.mark.parametrize(
        "setting",
        [
            lambda: torch.device("meta"),
            lambda: TestWhateverTheCallerHasSet.default_dtype(torch.float64),
            lambda: TestWhateverTheCallerHasSet.default_dtype(torch.bfloat16),
            torch.inference_mode,
        ],
        ids=["meta device", "float64", "bfloat16", "inference mode"],
    )
    def test_results_are_the_same(self, folder, expected, setting):
        with setting():
            codec = load(folder, device="cpu")
            codes = codec.encode(self.AUDIO)
            decoded = codec.decode(codes)
            encoder, decoder = codec.stream_encoder(), codec.stream_decoder()
            pieces = torch.cat([encoder.push(self.AUDIO), encoder.finish()], dim=-1)
            audio = torch.cat([decoder.push(pieces), decoder.finish()], dim=-1)
        assert {p.dtype for p in codec.parameters()} == {decoded.dtype, audio.dtype} == {torch.float32}
        assert torch.equal(codes, expected[0])
        assert torch.equal(decoded, expected[1])
        assert torch.equal(pieces, codes)
        torch.testing.assert_close(audio, decoded, rtol=0, atol=1e-4)
        codec.train()(speech(0.1)).audio.sum().backward()  # its weights are ordinary ones

    def test_a_codec_that_is_loaded_runs_under_any_default_device(self, folder, expected):
        codec = load(folder, device="cpu")
        with torch.device("meta"):
            codes, decoded = codec.encode(self.AUDIO), codec.decode(expected[0])
            lengths = codec.encode(speech(0.2).to("cpu").repeat(2, 1, 1), 16000, lengths=[3200, 100])
        assert torch.equal(codes, expected[0])
        assert torch.equal(decoded, expected[1])
        assert lengths.device.type == "cpu"

    def test_built_on_the_meta_device_it_can_be_given_memory_and_weights(self, folder, expected):
        codec = load(folder, device="cpu")
        for assign in (True, False):
            with torch.device("meta"):
                other = ESDCodec(**codec.config).eval()
            other = other if assign else other.to_empty(device="cpu")
            other.load_state_dict(codec.state_dict(), assign=assign)
            assert torch.equal(other.encode(self.AUDIO), expected[0])
            assert other.fingerprint == codec.fingerprint

    def test_a_codec_on_the_meta_device_says_so(self, folder):
        codec = load(folder, device="meta")
        with pytest.raises(ValueError, match="move one of them"):
            codec.encode(speech(0.1))
