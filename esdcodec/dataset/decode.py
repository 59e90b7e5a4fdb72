"""From the bytes of an audio member to a segment of it."""

import io
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ..audio import AudioFileError, Waveform, read_segment


class UnusableAudio(ValueError):
    """The audio of an utterance cannot be used; the message is the reason, the same for all of its kind."""


def decode_segment(
    content: bytes, length: int, sample_rate: int, crop: float, *, min_sample_rate: int, converted: Counter[str]
) -> Waveform:
    """`length` samples, or all of a shorter utterance, as `audio.read_segment`; `converted` counts what was changed.

    Args:
        crop: 0 for the beginning to 1 for the end of the utterance.

    Raises:
        UnusableAudio: it does not decode, holds nothing or what is no number, or its rate is too low.
    """
    try:
        with _quiet():
            segment = read_segment(io.BytesIO(content), length, sample_rate, crop)
    except AudioFileError as error:
        raise UnusableAudio("audio holds no samples" if "no samples" in str(error) else "audio is damaged") from error
    if segment.from_rate < min_sample_rate:
        raise UnusableAudio(f"sample rate {segment.from_rate} Hz is below {min_sample_rate} Hz")
    if not np.isfinite(segment.waveform).all():
        raise UnusableAudio("audio holds NaN or infinite samples")
    if segment.channels > 1:
        converted[f"{segment.channels} channels averaged"] += 1
    if segment.from_rate != sample_rate:
        converted[f"resampled from {segment.from_rate} Hz"] += 1
    return segment.waveform


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the mp3 decoder prints by itself about the frame that it begins with after a seek."""
    null, kept = os.open(os.devnull, os.O_WRONLY), os.dup(2)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(null)
        os.close(kept)
