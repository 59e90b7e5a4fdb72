"""A push costs its own frames: nothing that is final is computed twice, and nothing that is never needed."""

import pytest
import torch

from esdcodec.evaluation.arithmetic import flops_of
from esdcodec.model_codec.chunking import decoding
from tests.streams.pushes import HOP, ONE_PASS, pushed


class TestPushes:
    """A push costs its own frames."""

    @pytest.mark.parametrize("n_frames", [1, 5])
    @pytest.mark.parametrize("n", [1, 6])
    def test_encoding_costs_one_pass(self, tiny_codec, recording, n_frames, n):
        audio = recording[..., : 60 * HOP]
        tiny_codec.encode(audio)  # makes the form
        once = flops_of(lambda: tiny_codec.encode(audio, n_quantizers=n, chunk_seconds=ONE_PASS))
        stream = tiny_codec.stream_encoder(n_quantizers=n)
        assert flops_of(lambda: pushed(stream, audio, n_frames * HOP)) <= 1.05 * once

    @pytest.mark.parametrize("n_frames", [1, 5])
    def test_decoding_costs_one_pass(self, tiny_codec, recording, n_frames):
        codes = tiny_codec.encode(recording)[..., :60]
        once = flops_of(lambda: tiny_codec.decode(codes, chunk_seconds=ONE_PASS))
        stream = tiny_codec.stream_decoder()
        assert flops_of(lambda: pushed(stream, codes, n_frames)) <= 1.05 * once

    @pytest.mark.parametrize("look_ahead_ms", [0, 15])
    def test_a_smaller_look_ahead_costs_a_fourth_of_windows_however_pieces_are_cut(
        self, tiny_codec, recording, look_ahead_ms
    ):
        codes = tiny_codec.encode(recording)[..., :40]
        stream = tiny_codec.stream_decoder(look_ahead_ms=look_ahead_ms)
        cost = flops_of(lambda: pushed(stream, codes, 1))
        reference = decoding(tiny_codec, chunk_frames=1, look_aheads=list(stream.look_aheads.values()))
        with torch.no_grad():
            assert cost < 0.3 * flops_of(lambda: reference.run(tiny_codec.inference_form(), codes))
        assert flops_of(lambda: pushed(tiny_codec.stream_decoder(look_ahead_ms=look_ahead_ms), codes, 7)) == cost

    @pytest.mark.parametrize("look_ahead_ms", [None, 15])
    def test_what_is_kept_does_not_grow(self, tiny_codec, recording, look_ahead_ms):
        def kept(stream):
            return sum(each.values.untyped_storage().nbytes() for each in stream.state.kept.values())

        codes = tiny_codec.encode(recording)
        encoder = tiny_codec.stream_encoder(look_ahead_ms=look_ahead_ms)
        decoder = tiny_codec.stream_decoder(look_ahead_ms=look_ahead_ms)
        sizes = []
        for i in range(0, 100, 2):
            encoder.push(recording[..., i * HOP : (i + 2) * HOP])
            decoder.push(codes[..., i : i + 2])
            sizes.append((kept(encoder), kept(decoder)))
        assert len(set(sizes[25:])) == 1
