"""What users pass is taken as meant, or refused with advice."""

import warnings

import numpy as np
import pytest
import torch

from esdcodec import ESDCodec
from tests.conftest import TINY, speech

HOP = 120


@pytest.mark.parametrize("name", ["acoustic_codebooks", "semantic_blocks", "condition_blocks"])
@pytest.mark.parametrize("value", [10**9, -1, 2.0, None, "4"])
def test_sizes_are_checked_before_anything_is_built(name, value):
    with pytest.raises(ValueError, match=f"{name}.*must be a whole number of at least [01] and at most 1000"):
        ESDCodec(**{**TINY, name: value})


@pytest.mark.parametrize("value", [0, -1, 10**30, 24000.5, True, "24000", float("nan")])
def test_the_sample_rate_is_one_that_recordings_have(value):
    with pytest.raises(ValueError, match=r"sample_rate=.*must be a whole number of at least 1 and at most 1000000"):
        ESDCodec(**{**TINY, "sample_rate": value})


@pytest.mark.parametrize("rates", [[], [-1, 120], [0, 120], [2.0, 60], [True, 120], "2345", [1] * 1001, None])
def test_strides_are_positive_whole_numbers(rates):
    with pytest.raises(
        ValueError, match=r"encoder_rates.* must be (a list of 1 to 1000 strides|positive whole numbers)"
    ):
        ESDCodec(**{**TINY, "encoder_rates": rates})


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
        read_only = np.frombuffer(array.tobytes(), np.float32)  # torch warns of such
        for same in (array[::-1].copy()[::-1], array.astype(">f4"), array.tolist(), read_only):
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
