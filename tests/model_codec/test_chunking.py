"""Cutting changes nothing: codes and samples in chunks are those of one pass over the whole."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esdcodec.model_codec.chunking import Stage
from esdcodec.model_codec.receptive_field import Context
from tests.conftest import speech

HOP = 120
SETTINGS = settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
ONE_PASS = 1e4  # seconds


class TestChunks:
    @SETTINGS
    @given(
        length=st.integers(1, 24000),
        chunk=st.floats(0.005, 1.5),
        batch=st.sampled_from([None, 0.3, 2.0]),
        n=st.sampled_from([1, 2, 6]),
    )
    def test_any_length_in_any_chunks(self, tiny_codec, recording, length, chunk, batch, n):
        audio = recording[..., :length]
        whole = tiny_codec.encode(audio, n_quantizers=n, chunk_seconds=ONE_PASS)
        codes = tiny_codec.encode(audio, n_quantizers=n, chunk_seconds=chunk, batch_seconds=batch)
        assert codes.shape == whole.shape
        assert (codes != whole).sum() <= 0.001 * codes.numel()
        decoded = tiny_codec.decode(whole, chunk_seconds=chunk, batch_seconds=batch)
        expected = tiny_codec.decode(whole, chunk_seconds=ONE_PASS)
        torch.testing.assert_close(decoded, expected, rtol=0, atol=1e-4)

    @torch.no_grad()
    def test_one_chunk_is_one_pass(self, tiny_codec, recording):
        codes, network = tiny_codec.encode(recording), tiny_codec.inference_form()
        assert torch.equal(codes, network.quantize(network.encode_latent(recording), 6))
        assert torch.equal(tiny_codec.decode(codes), network.decode_latent(network.dequantize(codes))[0])

    def test_batches_of_unequal_lengths(self, tiny_codec, recording):
        batch, lengths = recording[..., :36000].reshape(3, 1, 12000), [12000, 7000, 11999]
        codes = tiny_codec.encode(batch, lengths=lengths, chunk_seconds=0.1)
        for item, length, own in zip(batch, lengths, codes):
            alone = tiny_codec.encode(item[..., :length], chunk_seconds=ONE_PASS)[0]
            assert (own[:, : alone.shape[1]] == alone).float().mean() >= 0.999
            assert (own[:, alone.shape[1] :] == -1).all()

    @pytest.mark.slow
    def test_published_size(self, published_codec):
        audio = speech(6.3)
        whole = published_codec.encode(audio, n_quantizers=3)
        codes = published_codec.encode(audio, n_quantizers=3, chunk_seconds=2.5)
        assert (codes == whole).float().mean() >= 0.999
        decoded = published_codec.decode(whole, chunk_seconds=2.5)
        torch.testing.assert_close(decoded, published_codec.decode(whole), rtol=0, atol=1e-4)

    @pytest.mark.parametrize("wrong", [{"chunk_seconds": 0}, {"chunk_seconds": float("inf")}, {"batch_seconds": -1}])
    def test_nonsense_is_refused(self, tiny_codec, recording, wrong):
        with pytest.raises(ValueError, match="must be"):
            tiny_codec.encode(recording, **wrong)

    def test_a_stage_keeps_no_more_than_its_context(self):
        stage = Stage(lambda network, x: x, Context(3, 2), chunk_frames=4)
        for _ in range(50):
            stage.push(None, torch.zeros(1, 1, 10), last=False)
            assert stage.buffer is not None
            assert stage.buffer.shape[-1] <= 3 + 2
            assert stage.buffer.untyped_storage().nbytes() <= 4 * (3 + 2)
