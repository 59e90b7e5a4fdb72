"""From tar members to training segments, one generator per step."""

import io
import json
import logging
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..audio import AudioFileError, Waveform, read

log = logging.getLogger(__name__)

AUDIO_MEMBERS = ("mp3", "flac", "wav", "ogg", "opus")


@dataclass(frozen=True)
class Item:
    """An utterance, or a segment of one."""

    key: str
    audio: Waveform  # [T] at the training rate
    metadata: dict[str, Any]  # id, text, duration, speaker, language, dnsmos


def wanted(
    samples: Iterable[dict[str, Any]],
    *,
    min_duration: float = 0.0,
    max_duration: float = float("inf"),
    min_dnsmos: float | None = None,
    languages: list[str] | None = None,
) -> Iterator[dict[str, Any]]:
    """Samples whose metadata pass; `sample["metadata"]` holds them parsed.

    One without metadata is logged and skipped.
    """
    for sample in samples:
        try:
            metadata = json.loads(sample["json"])
            duration = float(metadata["duration"])
            dnsmos = float(metadata.get("dnsmos") or 0)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            log.warning("%s in %s: no usable metadata (%r), skipped", sample["__key__"], sample["__url__"], error)
            continue
        if not min_duration <= duration <= max_duration:
            continue
        if min_dnsmos is not None and dnsmos < min_dnsmos:
            continue
        if languages is not None and metadata.get("language") not in languages:
            continue
        yield {**sample, "metadata": metadata}


def decode(samples: Iterable[dict[str, Any]], sample_rate: int) -> Iterator[Item]:
    """Decoded utterances at `sample_rate`. What cannot be decoded is logged and skipped."""
    for sample in samples:
        where = f"{sample['__key__']} in {sample['__url__']}"
        member = next((sample[name] for name in AUDIO_MEMBERS if name in sample), None)
        if member is None:
            log.warning("%s: no audio member (%s), skipped", where, ", ".join(AUDIO_MEMBERS))
            continue
        try:
            audio, _ = read(io.BytesIO(member), sample_rate)
        except AudioFileError as error:
            log.warning("%s: %s, skipped", where, error)
            continue
        if not np.isfinite(audio).all():
            log.warning("%s: NaN or infinite samples, skipped", where)
            continue
        yield Item(sample["__key__"], audio, sample["metadata"])


def crop(items: Iterable[Item], length: int, rng: random.Random, per_utterance: int | None = 1) -> Iterator[Item]:
    """Segments of `length` samples, from random places of each utterance; zeros complete a short one.

    `per_utterance=None` takes as many as the utterance is long, so that long ones count for more.
    """
    for item in items:
        spare = len(item.audio) - length
        for _ in range(per_utterance or max(1, round(len(item.audio) / length))):
            start = rng.randint(0, max(0, spare))
            audio = item.audio[start : start + length]
            yield replace(item, audio=np.pad(audio, (0, length - len(audio))))


def shuffle(items: Iterable[Item], buffer_size: int, rng: random.Random) -> Iterator[Item]:
    """Items in random order, as far as a buffer of `buffer_size` allows."""
    buffer: list[Item] = []
    for item in items:
        if len(buffer) < buffer_size:
            buffer.append(item)
            continue
        place = rng.randrange(buffer_size)
        buffer[place], item = item, buffer[place]
        yield item
    rng.shuffle(buffer)
    yield from buffer
