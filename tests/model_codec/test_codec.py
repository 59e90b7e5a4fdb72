"""What `encode`, `decode` and `forward` promise, on a small codec."""

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
