"""`esdcodec evaluate-tts`: how well sentences are said, by a model and by other systems."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .options import UsageError
from .parsing import Command, Commands, add_command
from .terminal import printable

if TYPE_CHECKING:
    from ..evaluation.tts.ladder import Ladder

DESCRIPTION = """Let a model say the sentences of a list, and score what it says: words by a speech recogniser, quality,
likeness to the right voice and to those of the other sentences, and sentences that did not end.
A line of the list is `text|voice`, `text|voice|recording`, or Seed-TTS-eval's `utt|prompt text|prompt wav|text`.
Where there are recordings of the sentences, each rung between these and the text is scored: the recordings, all of
their codes, their first codebook with the others predicted, the text alone."""
EXAMPLES = """\
  esdcodec evaluate-tts sentences.txt                               the bundled model
  esdcodec evaluate-tts meta.lst --model runs/voice                 a folder that bundle_tts wrote
  esdcodec evaluate-tts sentences.txt --model none --spoken theirs=out/    another system's 00001.wav, …, or UTT.wav
  esdcodec evaluate-tts sentences.txt --metrics                     ends alone, without any recogniser
What was said stays in --output/spoken and is not made again, unless the model or the seed is another one."""


def add_parser(commands: Commands[Command]) -> None:
    command = add_command(commands, "evaluate-tts", "score speech from text", EXAMPLES, start)
    command.description = DESCRIPTION
    command.add_argument("sentences", type=Path, metavar="LIST")
    command.add_argument("--model", default="25hz_nano_tts", help="name, folder, or none")
    command.add_argument("--device", default="cpu", help="for the model")
    command.add_argument(
        "--spoken", nargs="+", action="extend", default=[], metavar="NAME=FOLDER", help="files of another system"
    )
    command.add_argument("--metrics", nargs="*", help="of words, distillmos, speaker (default: all)")
    command.add_argument("--language", default="en", help="of the sentences")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--output", type=Path, default=Path("evaluation-tts"), help="folder")


@dataclass(frozen=True)
class SpeechEvaluation:
    """Which sentences are scored, as said by whom, and how."""

    sentences: Path
    model: str | None
    device: str
    spoken: tuple[tuple[str, Path], ...]  # name of a system, folder of its files
    metrics: tuple[str, ...]
    language: str
    seed: int
    output: Path

    def __post_init__(self) -> None:
        if self.model is None and not self.spoken:
            raise UsageError("with --model none say with --spoken NAME=FOLDER what is to be scored")
        from ..evaluation.tts.ladder import RUNGS

        names = [name for name, _ in self.spoken]
        if twice := [name for name in names if names.count(name) > 1 or name in RUNGS]:
            raise UsageError(f"--spoken {twice[0]}=…: this name is taken, give the system another one")
        for name, folder in self.spoken:
            if not name or not folder.is_dir():
                raise UsageError(f"--spoken {name}={folder}: expected NAME=FOLDER, of a folder that is there")


def start(args: argparse.Namespace) -> int:
    from ..evaluation.tts.scores import METRICS

    spoken = tuple((name, Path(folder)) for name, _, folder in (pair.partition("=") for pair in args.spoken))
    metrics = METRICS if args.metrics is None else tuple(dict.fromkeys(args.metrics))
    model = None if args.model == "none" else args.model
    return run(
        SpeechEvaluation(args.sentences, model, args.device, spoken, metrics, args.language, args.seed, args.output)
    )


def run(settings: SpeechEvaluation) -> int:
    from ..evaluation.store import ScoreStore
    from ..evaluation.tts.evaluate import evaluate_speech
    from ..evaluation.tts.scores import SpeechScorer
    from ..evaluation.tts.sentences import read_sentences

    sentences = read_sentences(settings.sentences)
    settings.output.mkdir(parents=True, exist_ok=True)
    scorer = SpeechScorer(settings.metrics, ScoreStore(settings.output / "scores.jsonl"), settings.language)
    ladder = None if settings.model is None else _ladder(settings.model, settings)
    report = evaluate_speech(sentences, scorer, ladder, dict(settings.spoken))
    report.write(settings.output)
    print(report.text())
    print(f"{len(sentences)} sentences; scores of each, and what was said: {settings.output}")
    for failure in report.failures:
        print(printable(f"failed     {failure}"), file=sys.stderr)
    return 1 if report.failures else 0


def _ladder(model: str, settings: SpeechEvaluation) -> Ladder:
    from ..evaluation.reference import content_hash, text_hash
    from ..evaluation.tts.ladder import Ladder
    from ..infer.tts import load_tts
    from ..infer.tts.folder import find_folder

    files = sorted(path for path in find_folder(model).rglob("*") if path.is_file())
    tts = load_tts(model, device=settings.device)
    known = [content_hash(path) for path in files], tts.codec.fingerprint, settings.seed
    return Ladder(tts, settings.output / "spoken" / text_hash(*known)[:8], settings.seed)
