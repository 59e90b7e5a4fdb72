"""The ends of a sentence: a short margin of its silence, faded, whatever the pieces it comes in."""

import pytest
import torch

from esdcodec.infer.tts.silence import FADE, MARGIN, SilenceTrimmer

RATE = 24000


def trimmed(audio: torch.Tensor, size: int) -> torch.Tensor:
    trimmer = SilenceTrimmer(RATE)
    return torch.cat([*(trimmer.push(piece) for piece in audio.split(size)), trimmer.finish()])


def quiet(seconds: float) -> torch.Tensor:
    return 1e-4 * torch.randn(round(seconds * RATE))


def loud(seconds: float) -> torch.Tensor:
    return 0.1 * torch.randn(round(seconds * RATE))


@pytest.mark.parametrize("size", [1, 100, 241, 7000, 10**6])
def test_pieces_change_nothing(size):
    audio = torch.cat([quiet(0.11), loud(0.1), quiet(0.2), loud(0.05), quiet(0.15)])[: RATE // 2 + 13]
    assert trimmed(audio, size).equal(trimmed(audio, 4800))


def test_a_margin_stays_at_both_ends_and_pauses_within_stay():
    audio = torch.cat([quiet(0.5), loud(0.2), quiet(1.5), loud(0.2), quiet(0.7)])
    result = trimmed(audio, 1000)
    assert len(result) / RATE == pytest.approx(0.2 + 1.5 + 0.2 + 2 * MARGIN, abs=0.011)
    start = round((0.5 - MARGIN) * RATE)
    inner = slice(round(FADE * RATE), len(result) - round(MARGIN * RATE))
    assert result[inner].equal(audio[start : start + len(result)][inner])


@pytest.mark.parametrize("audio", [loud(0.3), torch.cat([quiet(0.2), loud(0.3), quiet(0.2)])], ids=["loud", "padded"])
def test_the_ends_fade_so_that_nothing_clicks(audio):
    result = trimmed(audio, 500)
    assert result[0] == 0
    assert result[-1].abs() < 1e-3


def test_what_is_silent_throughout_becomes_a_margin():
    assert 0 < len(trimmed(quiet(3.0), 999)) <= MARGIN * RATE + 1


def test_long_silence_before_speech_is_not_kept():
    trimmer = SilenceTrimmer(RATE)
    for _ in range(100):
        trimmer.push(quiet(0.1))
    assert len(trimmer.held) < RATE / 2
