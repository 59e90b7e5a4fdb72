"""A smaller look-ahead gives what a network gives that hears no more, whatever the pieces."""

import pytest
import torch

from esdcodec.model_codec.chunking import decoding, encoding, framed, unframed
from esdcodec.model_codec.look_ahead import DECODER_WEIGHTS, ENCODER_WEIGHTS, spread
from tests.streams.pushes import HOP, pushed, random_sizes


class TestLookAhead:
    """A smaller look-ahead gives what a network gives that hears no more, whatever the pieces."""

    @pytest.mark.parametrize("n_frames", [0, 1, 3, 8])
    @pytest.mark.parametrize("n", [1, 3])
    def test_encoder(self, tiny_codec, recording, n_frames, n):
        audio = recording[..., : 50 * HOP]
        stream = tiny_codec.stream_encoder(n_quantizers=n, look_ahead_ms=n_frames * 5)
        assert stream.look_ahead_ms == n_frames * 5
        reference = encoding(tiny_codec, n, chunk_frames=1, look_aheads=list(stream.look_aheads.values()))
        with torch.no_grad():
            expected = reference.run(tiny_codec.inference_form(), framed(audio, HOP))
        for size in (333, random_sizes(audio.shape[-1], 900)):
            codes = pushed(tiny_codec.stream_encoder(n_quantizers=n, look_ahead_ms=n_frames * 5), audio, size)
            assert codes.shape == expected.shape
            assert (codes == expected).float().mean() >= 0.999

    @pytest.mark.parametrize("n_frames", [0, 1, 3, 7, 18, 29])
    def test_decoder(self, tiny_codec, recording, n_frames):
        codes = tiny_codec.encode(recording)[..., :40]
        stream = tiny_codec.stream_decoder(look_ahead_ms=n_frames * 5)
        reference = decoding(tiny_codec, chunk_frames=1, look_aheads=list(stream.look_aheads.values()))
        with torch.no_grad():
            expected = unframed(reference.run(tiny_codec.inference_form(), codes))
        for size in (1, random_sizes(40, 9)):
            stream = tiny_codec.stream_decoder(look_ahead_ms=n_frames * 5)
            torch.testing.assert_close(pushed(stream, codes, size), expected, rtol=0, atol=1e-4)

    def test_a_frame_comes_when_its_look_ahead_is_there(self, tiny_codec, recording):
        codes = tiny_codec.encode(recording)
        stream = tiny_codec.stream_decoder(look_ahead_ms=15)
        given = [stream.push(codes[..., i : i + 1]).shape[-1] // HOP for i in range(8)]
        assert given == [0, 0, 0, 1, 1, 1, 1, 1]

    def test_as_much_as_there_is_to_wait_for_is_exact(self, tiny_codec, recording):
        codes = tiny_codec.encode(recording)[..., :50]
        stream = tiny_codec.stream_decoder(look_ahead_ms=1000)
        assert stream.look_ahead_ms == tiny_codec.stream_decoder().look_ahead_ms
        torch.testing.assert_close(pushed(stream, codes, 9), tiny_codec.decode(codes), rtol=0, atol=1e-4)

    @pytest.mark.parametrize(
        ("n_frames", "expected"), [(1, (0, 1, 0)), (3, (1, 1, 1)), (7, (2, 3, 2)), (18, (6, 8, 4)), (99, (9, 24, 10))]
    )
    def test_it_is_spread_as_measured(self, n_frames, expected):
        most = dict(zip(DECODER_WEIGHTS, (9, 24, 10)))
        assert spread(n_frames, DECODER_WEIGHTS, most) == dict(zip(DECODER_WEIGHTS, expected))

    def test_every_frame_of_it_is_spread(self):
        for n in range(20):
            assert sum(spread(n, ENCODER_WEIGHTS, dict(zip(ENCODER_WEIGHTS, (8, 12)))).values()) == n

    def test_a_stream_says_how_it_is_spread(self, tiny_codec):
        stream = tiny_codec.stream_decoder(look_ahead_ms=7 * 5)
        assert stream.look_aheads == {"semantic decoder": 2, "condition network": 3, "decoder": 2}
        semantic = tiny_codec.stream_encoder(n_quantizers=1, look_ahead_ms=3 * 5)
        assert semantic.look_aheads == {"encoder": 3, "semantic decoder": 0}  # whose acoustic codes nobody wants

    @pytest.mark.parametrize("wrong", [-1, float("nan")])
    def test_nonsense_is_refused(self, tiny_codec, wrong):
        with pytest.raises(ValueError, match="must be 0 or more"):
            tiny_codec.stream_encoder(look_ahead_ms=wrong)
