"""Streams give the values of one pass over the whole, however the pieces are cut."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import esdcodec
from esdcodec.audio import resample
from tests.conftest import TINY, speech
from tests.streams.pushes import HOP, pushed

SETTINGS = settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])


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
        assert tiny_codec.stream_decoder().look_ahead_ms == 30 * 5  # in whole steps it would be 6 + 12 + 15

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

    def test_what_an_encoder_does_not_give_yet_is_nothing_to_decode(self, tiny_codec, recording):
        encoder, decoder = tiny_codec.stream_encoder(), tiny_codec.stream_decoder()
        parts = [decoder.push(encoder.push(piece)) for piece in recording[..., :6000].split(500, dim=-1)]
        parts += [decoder.push(encoder.finish()), decoder.finish()]
        expected = tiny_codec.decode(tiny_codec.encode(recording[..., :6000]))
        torch.testing.assert_close(torch.cat(parts, dim=-1), expected, rtol=0, atol=1e-4)


class TestModels:
    """Of other weights, dtypes and parts."""

    def test_the_bundled_model(self):
        codec = esdcodec.load(device="cpu")
        audio = speech(0.5)[..., : 12 * 960 - 100]
        codes = codec.encode(audio, n_quantizers=3)
        assert torch.equal(pushed(codec.stream_encoder(n_quantizers=3), audio, 1700), codes)
        torch.testing.assert_close(pushed(codec.stream_decoder(), codes, 5), codec.decode(codes), rtol=0, atol=1e-4)

    @pytest.mark.slow
    def test_published_size(self, published_codec):
        audio = speech(2.0)
        codes = published_codec.encode(audio, n_quantizers=3)
        streamed = pushed(published_codec.stream_encoder(n_quantizers=3), audio, 4800)
        assert (streamed == codes).float().mean() >= 0.999
        decoded = pushed(published_codec.stream_decoder(), codes, 5)
        torch.testing.assert_close(decoded, published_codec.decode(codes), rtol=0, atol=1e-4)

    def test_weights_that_change_are_used_from_the_next_push_on(self, tiny_codec, recording):
        codes = tiny_codec.encode(recording)
        stream = tiny_codec.stream_decoder()
        first = stream.push(codes[..., :40])
        before = tiny_codec.decode(codes)
        with torch.no_grad():
            tiny_codec.decoder.conv_out.weight_g.mul_(0.5)
        second = stream.push(codes[..., 40:80])
        whole = torch.cat([first, second], dim=-1)
        n = first.shape[-1]
        torch.testing.assert_close(whole[..., :n], before[..., :n], rtol=0, atol=1e-4)
        torch.testing.assert_close(
            whole[..., n:], tiny_codec.decode(codes)[..., n : whole.shape[-1]], rtol=0, atol=1e-4
        )

    @pytest.mark.parametrize("look_ahead_ms", [None, 15])
    def test_a_network_with_hooks_is_streamed_by_windows(self, tiny_codec, recording, look_ahead_ms):
        codes = tiny_codec.encode(recording)[..., :60]
        expected = pushed(tiny_codec.stream_decoder(look_ahead_ms=look_ahead_ms), codes, 7)
        calls = []
        tiny_codec.decoder.conv_in.register_forward_hook(lambda *_: calls.append(1))
        decoded = pushed(tiny_codec.stream_decoder(look_ahead_ms=look_ahead_ms), codes, 7)
        torch.testing.assert_close(decoded, expected, rtol=0, atol=1e-4)
        assert calls

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
    def test_other_dtypes(self, tiny_codec, recording, dtype):
        codec, audio = tiny_codec.to(dtype), recording[..., :6000]
        codes = codec.encode(audio)
        streamed = pushed(codec.stream_encoder(), audio, 700)
        assert (streamed == codes).float().mean() > (0.8 if dtype == torch.bfloat16 else 0.999)
        tolerance = 0.2 if dtype == torch.bfloat16 else 1e-5
        torch.testing.assert_close(
            pushed(codec.stream_decoder(), codes, 3), codec.decode(codes), rtol=0, atol=tolerance
        )
