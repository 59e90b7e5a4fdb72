"""Scores of many files summed up: means with intervals, of all files and of groups of them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .evaluate import CODING, Coding, FileEvaluation
from .store import ScoreStore

RESAMPLES = 1000  # of the bootstrap
RATIOS = {"wer": ("word_errors", "words"), "cer": ("letter_errors", "letters")}
LATE = 10.0  # ms, from which decoded audio counts as shifted; vocoders smear their levels by up to 6
LENGTH_TOLERANCE = 0.04  # seconds that it may be longer or shorter without a word

SystemSummary = dict[str, Any]  # column -> `Estimate`, or a number that is counted over all files


@dataclass(frozen=True)
class FileScores:
    """What one system did with one file."""

    file: str
    system: str
    scores: dict[str, float]  # NaN where a metric is not defined
    coding: Coding
    group: str = ""
    notes: dict[str, str] = field(default_factory=dict)  # metric -> why a score of it is NaN

    @property
    def shifted(self) -> bool:
        return self.coding.delay_ms is not None and abs(self.coding.delay_ms) > LATE

    @property
    def wrong_length(self) -> bool:
        return abs(self.coding.longer) > LENGTH_TOLERANCE


def file_scores(evaluations: Iterable[FileEvaluation], store: ScoreStore, by: str | None = None) -> list[FileScores]:
    """The scores of the present evaluation, whatever else the store holds; in the order of systems, then of files.

    Args:
        by: `folder` or `speaker`, by which files are grouped.
    """
    found: dict[str, list[FileScores]] = defaultdict(list)
    for evaluation in sorted(evaluations, key=lambda e: e.reference.name if e.reference else ""):
        for system, (coding_key, *keys) in evaluation.keys.items():
            assert evaluation.reference is not None
            assert coding_key.metric == CODING
            rows = [store.rows[key] for key in keys if key in store.rows]
            scores = {name: _number(value) for row in rows for name, value in row.values.items()}
            notes = {row.key.metric: row.note for row in rows if row.note is not None}
            group = evaluation.reference.group(by) if by else ""
            coding = Coding(**store.rows[coding_key].values)
            found[system].append(FileScores(evaluation.reference.name, system, scores, coding, group, notes))
    return [each for of_system in found.values() for each in of_system]


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


# ---- means -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A mean over files and its bootstrap 95 % interval."""

    value: float
    low: float
    high: float
    n_files: int | None = None  # that have the score


def summarise(results: Sequence[FileScores]) -> dict[str, SystemSummary]:
    """For each system an `Estimate` of every column, and what is counted over all files.

    WER and CER are errors over words of all files. Files for which a score is not defined are left out of its mean.
    Every system is resampled alike.
    """
    by_system: dict[str, list[FileScores]] = defaultdict(list)
    for result in results:
        by_system[result.system].append(result)
    return {system: _summary(sorted(of, key=lambda each: each.file)) for system, of in by_system.items()}


def by_group(results: Sequence[FileScores]) -> dict[str, dict[str, SystemSummary]]:
    """As `summarise`, of each group: group -> system -> column."""
    groups: dict[str, list[FileScores]] = defaultdict(list)
    for result in results:
        groups[result.group].append(result)
    return {group: summarise(groups[group]) for group in sorted(groups)}


def _summary(results: list[FileScores]) -> SystemSummary:
    summary: SystemSummary = {"files": len(results), "seconds": sum(each.coding.seconds for each in results)}
    columns = {name: np.array([r.scores.get(name, np.nan) for r in results], float) for name in score_names(results)}
    for name, (errors, total) in RATIOS.items():
        if errors in columns:
            both = np.stack([columns.pop(errors), columns.pop(total)])
            e, t = both[:, ~np.isnan(both).any(0)]
            if t.sum() > 0:
                draws = _draws(len(t))
                summary[name] = _estimate(e.sum() / t.sum(), e[draws].sum(1) / np.maximum(t[draws].sum(1), 1), len(t))
    for name, values in columns.items():
        known = values[~np.isnan(values)]
        if len(known):
            summary[name] = _estimate(known.mean(), known[_draws(len(known))].mean(1), len(known))
    return (
        summary
        | _counted([each.coding for each in results], summary["seconds"])
        | {
            "late": sum(each.shifted for each in results),
            "other_length": sum(each.wrong_length for each in results),
        }
    )


def _counted(codings: Sequence[Coding], seconds: float) -> SystemSummary:
    """Rates, speed and memory; without what is not known of all files."""
    counted: SystemSummary = {}
    if all(coding.n_bytes is not None for coding in codings):
        counted["kbps"] = sum(coding.n_bytes or 0 for coding in codings) * 8 / seconds / 1000
    if codings[0].bitrate is not None:
        counted["nominal"] = codings[0].bitrate / 1000
    if known := [coding.megabytes for coding in codings if coding.megabytes is not None]:
        counted["megabytes"] = max(known)
    for name in ("encode", "decode"):
        spent = [getattr(coding, f"{name}_seconds") for coding in codings]
        if all(s is not None for s in spent):
            counted[f"{name}_speed"] = seconds / max(sum(spent), 1e-9)
    return counted


def _draws(n: int) -> np.ndarray:
    """Which of `n` files each resample takes ``[RESAMPLES, n]``, the same for every system."""
    return np.random.default_rng(0).integers(0, n, (RESAMPLES, n))


def score_names(results: Sequence[FileScores]) -> list[str]:
    """Columns that any of the results has, in the order in which they come."""
    return list(dict.fromkeys(name for result in results for name in result.scores))


def _estimate(value: float, resampled: np.ndarray, n_files: int) -> Estimate:
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Estimate(float(value), float(low), float(high), n_files)


def share(count: int, total: int) -> Estimate:
    """How often something happened, with Wilson's 95 % interval (Wilson 1927), which no count of 0 makes empty."""
    z = 1.959964
    rate, scale = count / total, 1 + z**2 / total
    centre = (rate + z**2 / (2 * total)) / scale
    margin = z / scale * (rate * (1 - rate) / total + z**2 / (4 * total**2)) ** 0.5
    return Estimate(rate, max(0.0, centre - margin), min(1.0, centre + margin), total)
