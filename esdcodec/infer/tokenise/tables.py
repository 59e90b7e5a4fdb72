"""Tables of recordings (JSONL, CSV, TSV, Parquet), row by row. What is wrong with a row is that row's."""

import csv
import json
import math
from collections.abc import Iterator
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import IO, Any, AnyStr

from ...dataset.metadata import LARGEST
from ...dataset.token_shards import pyarrow_parquet
from .item import SpeechItem, item_key, unusable

TABLES = (".jsonl", ".csv", ".tsv", ".parquet")
MISSING = (None, "")

Row = dict[str, Any]


class RowError(ValueError):
    """A row cannot be used; up to a colon the message is the same for all of a kind."""


def items_of_table(table: Path) -> Iterator[SpeechItem]:
    """The utterances that a table names, and for each bad row an item with a problem, called `list.jsonl:17`.

    Rows have a `path`, from the table's folder on, and may have `start` and `end` in seconds, `id`, `text`, `speaker`
    and whatever else; all of it becomes metadata. Numbers are lines, from 1 on; of Parquet they are rows.

    Raises:
        OSError: the table cannot be opened.
        ValueError: it is of another format, or no row has a `path`; the message names the table.
    """
    taken: set[str] = set()
    columns: set[str] = set()
    found = False
    for number, row in _rows(table):
        try:
            if isinstance(row, RowError):
                raise row
            columns.update(row)
            found = found or row.get("path") not in MISSING
            yield _item(row, table.parent, taken)
        except RowError as error:
            yield unusable(f"{table.name}:{number}", str(error))
    if columns and not found:
        raise ValueError(f"{table}: no row has a `path`; its columns are {', '.join(sorted(columns))}")


def _item(row: Row, folder: Path, taken: set[str]) -> SpeechItem:
    metadata = {name: value for name, value in row.items() if value not in MISSING and not _is_nan(value)}
    path = row.get("path")
    if path in MISSING:
        raise RowError("row has no path")
    if not isinstance(path, str):
        raise RowError("path is no text")
    metadata |= {name: _seconds(row[name], name) for name in ("start", "end") if row.get(name) not in MISSING}
    start, end = metadata.get("start"), metadata.get("end")
    if end is not None and end <= (start or 0.0):
        raise RowError("end is not after start")
    named = PurePosixPath(path)
    stem = str(metadata.get("id", named.with_suffix("") if named.name else path))
    key = item_key(stem if start is None else f"{stem}-{start:.2f}", taken)
    return SpeechItem(key, folder / path, metadata, start or 0.0, end)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)  # what pandas writes where nothing is known


def _seconds(value: object, name: str) -> float:
    """A number, also as text: a CSV has nothing else."""
    try:
        seconds = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):
        seconds = None
    if seconds is None:
        raise RowError(f"{name} is no number")
    if not 0 <= seconds < math.inf:  # NaN neither
        raise RowError(f"{name} is negative or not finite")
    return seconds


def _rows(table: Path) -> Iterator[tuple[int, Row | RowError]]:
    """Each row, or what is wrong with it, with its number."""
    suffix = table.suffix.lower()
    if suffix == ".parquet":
        return _parquet_rows(table)
    return _json_rows(table) if suffix == ".jsonl" else _csv_rows(table)


def _json_rows(table: Path) -> Iterator[tuple[int, Row | RowError]]:
    with open(table, "rb") as lines:
        for number, line in enumerate(_beginnings(lines), 1):
            if not line.strip():
                continue
            if len(line) > LARGEST:
                yield number, RowError(f"row is longer than {LARGEST >> 20} MiB")
                continue
            try:
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except (ValueError, RecursionError):
                yield number, RowError("row is no JSON")
                continue
            yield number, row if isinstance(row, dict) else RowError("row is no JSON object")


def _beginnings(stream: IO[AnyStr]) -> Iterator[AnyStr]:
    """Its lines; of one that is longer than `LARGEST`, one character more than that."""
    while line := stream.readline(LARGEST + 1):
        rest = line
        while rest and rest[-1:] not in ("\n", "\r", b"\n"):
            rest = stream.readline(LARGEST)
        yield line


def _csv_rows(table: Path) -> Iterator[tuple[int, Row | RowError]]:
    with open(table, encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        # strict, as a quote that is not closed would silently take in the rows behind it
        reader = csv.reader(_beginnings(stream), delimiter="\t" if table.suffix.lower() == ".tsv" else ",", strict=True)
        header: list[str] = []
        while True:
            try:
                values = next(reader, None)
            except csv.Error as error:
                yield reader.line_num, RowError(f"row is damaged: {error}")
                continue
            if values is None:
                return
            if not header:
                header = values
                if header and "path" not in header:
                    raise ValueError(f"{table}: it has no column `path`; its columns are {', '.join(header)}")
            elif values:
                yield reader.line_num, _csv_row(header, values)


def _csv_row(header: list[str], values: list[str]) -> Row | RowError:
    if len(values) != len(header):
        return RowError(f"row has not as many fields as the header: {len(values)} of {len(header)}")
    try:
        "".join(values).encode()
    except UnicodeEncodeError:
        return RowError("row is not UTF-8")
    return dict(zip(header, values))


def _parquet_rows(table: Path) -> Iterator[tuple[int, Row | RowError]]:
    parquet = pyarrow_parquet()
    number = 0
    try:
        file = parquet.ParquetFile(table)
    except ValueError as error:
        raise ValueError(f"{table}: it cannot be read as Parquet ({error})") from error
    with file:
        if "path" not in file.schema_arrow.names:
            columns = ", ".join(file.schema_arrow.names)
            raise ValueError(f"{table}: it has no column `path`; its columns are {columns}")
        try:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield number, {name: _plain(value) for name, value in row.items()}
        except (OSError, ValueError) as error:
            yield number + 1, RowError(f"the rows from here on cannot be read: {error}")


def _plain(value: object) -> object:
    """Dates, durations and decimals as JSON has them: as text."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, date | time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal | timedelta) else value
