"""A push costs its own frames."""

import pytest

from tests.streams.pushes import HOP, ONE_PASS, arithmetic, pushed


class TestPushes:
    """A push costs its own frames."""

    @pytest.mark.parametrize("n_frames", [1, 2, 5])
    @pytest.mark.parametrize("n", [1, 6])
    def test_encoding_costs_at_most_half_more_than_one_pass(self, tiny_codec, recording, n_frames, n):
        tiny_codec.encode(recording[..., :HOP])  # makes the form
        once = arithmetic(lambda: tiny_codec.encode(recording, n_quantizers=n, chunk_seconds=ONE_PASS))
        stream = tiny_codec.stream_encoder(n_quantizers=n)
        assert arithmetic(lambda: pushed(stream, recording, n_frames * HOP)) <= 1.5 * once

    @pytest.mark.parametrize("n_frames", [1, 2, 5])
    def test_decoding_costs_at_most_half_more_than_one_pass(self, tiny_codec, recording, n_frames):
        codes = tiny_codec.encode(recording)[..., :150]
        once = arithmetic(lambda: tiny_codec.decode(codes, chunk_seconds=ONE_PASS))
        stream = tiny_codec.stream_decoder()
        assert arithmetic(lambda: pushed(stream, codes, n_frames)) <= 1.5 * once

    @pytest.mark.parametrize("look_ahead_ms", [None, 15])
    def test_what_is_kept_does_not_grow(self, tiny_codec, recording, look_ahead_ms):
        def kept(stream):
            return sum(each.values.untyped_storage().nbytes() for each in stream.state.values())

        codes = tiny_codec.encode(recording)
        encoder = tiny_codec.stream_encoder(look_ahead_ms=look_ahead_ms)
        decoder = tiny_codec.stream_decoder(look_ahead_ms=look_ahead_ms)
        sizes = []
        for i in range(0, 100, 2):
            encoder.push(recording[..., i * HOP : (i + 2) * HOP])
            decoder.push(codes[..., i : i + 2])
            sizes.append((kept(encoder), kept(decoder)))
        assert len(set(sizes[25:])) == 1
