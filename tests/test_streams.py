"""Cutting changes nothing: codes and samples in pieces are those of one pass over the whole."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import esdcodec
from esdcodec import ESDCodec
from esdcodec.audio import resample
from esdcodec.model_codec.chunking import Stage, decoding, encoding, framed, unframed
from esdcodec.model_codec.look_ahead import DECODER_WEIGHTS, ENCODER_WEIGHTS, spread
from esdcodec.model_codec.receptive_field import Context, context, receptive_field, receptive_field_of_decoder
from esdcodec.streams import push_together
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


def arithmetic(function):
    """Floating-point operations of the products and convolutions in a call."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def pushed(stream, whole, size):
    """All that a stream gives for `whole`, in pieces of `size`."""
    return torch.cat([*(stream.push(piece) for piece in whole.split(size, dim=-1)), stream.finish()], dim=-1)


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


class TestLookAhead:
    """A smaller look-ahead gives what a network gives that hears no more, whatever the pieces."""

    @pytest.mark.parametrize("n_frames", [0, 1, 3, 8])
    @pytest.mark.parametrize("n", [1, 3])
    def test_encoder(self, tiny_codec, recording, n_frames, n):
        audio = recording[..., : 50 * HOP]
        stream = tiny_codec.stream_encoder(n_quantizers=n, look_ahead_ms=n_frames * 5)
        assert stream.look_ahead_ms == n_frames * 5
        reference = encoding(tiny_codec, n, chunk_frames=1, look_aheads=stream.look_aheads)
        with torch.no_grad():
            expected = reference.run(tiny_codec.inference_form(), framed(audio, HOP))
        codes = pushed(stream, audio, 333)
        assert codes.shape == expected.shape
        assert (codes == expected).float().mean() >= 0.999

    @pytest.mark.parametrize("n_frames", [0, 1, 3, 7, 18, 29])
    def test_decoder(self, tiny_codec, recording, n_frames):
        codes = tiny_codec.encode(recording)[..., :40]
        stream = tiny_codec.stream_decoder(look_ahead_ms=n_frames * 5)
        reference = decoding(tiny_codec, chunk_frames=1, look_aheads=stream.look_aheads)
        with torch.no_grad():
            expected = unframed(reference.run(tiny_codec.inference_form(), codes))
        for size in (1, 7):
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

    def test_it_costs_less_than_windows(self, tiny_codec, recording):
        codes = tiny_codec.encode(recording)[..., :100]
        stream = tiny_codec.stream_decoder(look_ahead_ms=15)
        cost = arithmetic(lambda: pushed(stream, codes, 1))
        reference = decoding(tiny_codec, chunk_frames=1, look_aheads=stream.look_aheads)
        with torch.no_grad():
            assert cost < arithmetic(lambda: reference.run(tiny_codec.inference_form(), codes))

    @pytest.mark.parametrize(
        ("n_frames", "expected"), [(1, (0, 1, 0)), (3, (1, 1, 1)), (7, (2, 3, 2)), (18, (6, 8, 4)), (99, (9, 24, 10))]
    )
    def test_it_is_spread_as_measured(self, n_frames, expected):
        assert spread(n_frames, DECODER_WEIGHTS, (9, 24, 10)) == expected

    def test_every_frame_of_it_is_spread(self):
        for n in range(20):
            assert sum(spread(n, ENCODER_WEIGHTS, (8, 12))) == n

    @pytest.mark.parametrize("wrong", [-1, float("nan")])
    def test_nonsense_is_refused(self, tiny_codec, wrong):
        with pytest.raises(ValueError, match="must be 0 or more"):
            tiny_codec.stream_encoder(look_ahead_ms=wrong)


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

    def test_they_go_through_the_network_as_one_batch(self, tiny_codec, recording):
        codes = tiny_codec.encode(recording)
        streams = [tiny_codec.stream_decoder() for _ in range(3)]
        for i in range(40):
            push_together(streams, [codes[..., 2 * i : 2 * i + 2]] * 3)
        batches = []
        coder = streams[0].coder
        streams[0]._made = (streams[0]._made[0], lambda x, *rest: (batches.append(x.shape[0]), coder(x, *rest))[1])
        push_together(streams, [codes[..., 80:82]] * 3)
        assert batches == [3]

    def test_one_piece_for_each(self, tiny_codec, recording):
        stream = tiny_codec.stream_encoder()
        with pytest.raises(ValueError, match="one for each"):
            push_together([stream, stream], [recording, recording])
