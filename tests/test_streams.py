"""Cutting changes nothing: codes and samples in pieces are those of one pass over the whole."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from esdcodec import ESDCodec
from esdcodec.audio import resample
from esdcodec.model_codec.chunking import Stage, decoding, encoding
from esdcodec.model_codec.receptive_field import Context, context, receptive_field, receptive_field_of_decoder
from tests.conftest import TINY, speech

HOP = 120
SETTINGS = settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
ONE_PASS = 1e4  # seconds


@pytest.fixture(scope="module")
def recording():
    return torch.cat([speech(1.0), speech(0.7, seed=1), torch.zeros(1, 1, 6000), speech(0.8, seed=2)], dim=-1)


class TestReceptiveField:
    """What the layers say is what a NaN in their input touches, no more and no less."""

    @staticmethod
    def touched(network, n_frames, shape, per_frame_out):
        """Frames of output that become NaN by frame `n_frames // 2` of input."""
        inputs = torch.zeros(shape)
        unit = shape[-1] // n_frames
        middle = n_frames // 2
        inputs[..., middle * unit : (middle + 1) * unit] = torch.nan
        with torch.no_grad():
            output = network(inputs)
        frames = torch.isnan(output).flatten(0, 1).any(0).view(-1, per_frame_out).any(1).nonzero()[:, 0]
        return Context(left=int(frames[-1]) - middle, right=middle - int(frames[0]))

    def test_encoder(self, tiny_codec):
        measured = self.touched(tiny_codec.encoder, 61, (1, 1, 61 * HOP), 1)
        assert context(receptive_field(tiny_codec.encoder, (0, 0)), HOP) == measured

    def test_semantic_decoder(self, tiny_codec):
        measured = self.touched(tiny_codec.semantic_decoder, 41, (1, 32, 41), 1)
        assert context(receptive_field(tiny_codec.semantic_decoder, (0, 0))) == measured == Context(6, 6)

    def test_condition_network(self, tiny_codec):
        hop = tiny_codec.subband_hop_length
        measured = self.touched(lambda x: tiny_codec.condition_network(x)[0], 61, (1, 32, 61), hop)
        assert context(receptive_field(tiny_codec.condition_network, (0, hop - 1))) == measured

    def test_decoder(self, tiny_codec):
        hop = tiny_codec.subband_hop_length
        latent, subband = receptive_field_of_decoder(tiny_codec.decoder, (0, HOP - 1))
        n = 61
        by_latent = self.touched(lambda x: tiny_codec.decoder(x, torch.zeros(1, 1, n * hop)), n, (1, 32, n), HOP)
        by_subband = self.touched(lambda x: tiny_codec.decoder(torch.zeros(1, 32, n), x), n, (1, 1, n * hop), HOP)
        assert context(latent) == by_latent
        assert context(subband, hop) == by_subband

    def test_published_size(self):
        with torch.device("meta"):
            codec = ESDCodec()
        contexts = [
            s.context for p in (encoding(codec, 3, chunk_frames=1), decoding(codec, chunk_frames=1)) for s in p.stages
        ]
        assert contexts == [(8, 8), (12, 12), (12, 12), (24, 24), (10, 10)]

    def test_an_unknown_layer_is_refused(self):
        with pytest.raises(TypeError, match="register it"):
            receptive_field(nn.Sequential(nn.LSTM(1, 1)), (0, 0))


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


class TestStreams:
    @SETTINGS
    @given(
        length=st.integers(1, 12000),
        sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=9),
        n=st.sampled_from([1, 3]),
    )
    def test_encoder(self, tiny_codec, recording, length, sizes, n):
        audio, place, pieces = recording[..., :length], 0, []
        stream = tiny_codec.stream_encoder(n_quantizers=n)
        for size in sizes * length:
            pieces.append(stream.push(audio[..., place : place + size]))
            place += size
            known = min(place, length) // HOP - stream.look_ahead_ms * tiny_codec.frame_rate / 1000
            assert sum(p.shape[-1] for p in pieces) == max(0, round(known))  # as soon as the context allows
            if place >= length:
                break
        pieces.append(stream.finish())
        codes, whole = torch.cat(pieces, dim=-1), tiny_codec.encode(audio, n_quantizers=n)
        assert codes.shape == whole.shape
        assert (codes != whole).sum() <= 0.001 * codes.numel()

    @SETTINGS
    @given(n_frames=st.integers(1, 120), sizes=st.lists(st.integers(1, 60), min_size=1, max_size=9))
    def test_decoder(self, tiny_codec, recording, n_frames, sizes):
        codes, place, pieces = tiny_codec.encode(recording)[..., :n_frames], 0, []
        stream = tiny_codec.stream_decoder()
        for size in sizes * n_frames:
            pieces.append(stream.push(codes[..., place : place + size]))
            place += size
            if place >= n_frames:
                break
        pieces.append(stream.finish())
        torch.testing.assert_close(torch.cat(pieces, dim=-1), tiny_codec.decode(codes), rtol=0, atol=1e-4)

    def test_look_ahead(self, tiny_codec):
        assert tiny_codec.stream_encoder(n_quantizers=1).look_ahead_ms == 13 * 5
        assert tiny_codec.stream_encoder().look_ahead_ms == (13 + 6) * 5
        assert tiny_codec.stream_decoder().look_ahead_ms == (6 + 12 + 15) * 5

    @pytest.mark.parametrize("rate", [8000, 16000, 44100])
    def test_other_rates_are_resampled_as_they_come(self, tiny_codec, recording, rate):
        audio = resample(recording[0, 0].numpy(), 24000, rate)
        stream = tiny_codec.stream_encoder(rate)
        pieces = [stream.push(audio[i : i + 3000]) for i in range(0, len(audio), 3000)]
        codes, whole = torch.cat([*pieces, stream.finish()], dim=-1), tiny_codec.encode(audio, rate)
        assert codes.shape == whole.shape
        assert (codes == whole).float().mean() >= 0.999

    def test_misuse_is_told(self, tiny_codec, recording):
        stream = tiny_codec.stream_encoder()
        with pytest.raises(ValueError, match="nothing was pushed"):
            stream.finish()
        stream.push(recording)
        with pytest.raises(ValueError, match="2 items"):
            stream.push(recording.repeat(2, 1, 1))
        stream.finish()
        with pytest.raises(ValueError, match="finished"):
            stream.push(recording)
        decoder = tiny_codec.stream_decoder()
        codes = tiny_codec.encode(recording)
        decoder.push(codes[..., :5])
        with pytest.raises(ValueError, match="in this piece"):
            decoder.push(codes[:, :2, 5:])
        with pytest.raises(ValueError, match="not one of 0 to"):
            decoder.push(codes + TINY["semantic_codebook_size"])
