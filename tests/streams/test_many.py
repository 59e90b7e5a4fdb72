"""Streams that are pushed together get what each gets alone, whenever it joins and leaves."""

import pytest
import torch

from esdcodec.streams import push_together
from tests.streams.pushes import HOP, pushed


class TestManyStreams:
    """Streams that are pushed together get what each gets alone, whenever it joins and leaves."""

    @pytest.mark.parametrize("look_ahead_ms", [None, 15])
    @pytest.mark.parametrize("decode", [False, True], ids=["encoders", "decoders"])
    def test_each_gets_its_own_values(self, tiny_codec, recording, decode, look_ahead_ms):
        inputs = [recording[..., 3000 * i :][..., : 60 * HOP] for i in range(4)]
        make = tiny_codec.stream_encoder
        if decode:
            inputs, make = [tiny_codec.encode(audio) for audio in inputs], tiny_codec.stream_decoder
        unit = 2 if decode else 2 * HOP
        begins, given = [0, 0, 3, 11], [[] for _ in inputs]
        streams = [make(look_ahead_ms=look_ahead_ms) for _ in inputs]
        for step in range(60):
            there = [i for i, b in enumerate(begins) if 0 <= (step - b) * unit < inputs[i].shape[-1]]
            if not there:
                break
            pieces = [inputs[i][..., (step - begins[i]) * unit : (step - begins[i] + 1) * unit] for i in there]
            for i, output in zip(there, push_together([streams[i] for i in there], pieces)):
                given[i].append(output)
                if (step - begins[i] + 1) * unit >= inputs[i].shape[-1]:
                    given[i].append(streams[i].finish())
        for pieces, own in zip(given, inputs):
            alone = pushed(make(look_ahead_ms=look_ahead_ms), own, unit)
            together = torch.cat(pieces, dim=-1)
            assert together.shape == alone.shape
            if decode:
                torch.testing.assert_close(together, alone, rtol=0, atol=1e-4)
            else:
                assert (together == alone).float().mean() >= 0.999

    def test_they_go_through_the_network_as_one_batch(self, tiny_codec, recording, monkeypatch):
        codes = tiny_codec.encode(recording)
        streams = [tiny_codec.stream_decoder() for _ in range(3)]
        for i in range(40):
            push_together(streams, [codes[..., 2 * i : 2 * i + 2]] * 3)
        batches, steps = [], type(streams[0].coder)
        run = steps.__call__
        monkeypatch.setattr(
            steps, "__call__", lambda self, x, *rest: (batches.append(x.shape[0]), run(self, x, *rest))[1]
        )
        push_together(streams, [codes[..., 80:82]] * 3)
        assert batches == [3]

    def test_one_piece_for_each(self, tiny_codec, recording):
        stream = tiny_codec.stream_encoder()
        with pytest.raises(ValueError, match="one for each"):
            push_together([stream, stream], [recording, recording])

    @pytest.mark.parametrize("decode", [False, True], ids=["encoders", "decoders"])
    def test_a_piece_that_is_none_costs_the_others_nothing(self, tiny_codec, recording, decode):
        make, piece = tiny_codec.stream_encoder, recording[..., : 3 * HOP + 5]
        if decode:
            make, piece = tiny_codec.stream_decoder, tiny_codec.encode(piece)
        good, other = make(look_ahead_ms=0), make(look_ahead_ms=0)
        with pytest.raises(ValueError, match=r"NaN|codes"):
            push_together([good, other], [piece, piece * (10**6 if decode else float("nan"))])
        alone = make(look_ahead_ms=0)
        assert torch.equal(good.push(piece), alone.push(piece))
        assert torch.equal(good.finish(), alone.finish())
