"""The report as one HTML file that needs nothing else: table, players, spectrograms, the worst files first."""

import base64
import html
import io
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import soundfile
from PIL import Image

from ..audio import AudioFileError, Waveform, read
from .evaluate import kept_file
from .plot import spectrogram_image
from .reference import SAMPLE_RATE
from .report import COLUMNS, EvaluationReport, shown_columns
from .settings import ORIGINAL, EvaluationSettings
from .summary import Estimate, FileScores, SystemSummary
from .systems import System

WITH_PICTURES = 10  # files whose spectrograms are shown
WITH_PLAYERS = 40  # files with players
RANKED_BY = (("distillmos", 1), ("stoi", 1), ("pesq_wb", 1), ("mel", -1))  # the first there is; 1: more is better

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 84rem; padding: 0 1rem; color: #1a1a1a; }
table { border-collapse: collapse; }
th, td { padding: .3rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; } td small { color: #777; }
.scroll { overflow-x: auto; } section { margin: 2rem 0; } h2 { font-size: 1.05rem; margin-bottom: .4rem; }
.systems { display: flex; flex-wrap: wrap; gap: 1rem; } .system { width: 300px; } .system img { width: 300px; }
.system audio { width: 300px; height: 34px; } .scores { color: #555; font-size: .85rem; }
"""


def write_html(report: EvaluationReport, systems: Sequence[System], settings: EvaluationSettings, file: Path) -> None:
    """Write the report, with the originals and what `systems` made of them, which must have been kept."""
    assert settings.kept is not None
    folder, decoded, by_name = settings.folder, settings.kept, {system.name: system for system in systems}
    by_file: dict[str, list[FileScores]] = defaultdict(list)
    for each in report.results:
        by_file[each.file].append(each)
    ranked = sorted(by_file, key=lambda name: _quality(by_file[name]))
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>Codecs on {html.escape(folder.name)}</title><style>{STYLE}</style>",
        f"<h1>Codecs on {html.escape(folder.name)}</h1>",
        f"<p>{len(by_file)} files; means with half the width of their bootstrap 95 % interval.</p>",
        _table(report.summary),
        *(f"<p>{html.escape(line)}</p>" for line in report.warnings),
        f"<h1>Files, the worst first</h1><p>The first {min(WITH_PICTURES, len(ranked))} with spectrograms.</p>",
    ]
    for rank, name in enumerate(ranked[:WITH_PLAYERS]):
        parts.append(_section(name, by_file[name], by_name, folder, decoded, pictures=rank < WITH_PICTURES))
    if len(ranked) > WITH_PLAYERS:
        parts.append(f"<p>{len(ranked) - WITH_PLAYERS} better ones are in scores.csv.</p>")
    file.write_text("\n".join(parts), encoding="utf-8")


def _quality(results: Sequence[FileScores]) -> float:
    """What files are ranked by: the mean over systems of the first score there is."""
    for column, sign in RANKED_BY:
        values = [each.scores[column] for each in results if each.system != ORIGINAL and column in each.scores]
        values = [value for value in values if not math.isnan(value)]
        if values:
            return sign * sum(values) / len(values)
    return 0.0


def _table(summary: Mapping[str, SystemSummary]) -> str:
    columns = shown_columns(summary.values())
    head = "".join(f"<th>{html.escape(COLUMNS[name].heading)}" for name in columns)
    lines = []
    for system, of in summary.items():
        cells = "".join(f"<td>{_cell(of.get(name), COLUMNS[name].digits)}" for name in columns)
        lines.append(f"<tr><td>{html.escape(system)}{cells}")
    return f"<div class=scroll><table><tr><th>system{head}{''.join(lines)}</table></div>"


def _cell(value: Any, digits: int) -> str:
    if isinstance(value, Estimate):
        return f"{value.value:.{digits}f} <small>± {(value.high - value.low) / 2:.{digits}f}</small>"
    return "" if value is None else f"{value:.{digits}f}"


def _section(
    name: str,
    results: Sequence[FileScores],
    systems: Mapping[str, System],
    folder: Path,
    decoded: Path,
    *,
    pictures: bool,
) -> str:
    shown = {each.system: _scores(each) for each in results}
    cards = [_card(ORIGINAL, shown.pop(ORIGINAL, ""), folder / name, pictures)]
    cards += [_card(s, scores, kept_file(decoded, systems[s], name), pictures) for s, scores in shown.items()]
    return f"<section><h2>{html.escape(name)}</h2><div class=systems>{''.join(cards)}</div></section>"


def _scores(each: FileScores) -> str:
    known = [(COLUMNS[name], value) for name, value in each.scores.items() if name in COLUMNS]
    return ", ".join(f"{column.heading.split()[0]} {value:.{column.digits}f}" for column, value in known)


def _card(title: str, scores: str, file: Path, picture: bool) -> str:
    try:
        waveform, _ = read(file, SAMPLE_RATE)
    except AudioFileError as error:
        return f"<div class=system><b>{html.escape(title)}</b><p>{html.escape(str(error))}</p></div>"
    image = f"<img alt='spectrogram' src='{_png(waveform)}'>" if picture else ""
    return (
        f"<div class=system><b>{html.escape(title)}</b>{image}"
        f"<audio controls preload=none src='{_ogg(waveform)}'></audio>"
        f"<div class=scores>{html.escape(scores)}</div></div>"
    )


def _ogg(waveform: Waveform) -> str:
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, SAMPLE_RATE, format="OGG", subtype="VORBIS")
    return "data:audio/ogg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _png(waveform: Waveform) -> str:
    buffer = io.BytesIO()
    image = Image.fromarray(spectrogram_image(waveform, SAMPLE_RATE, title=""))
    image.resize((image.width * 3 // 5, image.height * 3 // 5)).quantize(64).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
