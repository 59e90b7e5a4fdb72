"""Scores of a codec on the test sets of recipes/speech_data: men, women, and the voice that it does worst.

    python recipes/nano/table.py DATA/test --model runs/nano/codec --output runs/nano/scores [--jobs 2]

writes `table.md`, and what `esdcodec evaluate` writes of each set in a folder of its name. Scores that are there are
not computed again. Needs `pip install "esdcodec[eval]"`; peers whose programs are not installed are left out.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from tqdm import tqdm

from esdcodec.evaluation.evaluate import Evaluator, evaluate_files, references_below
from esdcodec.evaluation.report import COLUMNS, EvaluationReport
from esdcodec.evaluation.settings import EvaluationSettings
from esdcodec.evaluation.store import ScoreStore
from esdcodec.evaluation.summary import Estimate, FileScores, SystemSummary, file_scores, summarise
from esdcodec.evaluation.systems import PEERS

SETS = ("unseen", "real", "quiet", "telephone", "known")
METRICS = ("stoi", "pesq", "distillmos", "speaker", "words")
SHOWN = ("nominal", "stoi", "pesq_wb", "distillmos", "speaker", "wer")
BESIDE = ("codec2-700c", "codec2-1300", "opus-6k-cbr")
SEXES = {"m": "men", "f": "women"}
WORST_BY = "distillmos"


def voice_of(file: str) -> str:
    """`am_onyx_03.wav` -> `am_onyx`."""
    return "_".join(Path(file).stem.split("_")[:2])


def score(
    folder: Path, model: str, output: Path, peers: Sequence[str], jobs: int, n_quantizers: Sequence[int] = ()
) -> list[FileScores]:
    """Scores of the recordings in a folder, with their voices as groups."""
    files, _ = references_below(folder, without=output)
    settings = EvaluationSettings(
        folder=folder, metrics=METRICS, model=model, peers=tuple(peers), n_quantizers=tuple(n_quantizers)
    )
    evaluator = Evaluator(settings)
    output.mkdir(parents=True, exist_ok=True)
    store = ScoreStore(output / "scores.jsonl")
    with closing(evaluate_files(evaluator, files, store, jobs=jobs)) as results:
        evaluations = list(tqdm(results, folder.name, len(files), unit="file", disable=not sys.stderr.isatty()))
    for failure in (failure for evaluation in evaluations for failure in evaluation.failures):
        print(f"failed  {failure.system} on {failure.file}: {failure.reason}", file=sys.stderr)
    scores = [replace(each, group=voice_of(each.file)) for each in file_scores(evaluations, store)]
    EvaluationReport.of(scores, evaluations, evaluator.codebook_sizes).write(output)
    return scores


def lines_of(scores: Sequence[FileScores]) -> list[list[str]]:
    """For each system a line for the men, one for the women, and one for the voice of the lowest `WORST_BY`."""
    of_voices = {voice: summarise(some) for voice, some in _grouped(scores, lambda each: each.group).items()}
    of_sexes = {
        SEXES.get(sex, sex): summarise(some) for sex, some in _grouped(scores, lambda each: each.group[1:2]).items()
    }
    lines = []
    for system in dict.fromkeys(each.system for each in scores):
        lines += [_line(system, who, of[system]) for who, of in of_sexes.items() if system in of]
        marks = {voice: of[system][WORST_BY].value for voice, of in of_voices.items() if WORST_BY in of.get(system, {})}
        if marks:
            worst = min(marks, key=marks.__getitem__)
            below = fmean(marks.values()) - marks[worst]
            lines.append(_line(system, f"{worst}, {below:.2f} below the mean of voices", of_voices[worst][system]))
    return lines


def _grouped(scores: Iterable[FileScores], by: Callable[[FileScores], str]) -> dict[str, list[FileScores]]:
    groups: dict[str, list[FileScores]] = {}
    for each in scores:
        groups.setdefault(by(each), []).append(each)
    return dict(sorted(groups.items(), reverse=True))  # men before women


def _line(system: str, who: str, summary: SystemSummary) -> list[str]:
    return [system, who, *(_cell(name, summary) for name in SHOWN)]


def _cell(name: str, summary: Mapping[str, Estimate | float]) -> str:
    value, digits = summary.get(name), COLUMNS[name].digits
    if not isinstance(value, Estimate):
        return "" if value is None else f"{value:.{digits}f}"
    return f"{value.value:.{digits}f} ± {(value.high - value.low) / 2:.{digits}f}"


def markdown(name: str, lines: Sequence[Sequence[str]]) -> str:
    heading = ["system", "voices", *(COLUMNS[column].heading for column in SHOWN)]
    rows = [heading, ["---"] * len(heading), *lines]
    return "\n".join([f"## {name}", "", *("| " + " | ".join(row) + " |" for row in rows), ""])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the test sets")
    parser.add_argument("--model", default="25hz_nano", help="as `esdcodec.load` takes it (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("scores"), help="(default: %(default)s)")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS, help="(default: all)")
    parser.add_argument("--peers", nargs="*", default=BESIDE, choices=PEERS, help="(default: %(default)s)")
    parser.add_argument("--n-quantizers", type=int, nargs="+", default=(), help="(default: 1 3 8 12)")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    args = parser.parse_args(argv)
    peers = [name for name in args.peers if not PEERS[name].missing()]
    try:
        tables = []
        for name in args.sets:
            scores = score(args.data / name, args.model, args.output / name, peers, args.jobs, args.n_quantizers)
            tables.append(markdown(name, lines_of(scores)))
    except (ValueError, OSError) as error:
        print(f"{error}", file=sys.stderr)
        return 2
    (args.output / "table.md").write_text("\n".join(tables), encoding="utf-8")
    print("\n".join(tables))
    return 0


if __name__ == "__main__":
    sys.exit(main())
