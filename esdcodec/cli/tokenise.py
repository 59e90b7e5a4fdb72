"""`esdcodec tokenise`: a corpus of speech to shards of codes, and the check of what it wrote."""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .options import UsageError, add_model_choice, add_n_quantizers
from .parsing import Command, Commands, add_command
from .terminal import printable

if TYPE_CHECKING:
    from ..infer.tokenise import ShardManifest, Summary, TokeniseSettings, Unit

ENGINES = ("local", "ray")
FORMATS = ("tar", "parquet", "packed")
N_EXAMPLES = 3  # of what was skipped, in a shard's line
EXAMPLES = """  esdcodec tokenise data.list -o tokens -n 3 --jobs 2     tar shards, as the trainer takes them
  esdcodec tokenise speech/ -o tokens                     a folder of audio, in groups of 1,000
  esdcodec tokenise utterances.csv -o tokens              a table: path, and start, end, text, speaker, … if known
  esdcodec tokenise data.list -o tokens --part 3/64       one of 64; SLURM, torchrun and Kubernetes say which
  esdcodec tokenise data.list -o tokens --engine ray      on all machines of a Ray cluster
  esdcodec tokenise --verify tokens                       whether all of it is whole
The same command again goes on where it was stopped."""


@dataclass(frozen=True)
class CorpusSettings:
    """Which corpus becomes codes, where, and which share of the work is this process's."""

    sources: tuple[str, ...]
    output: Path
    tokens: "TokeniseSettings"
    jobs: int | None  # None: one; on Ray as many as there is room for
    threads: int | None
    part: tuple[int, int] | None
    engine: str
    ray_address: str | None
    json: bool

    def __post_init__(self) -> None:
        for name in ("jobs", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name} {value} must be at least 1")
        if self.ray_address is not None and self.engine != "ray":
            raise UsageError("--ray-address is for --engine ray")


def add_parser(commands: "Commands[Command]") -> None:
    command = add_command(commands, "tokenise", "a corpus of speech to shards of codes", EXAMPLES, start)
    command.add_argument("sources", nargs="*", metavar="SOURCE", help="shards, lists, globs, URLs, folders, tables")
    command.add_argument("-o", "--output", type=Path, help="folder of the shards of codes")
    command.add_argument("--verify", type=Path, metavar="DIR", help="check what was written, and tokenise nothing")
    add_n_quantizers(command)
    group = add_model_choice(command)
    group.add_argument("--batch-seconds", type=float, help="of audio together (default: CPU 16, else 60)")
    group = command.add_argument_group("work")
    group.add_argument("--jobs", type=int, help="processes (default: 1; on Ray as many as there is room for)")
    group.add_argument("--threads", type=int, help="of each process (default: its share of the cores; on Ray 1)")
    group.add_argument("--part", type=_part, metavar="I/N", help="0/N to N-1/N (default: what the launcher says)")
    group.add_argument("--engine", choices=ENGINES, default="local", help="ray: all of a cluster; extra [ray]")
    group.add_argument("--ray-address", metavar="HOST:PORT", help="(default: the cluster known here, or a new one)")
    group.add_argument("--readers", type=int, default=2, help="threads of each process that read ahead")
    group.add_argument("--group-size", type=int, default=1000, help="files of a folder that make a shard")
    group.add_argument("--format", choices=FORMATS, default="tar", help="of the shards; parquet: extra [parquet]")
    group.add_argument("--no-gain", action="store_true", help="code every utterance as loud as it is")
    group.add_argument("--json", action="store_true", help="one JSON object a shard, and one for all, on stdout")


def _part(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is no part such as 3/64: 0/64 to 63/64")
    return int(index), int(count)


def start(args: argparse.Namespace) -> int:
    from ..infer.tokenise import TokeniseSettings

    if args.verify is not None:
        if args.sources:
            raise UsageError("--verify takes a folder that was written, and no sources")
        return run_verify(args.verify)
    if not args.sources or args.output is None:
        raise UsageError("say what to tokenise, and with --output where to write")
    tokens = TokeniseSettings(
        model=args.model,
        n_quantizers=args.n_quantizers,
        device=args.device,
        dtype=args.dtype,
        gain=not args.no_gain,
        batch_seconds=args.batch_seconds,
        group_size=args.group_size,
        readers=args.readers,
        format=args.format,
    )
    work = (args.jobs, args.threads, args.part, args.engine, args.ray_address)
    return run(CorpusSettings(tuple(args.sources), args.output, tokens, *work, args.json))


def run(settings: CorpusSettings) -> int:
    from tqdm import tqdm

    from ..infer.tokenise import tokenise

    hours = 0.0
    with tqdm(unit="shard", disable=settings.json or not sys.stderr.isatty()) as bar:

        def report(unit: "Unit", result: "ShardManifest | Exception", n_units: int) -> None:
            nonlocal hours
            bar.total = n_units
            if not isinstance(result, Exception):
                hours += result.seconds / 3600
                bar.set_postfix_str(f"{hours:.2f} h, {3600 * hours / max(bar.format_dict['elapsed'], 1e-3):.0f}×")
            bar.update()
            if settings.json:
                print(json.dumps({"shard": unit.name, **_shard(result)}), flush=True)
            else:
                bar.write(printable(f"{unit.name}: {_line(result)}"), file=sys.stderr)

        summary = tokenise(
            settings.sources,
            settings.output,
            settings.tokens,
            jobs=settings.jobs,
            threads=settings.threads,
            part=settings.part,
            engine=settings.engine,
            ray_address=settings.ray_address,
            report=report,
        )
    _tell(settings, summary)
    return 0 if summary.complete else 1


def _shard(result: "ShardManifest | Exception") -> dict[str, object]:
    if isinstance(result, Exception):
        return {"error": str(result)}
    about = asdict(result)
    return {name: about[name] for name in ("utterances", "seconds", "frames", "bytes", "skipped")}


def _line(result: "ShardManifest | Exception") -> str:
    if isinstance(result, Exception):
        return f"failed: {result}"
    skipped = "".join(f", {n} skipped ({kind}: {_examples(result, kind)})" for kind, n in result.reasons.items())
    return f"{result.utterances} utterances, {result.seconds / 3600:.3f} h{skipped}"


def _examples(result: "ShardManifest", kind: str) -> str:
    keys = [key or "the rest of the shard" for key, reason in result.skipped if reason.split(": ")[0] == kind]
    return ", ".join(keys[:N_EXAMPLES]) + ", …" * (len(keys) > N_EXAMPLES)


def _tell(settings: CorpusSettings, summary: "Summary") -> None:
    if settings.json:
        about = asdict(summary) | {"complete": summary.complete}
        print(json.dumps(about), flush=True)
    else:
        lines = {
            "shards": f"{summary.units} written" + f", {summary.finished} there already" * bool(summary.finished),
            "audio": f"{summary.utterances} utterances, {summary.hours:.3f} h",
            "speed": f"{3600 * summary.hours / summary.network_seconds:.1f}× real time in the network"
            if summary.network_seconds
            else "",
            "written": str(settings.output),
        }
        print("\n".join(f"{name:10} {text}" for name, text in lines.items() if text))
    for line in summary.left_out:
        print(f"left out   {printable(line)}", file=sys.stderr)
    for reason, n in summary.skipped.items():
        print(f"skipped    {n} utterances: {printable(reason)} (named in the manifests)", file=sys.stderr)
    for unit, reason in summary.failed.items():
        print(f"failed     {printable(unit)}: {printable(reason)}; the same command tries it again", file=sys.stderr)


def run_verify(folder: Path) -> int:
    from ..infer.tokenise import verify

    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder")
    n, bad = 0, 0
    for path, problems in verify(folder):
        n += 1
        bad += bool(problems)
        for problem in problems:
            print(f"failed     {printable(path)}: {printable(problem)}", file=sys.stderr)
    print(f"{n - bad} of {n} shards are whole")
    return 1 if bad or not n else 0
