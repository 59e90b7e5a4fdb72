"""Utterances to waveforms, ahead of the network: read, decoded, resampled and brought to one level by threads."""

import io
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Event
from typing import BinaryIO

import numpy as np

from ...audio import AudioFileError, Waveform, opened, resample
from ...loudness import LoudnessMeter
from .item import SpeechItem
from .settings import TokeniseSettings

ROUNDING = 0.01  # seconds by which the end of a part may lie behind that of its recording: tables round times


@dataclass(frozen=True)
class Recording:
    """An utterance that can be coded."""

    utterance: SpeechItem
    seconds: float
    gain_db: float
    waveform: Waveform | None  # [T] at the codec's rate, with its gain; None: too long, read it by `blocks_of`


@dataclass(frozen=True)
class Unreadable:
    """An utterance that cannot be coded, and why: the kind, and behind ": " what is this one's alone."""

    utterance: SpeechItem
    reason: str


def read_ahead(
    utterances: Iterable[SpeechItem], sample_rate: int, settings: TokeniseSettings
) -> Generator[Recording | Unreadable, None, None]:
    """Recordings in the order of the utterances; threads are at most a few utterances ahead."""
    waiting: deque[Future[Recording | Unreadable]] = deque()
    remaining = iter(utterances)
    with ThreadPoolExecutor(settings.readers) as threads:
        try:
            while True:
                for utterance in islice(remaining, 4 * settings.readers - len(waiting)):
                    waiting.append(threads.submit(read_utterance, utterance, sample_rate, settings))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            threads.shutdown(cancel_futures=True)


def windows_ahead(
    recordings: Iterator[Recording | Unreadable], settings: TokeniseSettings
) -> Generator[list[Recording | Unreadable], None, None]:
    """Consecutive utterances, so many or so long that more would not fit into memory.

    While a window is in use the next one is read, so two are in memory.
    """
    stopped = Event()
    with ThreadPoolExecutor(1) as thread:
        try:
            following = thread.submit(_window, recordings, settings, stopped)
            while window := following.result():
                following = thread.submit(_window, recordings, settings, stopped)
                yield window
        finally:
            stopped.set()


def _window(
    recordings: Iterator[Recording | Unreadable], settings: TokeniseSettings, stopped: Event
) -> list[Recording | Unreadable]:
    window: list[Recording | Unreadable] = []
    seconds = 0.0
    for recording in recordings:
        window.append(recording)
        if isinstance(recording, Recording) and recording.waveform is not None:
            seconds += recording.seconds
        if len(window) >= settings.window or seconds >= settings.window_seconds or stopped.is_set():
            break
    return window


def read_utterance(utterance: SpeechItem, sample_rate: int, settings: TokeniseSettings) -> Recording | Unreadable:
    """One utterance at `sample_rate`; whatever goes wrong with it is its own."""
    if utterance.problem:
        return Unreadable(utterance, utterance.problem)
    try:
        meter, n_samples, kept = None, 0, []
        with blocks_of(utterance) as (rate, blocks):
            meter = LoudnessMeter(rate)
            longest = settings.long_seconds * rate
            for block in blocks:
                if not np.isfinite(block).all():
                    return Unreadable(utterance, "audio holds NaN or infinite samples")
                if settings.gain:
                    meter.push(block)
                n_samples += len(block)
                if n_samples <= longest:
                    kept.append(block)
                else:
                    kept.clear()
        if not n_samples:
            return Unreadable(utterance, "audio holds no samples")
        gain_db = meter.gain_db if settings.gain else 0.0
        if n_samples > longest:
            return Recording(utterance, n_samples / rate, gain_db, None)
        waveform = resample(np.concatenate(kept), rate, sample_rate)
        return Recording(utterance, n_samples / rate, gain_db, waveform * np.float32(10 ** (gain_db / 20)))
    except AudioFileError as error:
        return Unreadable(utterance, _reason(utterance, error))
    except Exception as error:
        return Unreadable(utterance, f"{type(error).__name__}: {error}")


def _reason(utterance: SpeechItem, error: AudioFileError) -> str:
    name: str | Path = utterance.audio if isinstance(utterance.audio, Path) else "audio"
    if isinstance(name, Path) and not name.is_file():
        return f"file is missing: {name}"
    return f"audio cannot be read: {str(error).removeprefix(f'{name}: ')}"


@contextmanager
def blocks_of(utterance: SpeechItem) -> Iterator[tuple[int, Iterator[Waveform]]]:
    """The rate of an utterance and its samples as mono blocks; of a part of a recording only that part.

    What is missing or damaged within makes it unusable.

    Raises:
        AudioFileError: it cannot be read whole.
    """
    source: BinaryIO | str = io.BytesIO(utterance.audio) if isinstance(utterance.audio, bytes) else str(utterance.audio)
    problems: list[str] = []
    with opened(source, problems=problems) as (rate, blocks):
        first = round(utterance.start * rate)
        last = None if utterance.end is None else round(utterance.end * rate)

        def part() -> Iterator[Waveform]:
            position = 0
            for block in blocks:
                stop = len(block) if last is None else max(0, last - position)
                yield block[max(0, first - position) : stop]
                position += len(block)
                if last is not None and position >= last:
                    return
            if problems:
                raise AudioFileError(problems[0])
            if last is not None and position < last - ROUNDING * rate:
                raise AudioFileError("the recording ends before the utterance does")

        yield rate, part()
