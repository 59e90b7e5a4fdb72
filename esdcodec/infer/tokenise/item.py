"""One utterance of a corpus, before it is read."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...dataset.shards import free_key


@dataclass(frozen=True)
class SpeechItem:
    """A recording, or a part of one, and what is known of it."""

    key: str
    audio: Path | bytes
    metadata: Mapping[str, Any] = field(default_factory=dict)
    start: float = 0.0  # seconds
    end: float | None = None  # None: to the end of the recording
    problem: str = ""  # why it cannot be coded, where that is known before it is read


def unusable(key: str, problem: str) -> SpeechItem:
    """What stands for an utterance that cannot be coded.

    Args:
        problem: the reason; it is counted by what is before its first ": ".
    """
    return SpeechItem(key, b"", problem=problem)


def item_key(name: str, taken: set[str]) -> str:
    """A key for a tar, where a dot would end it, that no other utterance has."""
    return free_key(re.sub(r"[^\w/-]+", "_", name.strip("./")) or "_", taken)


def metadata_problem(metadata: Mapping[str, Any]) -> str:
    """Why metadata cannot be written; empty: it can."""
    try:
        json.dumps(metadata, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:  # bytes, half of a surrogate pair, a circle
        return f"metadata cannot be written as JSON: {error}"
    return ""
