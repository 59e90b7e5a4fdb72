"""What `encode`, `decode` and `forward` promise, on a small codec."""

import warnings

import numpy as np
import pytest
import torch

from esdcodec import ESDCodec
from tests.conftest import TINY, make_tiny_codec, speech

HOP = 120


@pytest.mark.parametrize("extra", [0, 1, HOP - 1], ids=["whole frames", "one sample over", "one short"])
@pytest.mark.parametrize("n", [1, 3, 6])
def test_decoding_what_was_encoded_is_the_reconstruction(tiny_codec, extra, n):
    audio = speech(0.5)[..., : 40 * HOP + extra].repeat(2, 1, 1)
    with torch.no_grad():
        output = tiny_codec(audio, n)
    codes = tiny_codec.encode(audio, n_quantizers=n)
    assert torch.equal(codes, output.codes[:, :n])
    decoded = tiny_codec.decode(codes, length=audio.shape[-1])
    assert decoded.shape == output.audio.shape == audio.shape
    torch.testing.assert_close(decoded, output.audio, rtol=0, atol=1e-6)


def test_properties(tiny_codec):
    assert tiny_codec.sample_rate == 24000
    assert tiny_codec.hop_length == HOP
    assert tiny_codec.frame_rate == 200
    assert tiny_codec.n_codebooks == 6
    assert tiny_codec.codebook_sizes == (256, 64, 64, 64, 64, 64)
    assert tiny_codec.subband_sample_rate == 12000
    assert [tiny_codec.bitrate(n) for n in (1, 2, 6)] == [1600, 2800, 7600]
    assert tiny_codec.bitrate() == tiny_codec.bitrate(6)
    assert [tiny_codec.num_frames(t) for t in (1, HOP, HOP + 1)] == [1, 1, 2]


def test_published_rates():
    with torch.device("meta"):
        codec = ESDCodec()
    assert (codec.hop_length, codec.frame_rate, codec.n_codebooks) == (960, 25, 12)
    assert [codec.bitrate(n) for n in (1, 2, 3, 12)] == [350, 600, 850, 3100]
    assert codec.subband_sample_rate == 6000


def test_rates_of_encoder_and_decoder_must_agree():
    with pytest.raises(ValueError, match="same product"):
        ESDCodec(**{**TINY, "decoder_rates": [5, 4, 3, 3]})


@pytest.mark.parametrize("name", ["acoustic_codebooks", "semantic_blocks", "condition_blocks"])
@pytest.mark.parametrize("value", [10**9, -1, 2.0, None, "4"])
def test_sizes_are_checked_before_anything_is_built(name, value):
    with pytest.raises(ValueError, match=f"{name}.*must be a whole number of at least [01] and at most 1000"):
        ESDCodec(**{**TINY, name: value})


class TestInput:
    @pytest.mark.parametrize(
        "convert",
        [
            lambda x: x[0, 0],
            lambda x: x[0],
            lambda x: x[0, 0].numpy(),
            lambda x: x.double(),
            lambda x: x[0].numpy().astype(np.float64),
        ],
        ids=["[T]", "[B, T]", "numpy", "float64", "numpy float64"],
    )
    def test_shapes_and_dtypes(self, tiny_codec, convert):
        audio = speech(0.2)
        assert torch.equal(tiny_codec.encode(convert(audio)), tiny_codec.encode(audio))

    def test_arrays_of_any_layout(self, tiny_codec):
        audio = speech(0.2)
        expected = tiny_codec.encode(audio)
        array = audio[0, 0].numpy()
        for same in (array[::-1].copy()[::-1], array.astype(">f4"), array.tolist()):
            assert torch.equal(tiny_codec.encode(same), expected)
        codes = expected.numpy()
        assert torch.equal(tiny_codec.decode(codes[:, :, ::-1].copy()[:, :, ::-1]), tiny_codec.decode(expected))
        assert torch.equal(tiny_codec.decode(codes.astype(np.uint16)), tiny_codec.decode(expected))

    def test_float_values_on_the_scale_of_int16_are_warned_of(self, tiny_codec):
        with pytest.warns(UserWarning, match="full scale is 1.0"):
            tiny_codec.encode(speech(0.2) * 32767)
        with pytest.warns(UserWarning, match="full scale is 1.0"):
            tiny_codec.encode((speech(0.2)[0, 0] * 32767).numpy().astype(np.float64))

    @pytest.mark.parametrize("convert", [torch.Tensor.numpy, torch.clone], ids=["numpy", "torch"])
    def test_two_channels_of_one_recording_are_no_batch(self, tiny_codec, convert):
        left = speech(0.2)[0, 0]
        with pytest.warns(UserWarning, match="as channels are"):
            tiny_codec.encode(convert(torch.stack([left, 0.7 * left + 0.01 * torch.randn(len(left))])))

    def test_what_may_be_meant_is_not_warned_of(self, tiny_codec):
        left = speech(0.2)[0, 0]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tiny_codec.encode(3 * left)  # overdriven
            tiny_codec.encode((left * 32767).to(torch.int16))
            tiny_codec.encode(torch.stack([left, speech(0.2, seed=1)[0, 0]]))  # two recordings
            tiny_codec.encode(torch.stack([left, left])[:, None])  # said to be a batch
            tiny_codec.encode(torch.zeros(2, 4800))

    def test_int16_is_full_scale_32768(self, tiny_codec):
        pcm = (speech(0.2) * 32768).round().to(torch.int16)
        assert torch.equal(tiny_codec.encode(pcm), tiny_codec.encode(pcm.float() / 32768))
        assert torch.equal(tiny_codec.encode(pcm.numpy()), tiny_codec.encode(pcm))

    def test_half_precision_audio(self, tiny_codec):
        audio = speech(0.2).half()
        assert torch.equal(tiny_codec.encode(audio), tiny_codec.encode(audio.float()))

    def test_other_rates_are_resampled(self, tiny_codec):
        audio = speech(0.5, sample_rate=16000)
        codes = tiny_codec.encode(audio, 16000)
        assert codes.shape[-1] == tiny_codec.num_frames(12000)
        alone = tiny_codec.encode(speech(0.5))
        assert (codes[:, 0] == alone[:, 0]).float().mean() > 0.2  # not the same noise, but the same speech
        assert torch.equal(tiny_codec.encode(audio, 24000), tiny_codec.encode(audio))

    @pytest.mark.parametrize(
        "audio",
        [
            torch.zeros(1, 1, 2400),
            torch.zeros(1, 1, 1),
            torch.full((1, 1, 500), 0.7),
            3 * speech(0.1),
        ],
        ids=["silence", "one sample", "DC", "clipped"],
    )
    def test_unusual_signals_work(self, tiny_codec, audio):
        codes = tiny_codec.encode(audio)
        decoded = tiny_codec.decode(codes, length=audio.shape[-1])
        assert decoded.shape == audio.shape
        assert torch.isfinite(decoded).all()

    @pytest.mark.parametrize(
        ("audio", "message"),
        [
            (torch.zeros(0), "empty"),
            (torch.zeros(2, 1, 0), "empty"),
            (torch.zeros(2, 2, 100), "mix down"),
            (np.zeros((300, 2)), r"looks like \[T, channels\]"),
            (torch.zeros(1, 1, 1, 100), r"\[T\], \[B, T\] or \[B, 1, T\]"),
            (torch.tensor(0.0), r"\[T\], \[B, T\] or \[B, 1, T\]"),
            (torch.tensor([0.0, float("nan")]), "NaN"),
            (torch.tensor([0.0, float("inf")]), "infinite"),
            (torch.zeros(100, dtype=torch.int32), "int16"),
            (torch.zeros(100, dtype=torch.complex64), "int16"),
            (torch.zeros(100, device="meta"), "move one of them"),
            ("speech.wav", "torch tensor or an array of numbers"),
            (None, "torch tensor or an array of numbers"),
        ],
        ids=[
            "empty",
            "empty batch",
            "stereo",
            "stereo file",
            "rank 4",
            "rank 0",
            "NaN",
            "inf",
            "int32",
            "complex",
            "device",
            "str",
            "None",
        ],
    )
    def test_bad_audio_is_refused_with_advice(self, tiny_codec, audio, message):
        with pytest.raises(ValueError, match=message):
            tiny_codec.encode(audio)

    @pytest.mark.parametrize("n", [0, 7, -1, 2.5, "3"])
    def test_bad_n_quantizers(self, tiny_codec, n):
        with pytest.raises(ValueError, match="1 to 6 codebooks"):
            tiny_codec.encode(speech(0.1), n_quantizers=n)
        with pytest.raises(ValueError, match="1 to 6 codebooks"):
            tiny_codec.bitrate(n)

    @pytest.mark.parametrize("rate", [0, -1, float("nan"), 16000.0, "16000"])
    def test_bad_sample_rate(self, tiny_codec, rate):
        with pytest.raises(ValueError, match="positive whole number"):
            tiny_codec.encode(speech(0.1), rate)

    @pytest.mark.parametrize(
        ("codes", "message"),
        [
            (torch.zeros(1, 2, 0, dtype=torch.long), "not empty"),
            (torch.zeros(2, 5, dtype=torch.long), r"\[B, n, L\]"),
            (torch.zeros(1, 7, 5, dtype=torch.long), "1 to 6 codebooks"),
            (torch.zeros(1, 2, 5), "integers"),
            (torch.full((1, 2, 5), 64), "codebook 1, frame 0 is not one of 0 to 63"),
            (torch.full((1, 1, 5), -2), "not one of 0 to 255"),
            (torch.tensor([[[-1, 3, 4]]]), "only at the end"),
            (torch.tensor([[[3, -1], [3, 4]]]), "code -1 of item 0, codebook 0, frame 1"),
            (torch.zeros(1, 1, 5, dtype=torch.long, device="meta"), "move one of them"),
            (None, "array of numbers"),
            ("codes", "array of numbers"),
        ],
        ids=[
            "empty",
            "rank",
            "too many",
            "float",
            "too large",
            "negative",
            "gap",
            "partly padding",
            "device",
            "None",
            "str",
        ],
    )
    def test_bad_codes_are_refused_with_advice(self, tiny_codec, codes, message):
        with pytest.raises(ValueError, match=message):
            tiny_codec.decode(codes)

    @pytest.mark.parametrize("length", [0, 601, -5, 2.5, "3"])
    def test_bad_length(self, tiny_codec, length):
        with pytest.raises(ValueError, match="1 to 600 samples"):
            tiny_codec.decode(torch.zeros(1, 1, 5, dtype=torch.long), length=length)

    @pytest.mark.parametrize("lengths", [[100], [100, 0], [100, 2401], [1, 2, 3], 100, [100, 50.5], torch.tensor(100)])
    def test_bad_lengths(self, tiny_codec, lengths):
        with pytest.raises(ValueError, match="2 numbers of samples from 1 to 2400"):
            tiny_codec.encode(speech(0.1).repeat(2, 1, 1), lengths=lengths)


class TestRaggedBatch:
    LENGTHS = (6000, 1, 4 * HOP, 4 * HOP - 1, 5999, 6000)

    @pytest.fixture
    def audio(self):
        return torch.cat([speech(0.25, seed=i) for i in range(len(self.LENGTHS))])

    @pytest.mark.parametrize("as_tensor", [False, True])
    def test_each_item_gets_the_codes_it_gets_alone(self, tiny_codec, audio, as_tensor):
        lengths = torch.tensor(self.LENGTHS) if as_tensor else self.LENGTHS
        codes = tiny_codec.encode(audio, lengths=lengths)
        assert codes.shape == (len(lengths), 6, 50)
        for item, length, got in zip(audio, self.LENGTHS, codes):
            alone = tiny_codec.encode(item[..., :length])[0]
            n_frames = alone.shape[-1]
            assert (got[:, :n_frames] == alone).double().mean() > 0.99
            assert (got[:, n_frames:] == -1).all()

    def test_each_item_is_decoded_as_if_alone(self, tiny_codec, audio):
        codes = tiny_codec.encode(audio, lengths=self.LENGTHS)
        decoded = tiny_codec.decode(codes)
        for got, item_codes, length in zip(decoded, codes, self.LENGTHS):
            n_frames = tiny_codec.num_frames(length)
            alone = tiny_codec.decode(item_codes[None, :, :n_frames])[0]
            torch.testing.assert_close(got[:, : n_frames * HOP], alone, rtol=0, atol=1e-5)
            assert not got[:, n_frames * HOP :].any()

    def test_lengths_count_samples_at_the_rate_of_the_input(self, tiny_codec):
        audio = torch.cat([speech(0.25, seed=i, sample_rate=16000) for i in range(2)])
        codes = tiny_codec.encode(audio, 16000, lengths=[4000, 1600])
        assert (codes[1, 0] != -1).sum() == tiny_codec.num_frames(2400)
        assert torch.equal(codes[1, :, :20], tiny_codec.encode(audio[1:, :, :1600], 16000)[0])

    def test_an_item_that_is_all_padding_is_silence(self, tiny_codec):
        codes = torch.stack([torch.zeros(2, 3), -torch.ones(2, 3)]).long()
        assert not tiny_codec.decode(codes)[1].any()


class TestModes:
    def test_same_input_same_codes(self, tiny_codec):
        audio = speech(0.3)
        codes = tiny_codec.encode(audio)
        assert torch.equal(codes, tiny_codec.encode(audio))
        assert torch.equal(codes, make_tiny_codec().encode(audio))
        assert torch.equal(tiny_codec.decode(codes), tiny_codec.decode(codes))

    def test_the_codes_of_a_codec_depend_on_its_input(self, tiny_codec):
        assert len(tiny_codec.encode(speech(0.5))[0, 0].unique()) > 10

    def test_codes_can_be_used_in_training_something_else(self, tiny_codec):
        codes = tiny_codec.encode(speech(0.1))
        embedding = torch.nn.Embedding(256, 4)
        embedding(codes[:, 0]).sum().backward()
        assert embedding.weight.grad is not None

    def test_training_after_encoding_after_training(self, tiny_codec):
        """Going back and forth changes nothing: one step, with and without an encode before it, gives the same."""
        audio = speech(0.2)
        results = []
        for encode_before in (False, True):
            codec = make_tiny_codec()
            if encode_before:
                codec.decode(codec.encode(audio))
            codec.train()
            optimizer = torch.optim.AdamW([p for p in codec.parameters() if p.requires_grad], lr=1e-2)
            output = codec(audio)
            (output.audio.square().mean() + sum(output.losses.values())).backward()
            optimizer.step()
            results.append(codec.eval().decode(codec.encode(audio)))
        torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
        assert not torch.equal(results[0], tiny_codec.decode(tiny_codec.encode(audio)))

    @pytest.mark.parametrize("continuous", [False, True])
    def test_every_trained_parameter_gets_a_gradient(self, tiny_codec, continuous):
        """Data-parallel training waits for all of them."""
        output = tiny_codec.train()(speech(0.3).repeat(2, 1, 1), continuous=continuous)
        (output.audio.square().mean() + output.subband.square().mean() + sum(output.losses.values())).backward()
        without = [name for name, p in tiny_codec.named_parameters() if p.requires_grad and p.grad is None]
        assert without == []

    def test_items_may_use_different_numbers_of_codebooks(self, tiny_codec):
        audio = torch.cat([speech(0.3, seed=i) for i in range(3)])
        with torch.no_grad():
            mixed = tiny_codec(audio, torch.tensor([1, 3, 6])).audio
            for i, n in enumerate((1, 3, 6)):
                torch.testing.assert_close(mixed[i : i + 1], tiny_codec(audio[i : i + 1], n).audio, rtol=0, atol=1e-5)

    def test_half_precision_keeps_the_quantizers_in_float32(self, tiny_codec):
        codebook = tiny_codec.semantic_quantizer.codebook.clone()
        latent, codes = torch.randn(1, 32, 50), tiny_codec.encode(speech(0.5))
        expected, decoded = tiny_codec.quantize(latent, 1), tiny_codec.decode(codes)
        tiny_codec.to(torch.bfloat16)
        assert tiny_codec.dtype == torch.bfloat16
        assert torch.equal(tiny_codec.semantic_quantizer.codebook, codebook)
        assert {p.dtype for p in tiny_codec.acoustic_quantizer.parameters()} == {torch.float32}
        assert {p.dtype for p in tiny_codec.condition_network.head.parameters()} == {torch.float32}
        assert torch.equal(tiny_codec.quantize(latent, 1), expected)
        assert tiny_codec.encode(speech(0.5)).shape == codes.shape
        half = tiny_codec.decode(codes)
        assert half.dtype == torch.float32
        assert (half - decoded).square().mean() < 1e-2 * decoded.square().mean()

    def test_double_works_too(self, tiny_codec):
        codes = tiny_codec.encode(speech(0.3))
        tiny_codec.double()
        assert (tiny_codec.encode(speech(0.3)) == codes).double().mean() > 0.8
        assert tiny_codec.decode(codes).dtype == torch.float32

    def test_autocast_leaves_the_quantizers_in_float32(self, tiny_codec):
        latent = torch.randn(1, 32, 50)
        expected = tiny_codec.quantize(latent, 1)
        tiny_codec.train().eval()  # nothing computed outside is left
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            assert torch.equal(tiny_codec.quantize(latent, 1), expected)
            assert tiny_codec.dequantize(expected).dtype == torch.float32
            output = tiny_codec(speech(0.5))
        assert output.subband.dtype == output.subband_magnitude.dtype == torch.float32
        assert output.semantic_latent.dtype == torch.float32
        assert all(loss.dtype == torch.float32 for loss in output.losses.values())


class TestConditionNetwork:
    def test_magnitude_is_clipped_and_its_gradient_stays_finite(self, tiny_codec):
        head = tiny_codec.condition_network.head
        with torch.no_grad():
            head.log_magnitude.weight_g.fill_(1e4)  # exp would overflow
        x = torch.randn(1, 16, 4, requires_grad=True)
        magnitude, _ = head(x)
        magnitude.sum().backward()
        assert magnitude.max().item() == pytest.approx(100)
        assert torch.isfinite(x.grad).all()

    def test_inverse_stft_inverts(self, tiny_codec):
        istft = tiny_codec.condition_network.istft
        hop = istft.hop_length
        signal = torch.randn(1, 40 * hop)
        pad = (istft.n_fft - hop) // 2
        framed = torch.nn.functional.pad(signal, (pad, pad)).unfold(-1, istft.n_fft, hop) * istft.window(signal.device)
        spectrum = torch.fft.rfft(framed).transpose(1, 2)
        restored = istft(spectrum.abs(), spectrum.angle())
        torch.testing.assert_close(restored[:, 0], signal, rtol=0, atol=1e-4)

    def test_one_frame(self, tiny_codec):
        subband, _ = tiny_codec.condition_network(torch.randn(1, 32, 1))
        assert subband.shape == (1, 1, 60)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_codes_on_a_gpu_are_those_on_the_cpu(tiny_codec):
    audio = speech(1.0)
    on_cpu = tiny_codec.encode(audio)
    tiny_codec.cuda()
    with pytest.raises(ValueError, match="move one of them"):
        tiny_codec.encode(audio)
    assert (tiny_codec.encode(audio.cuda()).cpu() == on_cpu).float().mean() > 0.98
