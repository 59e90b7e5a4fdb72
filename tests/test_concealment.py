"""A lost frame goes on as the last one that came, and fades."""

import pytest
import torch

from esdcodec.concealment import ConcealingDecoder
from tests.conftest import TINY

HOP, N_FRAMES = 120, 40


@pytest.fixture
def codes(tiny_codec, recording):
    return tiny_codec.encode(recording)[..., 20 : 20 + N_FRAMES]


def heard(codec, codes, lost, look_ahead_ms=15, **options):
    """The audio of `codes` of which the frames in `lost` did not come."""
    decoder = ConcealingDecoder(codec.stream_decoder(look_ahead_ms=look_ahead_ms), **options)
    pieces = [decoder.lose(1) if i in lost else decoder.push(codes[..., i : i + 1]) for i in range(codes.shape[-1])]
    return torch.cat([*pieces, decoder.finish()], dim=-1)


def test_without_loss_it_is_the_stream(tiny_codec, codes):
    stream = tiny_codec.stream_decoder(look_ahead_ms=15)
    expected = torch.cat([stream.push(codes), stream.finish()], dim=-1)
    torch.testing.assert_close(heard(tiny_codec, codes, ()), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("lost", [{0, 1}, {7}, {9, 10, 11}, {38, 39}, set(range(N_FRAMES))])
@pytest.mark.parametrize("look_ahead_ms", [0, 15, None])
def test_it_is_as_long_as_what_was_sent(tiny_codec, codes, lost, look_ahead_ms):
    assert heard(tiny_codec, codes, lost, look_ahead_ms).shape == (1, 1, N_FRAMES * HOP)


def test_a_lost_frame_has_the_codes_of_the_last_one_and_its_own_gain(tiny_codec, codes):
    repeated = codes.clone()
    repeated[..., 10:13] = codes[..., 9:10]
    expected = tiny_codec.decode(repeated)
    concealed = heard(tiny_codec, codes, {10, 11, 12}, None, fade=0.5)
    torch.testing.assert_close(concealed[..., : 10 * HOP], expected[..., : 10 * HOP], rtol=0, atol=1e-5)
    torch.testing.assert_close(concealed[..., 14 * HOP :], expected[..., 14 * HOP :], rtol=0, atol=1e-5)
    for frame, gain in ((10, 0.5), (11, 0.25), (12, 0.125)):
        end = (frame + 1) * HOP - 1  # where its gain is reached
        torch.testing.assert_close(concealed[..., end], gain * expected[..., end], rtol=0, atol=1e-5)


def test_silence_is_silent_and_ends(tiny_codec, codes):
    concealed = heard(tiny_codec, codes, {10, 11, 12}, fade=0)
    assert not concealed[..., 11 * HOP : 13 * HOP].any()
    assert concealed[..., 14 * HOP :].any()


def test_nothing_came_yet(tiny_codec):
    decoder = ConcealingDecoder(tiny_codec.stream_decoder())
    assert decoder.lose(3).shape == (1, 1, 3 * HOP)
    assert decoder.finish().shape == (1, 1, 0)


def test_nonsense_is_refused(tiny_codec):
    with pytest.raises(ValueError, match="must be 0"):
        ConcealingDecoder(tiny_codec.stream_decoder(), fade=1.5)
    decoder = ConcealingDecoder(tiny_codec.stream_decoder())
    with pytest.raises(ValueError, match="not one of 0 to"):
        decoder.push(torch.full((1, 1, 1), TINY["semantic_codebook_size"]))
