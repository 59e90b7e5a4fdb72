"""Scores as a table to read, as CSV and as JSON."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..model_codec.usage import CodebookUsage
from .evaluate import Estimate, Row, score_names

COLUMNS = {  # column -> heading, digits; an arrow says which way is better
    "nominal": ("kbps", 2),
    "kbps": ("in files", 2),
    "stoi": ("STOI ↑", 3),
    "estoi": ("ESTOI ↑", 3),
    "pesq_wb": ("PESQ-WB ↑", 2),
    "pesq_nb": ("PESQ-NB ↑", 2),
    "visqol": ("ViSQOL ↑", 2),
    "distillmos": ("DistillMOS ↑", 2),
    "dnsmos_ovrl": ("DNSMOS ↑", 2),
    "dnsmos_p808": ("P.808 ↑", 2),
    "speaker": ("speaker ↑", 3),
    "wer": ("WER ↓", 3),
    "cer": ("CER ↓", 3),
    "f0_cents": ("F0 cents ↓", 0),
    "voicing_f1": ("voicing ↑", 3),
    "mel": ("mel ↓", 3),
    "stft": ("STFT ↓", 3),
    "si_sdr": ("SI-SDR ↑", 1),
    "encode_speed": ("encode ×", 1),
    "decode_speed": ("decode ×", 1),
    "megabytes": ("peak MB", 0),
}


def table(summary: Mapping[str, Mapping[str, Any]], *, intervals: bool = False) -> str:
    """The summary as Markdown, a line for each system; with `intervals`, half the width of each 95 % interval."""
    columns = [name for name in COLUMNS if any(name in of for of in summary.values())]
    lines = [["system", *(COLUMNS[name][0] for name in columns)]]
    for system, of in summary.items():
        lines.append([system, *(_cell(of.get(name), COLUMNS[name][1], intervals) for name in columns)])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rendered = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines]
    rule = "| " + " | ".join("-" * width for width in widths) + " |"
    return "\n".join([rendered[0], rule, *rendered[1:]])


def _cell(value: Any, digits: int, intervals: bool) -> str:
    if value is None:
        return ""
    if not isinstance(value, Estimate):
        return f"{value:.{digits}f}"
    margin = f" ± {(value.high - value.low) / 2:.{digits}f}" if intervals else ""
    return f"{value.value:.{digits}f}{margin}"


def usage(rows: Sequence[Row], codebook_sizes: Sequence[int]) -> list[dict[str, float]]:
    """Share of entries used, perplexity and entropy of each codebook, over all rows that have codes."""
    all_codes = [torch.tensor(row.codes) for row in rows if row.codes is not None]
    if not all_codes:
        return []
    codes = torch.cat(all_codes, dim=1)
    counted = CodebookUsage(codebook_sizes[: len(codes)])
    counted.add(codes[None])
    return [
        {"codebook": i, "used": used, "perplexity": perplexity, "entropy_bits": entropy}
        for i, (used, perplexity, entropy) in enumerate(zip(counted.used(), counted.perplexity(), counted.entropy()))
    ]


def write_csv(rows: Sequence[Row], file: Path) -> None:
    """One line for each file and system."""
    names = score_names(rows)
    with open(file, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "system", "seconds", "bytes", *names])
        for row in sorted(rows, key=lambda row: (row.file, row.system)):
            scores = [row.scores.get(name, "") for name in names]
            writer.writerow([row.file, row.system, row.seconds, row.n_bytes, *scores])


def write_json(summary: Mapping[str, Mapping[str, Any]], codebooks: Sequence[Mapping[str, float]], file: Path) -> None:
    """The summary with its intervals, and the codebooks' usage."""
    plain = {
        system: {name: vars(value) if isinstance(value, Estimate) else value for name, value in of.items()}
        for system, of in summary.items()
    }
    file.write_text(json.dumps({"systems": plain, "codebooks": list(codebooks)}, indent=1), encoding="utf-8")
