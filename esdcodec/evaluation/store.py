"""Scores on disk: one JSON line for each metric, file and system."""

import json
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Key:
    """What a row depends on. A row is used again only where all of this is the same."""

    system: str  # hash of what the system is; of a model, of all its weights
    file: str  # relative path
    content: str  # hash of the reference, and of its text where the metric reads it
    metric: str
    version: str  # of the metric and of the packages that compute it


@dataclass(frozen=True)
class ScoreRow:
    """The values of one metric. A value that is not defined is NaN, with the reason in `note`."""

    key: Key
    system: str  # name
    values: dict[str, Any]
    note: str | None = None


class ScoreStore:
    """The rows of a file of JSON lines, which is only ever appended to. Of rows with one key the last counts."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: dict[Key, ScoreRow] = {}
        self._by_file: dict[str, dict[Key, ScoreRow]] = defaultdict(dict)
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
        for line in lines:
            if (row := _parsed(line)) is not None:
                self._take(row)

    def of_file(self, name: str) -> dict[Key, ScoreRow]:
        """The rows of one reference."""
        return self._by_file[name]

    def add(self, rows: Sequence[ScoreRow]) -> None:
        """Append rows, in one write; a line that a killed run left unfinished stays apart."""
        if not rows:
            return
        text = "".join(json.dumps(_plain(row), allow_nan=False) + "\n" for row in rows)
        with open(self.file, "ab+") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - 1))
            unfinished = stream.read(1) not in (b"", b"\n")
            stream.write(b"\n" * unfinished + text.encode())
            stream.flush()
            os.fsync(stream.fileno())
        for row in rows:
            self._take(row)

    def _take(self, row: ScoreRow) -> None:
        self.rows[row.key] = self._by_file[row.key.file][row.key] = row


def _plain(row: ScoreRow) -> dict[str, Any]:
    values = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.values.items()}
    return {"name": row.system, **asdict(row.key), "values": values, "note": row.note}


def _parsed(line: str) -> ScoreRow | None:
    try:
        found = json.loads(line)
        key = Key(*(found[name] for name in ("system", "file", "content", "metric", "version")))
        return ScoreRow(key, found["name"], dict(found["values"]), found["note"])
    except (ValueError, TypeError, KeyError):
        return None  # cut off when a run was killed, or of an older version: computed anew
