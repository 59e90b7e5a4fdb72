"""The texts of a tokenised corpus: how long each is, and which utterances have one speaker."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..model_tts.text import TextFrontEnd
from ..processes import in_processes
from ..whole_file import whole_file
from .batch import SkippedUtterance
from .tokens import Tokens

log = logging.getLogger(__name__)

FORMAT = "esdcodec-transcripts-1"
USABLE, NO_TEXT, UNKNOWN, NO_CODES = range(4)
REASONS = {NO_TEXT: "no text", UNKNOWN: "text that the front end does not know", NO_CODES: "no codes"}
FIELDS = np.dtype(
    [
        ("n_text", "<u4"),  # tokens of the text
        ("frames", "<u4"),
        ("reason", "u1"),  # why it cannot be used
        ("by_speaker", "<u4"),  # all usable utterances with a known speaker, speaker after speaker
        ("first", "<u4"),  # where the utterances of this one's speaker begin in `by_speaker`
        ("count", "<u4"),  # how many these are; 0: nobody knows who speaks
    ]
)


class Transcripts:
    """A tokenised corpus with what is known of its texts.

    It is read from a file in `cache`, or else made of all utterances; a process maps it into memory.

    Args:
        front_end: numbers the texts. None: there need be none, only speakers are wanted.
        text_field: of the metadata, which holds the text.
        processes: that read shards, where there is no file yet.

    Raises:
        OSError: a shard cannot be read, or `cache` not be written.
    """

    def __init__(
        self,
        tokens: Tokens,
        front_end: TextFrontEnd | None,
        *,
        cache: Path,
        text_field: str = "text",
        processes: int = 1,
    ) -> None:
        self.tokens, self.front_end, self.text_field = tokens, front_end, text_field
        self.identity = self._identity()
        self.file = cache.absolute() / f"transcripts-{self.identity}.npy"
        if not self.file.exists():
            log.info("reading the texts of %d utterances: once, they are kept in %s", len(tokens), self.file)
            table = self._make(processes)
            with whole_file(self.file) as stream:
                np.save(stream, table)
        self.table: NDArray[Any] = np.load(self.file, mmap_mode="r")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "table"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.table = np.load(self.file, mmap_mode="r")

    def _identity(self) -> str:
        shards = [(path, *self.tokens.version(i)) for i, path in enumerate(self.tokens.shards)]
        text = None if self.front_end is None else [self.front_end.config, self.front_end.n_tokens, self.text_field]
        known = [FORMAT, text, shards]
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]

    def digest(self) -> str:
        """The same where the same utterances, by what is known of them, are in the same order."""
        return hashlib.sha256(self.tokens.fingerprint.encode() + self.table.tobytes()).hexdigest()

    def _make(self, processes: int) -> NDArray[Any]:
        shards = range(len(self.tokens.shards))
        arguments = self.tokens, self.front_end, self.text_field
        found: dict[int, _ShardTexts] = {}
        if min(processes, len(shards)) > 1:
            for shard, result in in_processes(processes, _read, shards, _start, *arguments):
                if isinstance(result, Exception):
                    raise result
                found[shard] = result
        else:
            found = {shard: read_texts(*arguments, shard) for shard in shards}
        table = np.zeros(len(self.tokens), FIELDS)
        table["frames"] = np.concatenate([self.tokens.lengths(shard) for shard in shards])
        table["n_text"] = np.concatenate([found[shard].n_text for shard in shards])
        table["reason"] = np.concatenate([found[shard].reasons for shard in shards])
        table["reason"][(table["frames"] == 0) & (table["reason"] == USABLE)] = NO_CODES
        names = np.array([name for shard in shards for name in found[shard].speakers], dtype=object)
        _group(table, names)
        return table

    # ---- what can be used -------------------------------------------------------------------------------------------

    def usable(self, max_tokens: int, extra: int) -> NDArray[np.bool_]:
        """Which utterances ``[N]`` can be used, and have at most `max_tokens` of text, frames and `extra`."""
        size = self.table["n_text"].astype(np.int64) + self.table["frames"] + extra
        return (self.table["reason"] == USABLE) & (size <= max_tokens)

    def skipped(self) -> Iterator[SkippedUtterance]:
        """What cannot be used whatever its length is."""
        for number in np.flatnonzero(self.table["reason"] != USABLE).tolist():
            shard, _ = self.tokens.locate(number)
            reason = REASONS[int(self.table["reason"][number])]
            yield SkippedUtterance(self.tokens.shards[shard], self.tokens.key(number), reason)

    def reasons(self) -> Counter[str]:
        """How many cannot be used, by reason."""
        return Counter({reason: int((self.table["reason"] == number).sum()) for number, reason in REASONS.items()})

    def text_ids(self, item: Mapping[str, Any]) -> list[int]:
        """Tokens of the text of an item of the corpus."""
        assert self.front_end is not None
        return self.front_end.ids(item[self.text_field])

    def same_speaker(self, number: int) -> NDArray[np.uint32]:
        """All usable utterances of an utterance's speaker, itself among them; none where nobody knows who speaks."""
        row = self.table[number]
        first, count = int(row["first"]), int(row["count"])
        return np.asarray(self.table["by_speaker"][first : first + count])

    def expected_codes(self) -> tuple[float, float]:
        """Codes of a text of no tokens, and for each of its tokens: the line of least squares, which does not fall."""
        usable = self.table["reason"] == USABLE
        x, y = self.table["n_text"][usable].astype(float), self.table["frames"][usable].astype(float)
        variance = float(x.var()) if len(x) else 0.0
        slope = float(((x - x.mean()) * (y - y.mean())).mean() / variance) if variance > 0 else 0.0
        start = float(y.mean() - slope * x.mean()) if len(x) else 0.0
        if slope > 0 and start >= 0:
            return start, slope
        return 0.0, float(y.mean() / x.mean()) if len(x) else 1.0


class _ShardTexts(NamedTuple):
    n_text: NDArray[np.uint32]
    reasons: NDArray[np.uint8]
    speakers: list[str]  # empty: unknown


def read_texts(tokens: Tokens, front_end: TextFrontEnd | None, text_field: str, shard: int) -> _ShardTexts:
    """Of one shard: the lengths of all texts, why some cannot be used, and who speaks."""
    n = int(tokens.counts[shard])
    found = _ShardTexts(np.zeros(n, np.uint32), np.zeros(n, np.uint8), [])
    for i in range(n):
        known = tokens.read(shard, i)
        text, speaker = known.get(text_field), known.get("speaker")
        found.speakers.append(str(speaker) if speaker not in (None, "") else "")
        if front_end is None:
            continue
        if not isinstance(text, str) or not text.strip():
            found.reasons[i] = NO_TEXT
            continue
        try:
            found.n_text[i] = len(front_end.ids(text))
        except ValueError:
            found.reasons[i] = UNKNOWN
    return found


_arguments: tuple[Tokens, TextFrontEnd | None, str]  # of a process


def _start(tokens: Tokens, front_end: TextFrontEnd | None, text_field: str) -> None:
    global _arguments
    _arguments = tokens, front_end, text_field


def _read(shard: int) -> _ShardTexts:
    return read_texts(*_arguments, shard)


def _group(table: NDArray[Any], names: NDArray[Any]) -> None:
    """Fill in which usable utterances have one speaker."""
    wanted = np.flatnonzero((names != "") & (table["reason"] == USABLE))
    if not len(wanted):
        return
    _, speaker, counts = np.unique(names[wanted].astype(str), return_inverse=True, return_counts=True)
    table["by_speaker"][: len(wanted)] = wanted[np.argsort(speaker, kind="stable")]
    table["first"][wanted] = (np.cumsum(counts) - counts)[speaker]
    table["count"][wanted] = counts[speaker]
