"""`esdcodec evaluate`: systems in one table, scored by everything that is installed."""

import argparse
import sys
from pathlib import Path

DESCRIPTION = """Encode, decode and score the audio files below a folder, and score what other codecs made of them.
A text beside a file (NAME.txt) is what is said in it; without one, what a recogniser hears in the original."""
EXAMPLES = """examples:
  esdcodec evaluate speech/                                       the bundled model at 1, 3, 8 and 12 codebooks
  esdcodec evaluate speech/ --model 25hz_v1 --n-quantizers 3      the published one at 0.85 kbps
  esdcodec evaluate speech/ --peers codec2-1300 opus-6k           beside programs that are installed
  esdcodec evaluate speech/ --decoded theirs=out/                 beside files that another codec wrote (same names)
  esdcodec evaluate speech/ --command 'lame=lame -b 16 {input} {coded} && lame --decode {coded} {output}'
The same command again goes on where it was stopped; another --output begins anew."""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "evaluate",
        help="score codecs on a folder of speech",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )
    command.add_argument("folder", type=Path)
    command.add_argument(
        "--model", default="25hz_nano", help="name, folder, file, Hub id, or none (default: %(default)s)"
    )
    command.add_argument("--n-quantizers", type=int, nargs="+", default=[1, 3, 8, 12], help="(default: 1 3 8 12)")
    command.add_argument("--device", default="cpu", help="for the model (default: %(default)s)")
    for option, metavar, dest, text in (
        ("--peers", "NAME", "peers", "ready-made: opus-6k, codec2-1300, …"),
        ("--decoded", "NAME=FOLDER", "decoded", "files of another codec"),
        ("--command", "NAME=TEMPLATE", "commands", "a program"),
    ):
        command.add_argument(option, nargs="+", action="extend", default=[], metavar=metavar, dest=dest, help=text)
    command.add_argument("--metrics", nargs="+", help="(default: all whose packages are installed)")
    command.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    command.add_argument("--keep", action="store_true", help="keep the decoded files, below --output/decoded")
    command.add_argument(
        "--html", action="store_true", help="also write report.html, to look at and to listen (with --keep)"
    )
    command.add_argument("--output", type=Path, default=Path("evaluation"), help="folder (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from ..audio import audio_files
    from ..pretrained import ModelNotFoundError, WeightsError
    from .evaluate import Evaluator, Failure, Plan, Row, append, evaluate, rows_in, summarise
    from .metrics import METRICS, MissingPackage, load_metric
    from .report import table, usage, write_csv, write_json
    from .systems import PEERS, SystemFailed

    files = audio_files(args.folder).files
    problems = [f"no audio files below {args.folder}"] if not files else []
    problems += [f"no metric is called {m}: {', '.join(METRICS)}" for m in args.metrics or () if m not in METRICS]
    problems += [f"no peer is called {p}: {', '.join(PEERS)}" for p in args.peers if p not in PEERS]
    problems += [f"{pair}: expected NAME=…" for pair in (*args.decoded, *args.commands) if "=" not in pair]
    if problems:
        print("\n".join(f"esdcodec: {problem}" for problem in problems), file=sys.stderr)
        return 2

    scorers = {}
    for name in args.metrics or METRICS:
        try:
            scorers[name] = load_metric(name)
        except MissingPackage as error:
            print(f"esdcodec: without {error}", file=sys.stderr)
            if args.metrics:
                return 2
    plan = Plan(
        args.folder,
        tuple(scorers),
        None if args.model == "none" else args.model,
        args.device,
        tuple(sorted(set(args.n_quantizers))),
        tuple((pair.split("=", 1)[0], Path(pair.split("=", 1)[1])) for pair in args.decoded),
        tuple(args.peers),
        tuple((pair.split("=", 1)[0], pair.split("=", 1)[1]) for pair in args.commands),
        args.output / "decoded" if args.keep or args.html else None,
    )
    try:
        evaluator = Evaluator(plan, scorers)
    except (SystemFailed, ModelNotFoundError, WeightsError) as error:
        print(f"esdcodec: {error}", file=sys.stderr)
        return 2

    args.output.mkdir(parents=True, exist_ok=True)
    scores = args.output / "scores.jsonl"
    rows = rows_in(scores)
    failures: list[Failure] = []
    results = evaluate(evaluator, files, done=rows, jobs=args.jobs)
    for found in tqdm(results, total=len(files), unit="file", disable=not sys.stderr.isatty()):
        for result in found:
            if isinstance(result, Row):
                append(result, scores)
                rows.append(result)
            else:
                failures.append(result)
    if rows:
        summary, codebooks = summarise(rows), usage(rows, evaluator.codebook_sizes)
        write_csv(rows, args.output / "scores.csv")
        write_json(summary, codebooks, args.output / "summary.json")
        text = table(summary)
        (args.output / "summary.md").write_text(table(summary, intervals=True) + "\n", encoding="utf-8")
        if args.html:
            from .html import write_html

            write_html(rows, summary, args.folder, args.output / "decoded", args.output / "report.html")
        print(text)
        if codebooks:
            print("entries used: " + ", ".join(f"{100 * book['used']:.0f} %" for book in codebooks))
        print(f"{len(files)} files; scores of each, intervals and usage: {args.output}")
    for failure in failures:
        print(f"failed     {failure.system} on {failure.file}: {failure.reason}", file=sys.stderr)
    return 1 if failures or not rows else 0
