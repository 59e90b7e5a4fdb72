"""Scores as a table, as CSV and as JSON, with warnings about what distorts them."""

import csv
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .evaluate import FileEvaluation
from .reference import Reference
from .settings import ORIGINAL
from .summary import Estimate, FileScores, SystemSummary, by_group, score_names, summarise
from .usage import CodebookUsage


class Column(NamedTuple):
    """How a column is shown. An arrow in the heading says which way is better."""

    heading: str
    digits: int

    @property
    def worst(self) -> "Callable[..., Any] | None":
        """What takes the worst of several values; None where none is worse."""
        return {"↑": min, "↓": max}.get(self.heading[-1])


COLUMNS = {
    "files": Column("files", 0),
    "nominal": Column("kbps", 2),
    "kbps": Column("in files", 2),
    "stoi": Column("STOI ↑", 3),
    "estoi": Column("ESTOI ↑", 3),
    "pesq_wb": Column("PESQ-WB ↑", 2),
    "pesq_nb": Column("PESQ-NB ↑", 2),
    "visqol": Column("ViSQOL ↑", 2),
    "distillmos": Column("DistillMOS ↑", 2),
    "dnsmos_ovrl": Column("DNSMOS ↑", 2),
    "dnsmos_p808": Column("P.808 ↑", 2),
    "speaker": Column("speaker ↑", 3),
    "others": Column("other voices", 3),
    "nearest": Column("right voice ↑", 3),
    "wer": Column("WER ↓", 3),
    "cer": Column("CER ↓", 3),
    "f0_cents": Column("F0 cents ↓", 0),
    "voicing_f1": Column("voicing ↑", 3),
    "mel": Column("mel ↓", 3),
    "stft": Column("STFT ↓", 3),
    "si_sdr": Column("SI-SDR ↑", 1),
    "encode_speed": Column("encode ×", 1),
    "decode_speed": Column("decode ×", 1),
    "megabytes": Column("peak MB", 0),
    "late": Column("late files", 0),
    "other_length": Column("other length", 0),
}
ONLY_WHERE_ANY = ("late", "other_length")  # of these, columns of zeros are left out


def shown_columns(summaries: Iterable[SystemSummary]) -> list[str]:
    """The columns to show: `files` only where systems have different numbers of them."""
    summaries = list(summaries)
    shown = [name for name in COLUMNS if any(name in of for of in summaries)]
    idle = {name for name in ONLY_WHERE_ANY if not any(of.get(name) for of in summaries)}
    if len({of.get("files") for of in summaries}) == 1:
        idle.add("files")
    return [name for name in shown if name not in idle]


def table(summary: Mapping[str, SystemSummary], *, intervals: bool = False) -> str:
    """The summary as Markdown, a line for each system; with `intervals`, half the width of each 95 % interval."""
    columns = shown_columns(summary.values())
    lines = [["system", *(COLUMNS[name].heading for name in columns)]]
    for system, of in summary.items():
        lines.append([system, *(_cell(of.get(name), COLUMNS[name].digits, intervals) for name in columns)])
    return _markdown(lines)


def group_table(summary: Mapping[str, SystemSummary], groups: Mapping[str, Mapping[str, SystemSummary]]) -> str:
    """For each system the mean over all files, that of each group, with intervals, and the worst group's.

    The worst is named, with what the originals of that group have where the metric scores them, too.
    """
    columns = [name for name in shown_columns(summary.values()) if COLUMNS[name].worst]
    lines = [["system", "group", *(COLUMNS[name].heading for name in columns)]]
    for system, of_all in summary.items():
        of_groups = {group: of[system] for group, of in groups.items() if system in of}
        for group, of in {"all": of_all, **of_groups}.items():
            lines.append([system, group, *(_cell(of.get(name), COLUMNS[name].digits, True) for name in columns)])
        originals = {} if system == ORIGINAL else {group: of.get(ORIGINAL, {}) for group, of in groups.items()}
        lines.append([system, "**worst**", *(_worst(name, of_groups, originals) for name in columns)])
    return _markdown(lines)


def _worst(name: str, groups: Mapping[str, SystemSummary], originals: Mapping[str, SystemSummary]) -> str:
    column, values = COLUMNS[name], {group: of[name].value for group, of in groups.items() if name in of}
    if not values or column.worst is None:
        return ""
    group = column.worst(values, key=values.__getitem__)
    reference = originals.get(group, {}).get(name)
    beside = f", original {reference.value:.{column.digits}f}" if reference else ""
    return f"{values[group]:.{column.digits}f} ({group}{beside})"


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rendered = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines]
    rule = "| " + " | ".join("-" * width for width in widths) + " |"
    return "\n".join([rendered[0], rule, *rendered[1:]])


def _cell(value: Any, digits: int, intervals: bool) -> str:
    if value is None:
        return ""
    if not isinstance(value, Estimate):
        return f"{value:.{digits}f}"
    margin = f" ± {(value.high - value.low) / 2:.{digits}f}" if intervals and value.n_files != 1 else ""
    return f"{value.value:.{digits}f}{margin}"


# ---- all of it -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EvaluationReport:
    """The results of an evaluation, summed up."""

    results: list[FileScores]
    summary: dict[str, SystemSummary]  # by system
    groups: dict[str, dict[str, SystemSummary]]  # by group and system; empty where files are not grouped
    codebooks: list[dict[str, float]]
    warnings: list[str]

    @classmethod
    def of(
        cls, results: list[FileScores], evaluations: Sequence[FileEvaluation], codebook_sizes: Sequence[int]
    ) -> "EvaluationReport":
        references = [evaluation.reference for evaluation in evaluations if evaluation.reference is not None]
        groups = by_group(results) if any(each.group for each in results) else {}
        warned = [*warnings(results), *same_content(references)]
        return cls(results, summarise(results), groups, codebook_usage(results, codebook_sizes), warned)

    def text(self) -> str:
        """The tables, as the command line shows them."""
        parts = [table(self.summary)]
        if self.groups:
            parts.append(group_table(self.summary, self.groups))
        if self.codebooks:
            parts.append("entries used: " + ", ".join(f"{100 * book['used']:.0f} %" for book in self.codebooks))
        return "\n\n".join(parts)

    def write(self, folder: Path) -> None:
        """Write `scores.csv`, `summary.md` and `summary.json`."""
        write_csv(self.results, folder / "scores.csv")
        parts = [table(self.summary, intervals=True), *[group_table(self.summary, self.groups)] * bool(self.groups)]
        warned = "".join(f"- {line}\n" for line in self.warnings)
        (folder / "summary.md").write_text("\n\n".join(parts) + f"\n\n{warned}", encoding="utf-8")
        found = {
            "systems": plain_summary(self.summary),
            "groups": {group: plain_summary(of) for group, of in self.groups.items()},
            "codebooks": self.codebooks,
            "warnings": self.warnings,
        }
        (folder / "summary.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


# ---- warnings --------------------------------------------------------------------------------------------------------


def warnings(results: Sequence[FileScores]) -> list[str]:
    """What distorts scores, each with the number of files and the first of them."""
    found: dict[str, list[str]] = defaultdict(list)
    for each in results:
        coding = each.coding
        if each.shifted and coding.delay_ms is not None:
            late = "late" if coding.delay_ms > 0 else "early"
            found[f"{each.system} is {late}"].append(f"{each.file} by {abs(coding.delay_ms):.0f} ms")
        if each.wrong_length:
            longer = "longer than the original: cut" if coding.longer > 0 else "shorter than the original: filled up"
            found[f"{each.system} is {longer}"].append(f"{each.file} by {abs(coding.longer):.2f} s")
        for problem in coding.problems:
            if each.file not in found[problem]:  # of an original it is the same in every system
                found[problem].append(each.file)
        if coding.silent:
            found[f"{each.system} is silent where the original is not"].append(each.file)
        for metric, note in each.notes.items():
            found[f"no {metric} of {each.system}, {note}"].append(each.file)
    lines = []
    for what, files in found.items():
        named = ", ".join(files[:3]) + (", …" if len(files) > 3 else "")
        lines.append(f"{what}: {len(files)} file{'s' * (len(files) > 1)} ({named})")
    return lines


def same_content(references: Sequence[Reference]) -> list[str]:
    """Files that are copies of, or links to, others, and so count twice."""
    by_content: dict[str, list[str]] = defaultdict(list)
    for reference in references:
        by_content[reference.content].append(reference.name)
    return [f"one recording counts {len(n)} times: {', '.join(n[:3])}" for n in by_content.values() if len(n) > 1]


# ---- files -----------------------------------------------------------------------------------------------------------


def codebook_usage(results: Sequence[FileScores], codebook_sizes: Sequence[int]) -> list[dict[str, float]]:
    """Share of entries used, perplexity and entropy of each codebook, over the codes of the most codebooks."""
    all_codes = [torch.tensor(each.coding.codes) for each in results if each.coding.codes is not None]
    if not all_codes:
        return []
    most = max(len(codes) for codes in all_codes)  # fewer are among them
    codes = torch.cat([codes for codes in all_codes if len(codes) == most], dim=1)
    counted = CodebookUsage(codebook_sizes[:most])
    counted.add(codes[None])
    return [
        {"codebook": i, "used": used, "perplexity": perplexity, "entropy_bits": entropy}
        for i, (used, perplexity, entropy) in enumerate(zip(counted.used(), counted.perplexity(), counted.entropy()))
    ]


def write_csv(results: Sequence[FileScores], file: Path) -> None:
    """One line for each file and system."""
    names = score_names(results)
    with open(file, "w", newline="", encoding="utf-8", errors="surrogateescape") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "system", "group", "seconds", "bytes", "delay_ms", "longer", *names])
        for each in sorted(results, key=lambda each: (each.file, each.system)):
            coding = each.coding
            scores = [each.scores.get(name, "") for name in names]
            measured = (coding.seconds, coding.n_bytes, coding.delay_ms, coding.longer)
            writer.writerow([each.file, each.system, each.group, *measured, *scores])


def plain_summary(summary: Mapping[str, SystemSummary]) -> dict[str, dict[str, Any]]:
    """As JSON takes it."""
    return {
        system: {name: vars(value) if isinstance(value, Estimate) else value for name, value in of.items()}
        for system, of in summary.items()
    }
