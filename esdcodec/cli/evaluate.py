"""`esdcodec evaluate`: systems in one table, scored by everything that is installed."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .options import UsageError
from .parsing import Command, Commands, add_command
from .terminal import printable

if TYPE_CHECKING:
    from ..evaluation.settings import EvaluationSettings

DESCRIPTION = """Encode, decode and score the audio files below a folder, and score what other codecs made of them.
Beside a file NAME.wav may lie NAME.txt with its text, or NAME.json with "text", "language" and "speaker".
Without a text, WER compares with what the recogniser transcribes from the original."""
EXAMPLES = """\
  esdcodec evaluate speech/                                       the bundled model at 1, 3, 8 and 12 codebooks
  esdcodec evaluate speech/ --model 25hz_v1 --n-quantizers 3      the published one at 0.85 kbps
  esdcodec evaluate speech/ --peers codec2-1300 opus-6k           beside programs that are installed
  esdcodec evaluate speech/ --decoded theirs=out/                 beside files that another codec wrote (same names)
  esdcodec evaluate speech/ --by folder                           each voice's folder, and the worst
  esdcodec evaluate speech/ --command 'lame=lame -b 16 {input} {coded} && lame --decode {coded} {output}'
Scores that --output has of the same model or program, file, metric and versions are not computed again; those of others
stay there, and are in no table but their own."""


def add_parser(commands: Commands[Command]) -> None:
    command = add_command(commands, "evaluate", "score codecs on a folder of speech", EXAMPLES, start)
    command.description = DESCRIPTION
    command.add_argument("folder", type=Path)
    command.add_argument("--model", default="25hz_nano", help="name, folder, file, Hub id, or none")
    command.add_argument(
        "-n", "--n-quantizers", type=int, nargs="+", default=[], help="(default: those of 1 3 8 12 that the model has)"
    )
    command.add_argument("--device", default="cpu", help="for the model")
    for option, metavar, dest, text in (
        ("--peers", "NAME", "peers", "ready-made: opus-6k, codec2-1300, …"),
        ("--decoded", "NAME=FOLDER", "decoded", "files of another codec, called as the originals"),
        (
            "--command",
            "NAME=TEMPLATE",
            "commands",
            "a program that goes from wav to wav",
        ),
    ):
        command.add_argument(option, nargs="+", action="extend", default=[], metavar=metavar, dest=dest, help=text)
    command.add_argument("--metrics", nargs="+", help="(default: all whose packages are installed)")
    command.add_argument("--language", help="of the speech, such as en (default: NAME.json's, or as detected)")
    command.add_argument("--by", choices=("folder", "speaker"), help="also the mean of each group, and the worst")
    command.add_argument("--jobs", type=int, default=1, help="processes")
    command.add_argument("--keep", action="store_true", help="keep the decoded files, below --output/decoded")
    command.add_argument(
        "--html", action="store_true", help="also write report.html, to look at and to listen (with --keep)"
    )
    command.add_argument("--output", type=Path, default=Path("evaluation"), help="folder")


@dataclass(frozen=True)
class EvaluationRun:
    """An evaluation, and how it is run and reported."""

    evaluation: EvaluationSettings
    output: Path  # folder
    jobs: int = 1  # processes
    by: str | None = None  # folder or speaker
    html: bool = False
    needs_all_metrics: bool = False  # they were named

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise UsageError(f"--jobs {self.jobs} must be at least 1")


def start(args: argparse.Namespace) -> int:
    return run(
        EvaluationRun(
            evaluation_of(args), args.output, args.jobs, args.by, args.html, needs_all_metrics=bool(args.metrics)
        )
    )


def evaluation_of(args: argparse.Namespace) -> EvaluationSettings:
    """
    Raises:
        ValueError: the arguments contradict each other; the message says how.
    """
    from ..evaluation.metrics import METRICS
    from ..evaluation.settings import EvaluationSettings

    if wrong := [pair for pair in (*args.decoded, *args.commands) if not all(pair.partition("=")[::2])]:
        raise UsageError("\n".join(f"{pair}: expected NAME=…" for pair in wrong))
    return EvaluationSettings(
        folder=args.folder,
        metrics=tuple(dict.fromkeys(args.metrics or METRICS)),
        model=None if args.model == "none" else args.model,
        device=args.device,
        n_quantizers=tuple(args.n_quantizers),
        decoded=tuple((name, Path(folder)) for name, _, folder in (pair.partition("=") for pair in args.decoded)),
        peers=tuple(dict.fromkeys(args.peers)),
        commands=tuple((name, template) for name, _, template in (pair.partition("=") for pair in args.commands)),
        kept=args.output / "decoded" if args.keep or args.html else None,
        language=args.language,
    )


def run(settings: EvaluationRun) -> int:
    from tqdm import tqdm

    from ..evaluation.evaluate import Evaluator, evaluate_files, references_below
    from ..evaluation.metrics import installed_scorers
    from ..evaluation.report import EvaluationReport
    from ..evaluation.store import ScoreStore
    from ..evaluation.summary import file_scores

    evaluation = settings.evaluation
    files, left_out = references_below(evaluation.folder, without=settings.output)
    for line in left_out:
        print(f"left out   {printable(line)}", file=sys.stderr)
    if not files:
        raise ValueError(f"no audio files below {evaluation.folder}")
    scorers, missing = installed_scorers(evaluation.metrics)
    for reason in missing:
        print(f"esdcodec: without {reason}", file=sys.stderr)
    if missing and settings.needs_all_metrics:
        return 2
    evaluator = Evaluator(replace(evaluation, metrics=tuple(scorers)), scorers)

    settings.output.mkdir(parents=True, exist_ok=True)
    store = ScoreStore(settings.output / "scores.jsonl")
    with closing(evaluate_files(evaluator, files, store, jobs=settings.jobs)) as results:
        evaluations = list(tqdm(results, total=len(files), unit="file", disable=not sys.stderr.isatty()))
    report = EvaluationReport.of(file_scores(evaluations, store, settings.by), evaluations, evaluator.codebook_sizes)
    if report.results:
        report.write(settings.output)
        if settings.html:
            from ..evaluation.html import write_html

            write_html(report, evaluator.systems, evaluation, settings.output / "report.html")
        print(report.text())
        print(f"{len(files)} files; scores of each, intervals and usage: {settings.output}")
    for line in report.warnings:
        print(f"warning    {printable(line)}", file=sys.stderr)
    failures = [failure for evaluation in evaluations for failure in evaluation.failures]
    for failure in failures:
        print(printable(f"failed     {failure.system} on {failure.file}: {failure.reason}"), file=sys.stderr)
    return 1 if failures or not report.results else 0
