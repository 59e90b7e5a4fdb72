"""The command line `esdcodec`.

Exit codes: 0 all done; 1 some files failed, each named with the reason; 2 the command itself was wrong; 130 and 143
stopped by Ctrl-C and by SIGTERM, with no half file left.
"""

import argparse
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..config import config_names
from ..evaluation.cli import add_parser as add_evaluate
from ..processes import SIGNALS, stop

ASSETS = Path(__file__).parents[1] / "assets"
SAMPLE = ASSETS / "sample.flac"
DTYPES = ("float32", "bfloat16", "auto")
CODE_FORMATS = ("esd", "npy")
AUDIO_FORMATS = ("wav", "flac", "mp3", "ogg", "opus")
EXIT_CODES = "exit codes: 0 all done, 1 some files failed (named at the end), 2 wrong command, 130/143 stopped"


class UsageError(Exception):
    """The command cannot be done as it was given; exit code 2."""


class Help(argparse.RawDescriptionHelpFormatter):
    """Examples as they are written, and after each option its default."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        tells = action.default not in (None, False, argparse.SUPPRESS, []) and "(default" not in (action.help or "")
        return f"{action.help or ''} (default: %(default)s)" if tells else action.help


class Command(argparse.ArgumentParser):
    """The parser of a subcommand: what it does not know is an error of its own, with its own usage."""

    reads_audio = False

    def format_help(self) -> str:
        text = super().format_help()
        if self.reads_audio:
            from ..audio import EXTENSIONS  # with libraries that nothing else of the parser needs

            text += f"\nreads: {', '.join(sorted(extension[1:] for extension in EXTENSIONS))}\n"
        return text

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            known = [option for action in self._actions for option in action.option_strings]
            like = get_close_matches(unknown[0].split("=")[0], known, 1) if unknown[0].startswith("-") else []
            self.error(f"unrecognized arguments: {' '.join(unknown)}" + (f" (is {like[0]} meant?)" if like else ""))
        return found, unknown


def _command(commands: "argparse._SubParsersAction[Command]", name: str, help: str, examples: str) -> Command:
    return commands.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ".",
        epilog=f"examples:\n{examples}\n\n{EXIT_CODES}",
        formatter_class=Help,
    )


def _add_model(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("model")
    group.add_argument("--model", default="25hz_nano", help="name, folder, file or Hub id (default: %(default)s)")
    group.add_argument("--device", help="cuda, mps, cpu (default: the first of these there is)")
    group.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="of the convolutions; auto: the fastest one here"
    )
    group.add_argument("--chunk-seconds", type=float, default=20.0, help="longer audio goes in chunks")
    group.add_argument("--batch-seconds", type=float, help="of one file that go together (default: one chunk)")


def _add_n_quantizers(command: argparse.ArgumentParser) -> None:
    command.add_argument("-n", "--n-quantizers", type=int, help="codebooks to use (default: all that the model has)")


def _add_gain(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--gain",
        type=_gain,
        default="auto",
        metavar="DB",
        help="amplification before encoding, that decoding takes back; auto: what brings each file to the loudness at "
        "which the codec codes best, and 0 for arrays (default: %(default)s)",
    )


def _gain(text: str) -> float | None:
    """dB; None for auto."""
    if text == "auto":
        return None
    try:
        gain = round(float(text), 2)
    except ValueError:
        gain = float("nan")
    if not -60 <= gain <= 60:
        raise argparse.ArgumentTypeError(f"{text!r} is neither auto nor a number of dB from -60 to 60")
    return gain


def _add_files(command: argparse.ArgumentParser, what: str, output: str | None) -> None:
    group = command.add_argument_group("files")
    command.add_argument("sources", nargs="+", metavar="SOURCE", help=what)
    group.add_argument("-o", "--output", help=output or "file, folder/, or - for a pipe (default: beside the source)")
    _add_existing(group)
    group.add_argument("--jobs", type=int, default=1, help="processes, each with its share of the cores")


def _add_existing(group: Any) -> None:
    existing = group.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace files that exist")
    existing.add_argument("--skip-existing", action="store_true", help="leave files that exist, and go on")
    group.add_argument("--json", action="store_true", help="one JSON object a file, and one for all, on stdout")


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(
        prog="esdcodec", description="24 kHz speech to 25 frames of codes a second, and back", epilog=EXIT_CODES
    )
    commands = main.add_subparsers(dest="command", required=True, parser_class=Command)

    sources = "files, folders (mirrored), globs, lists of paths (.lst, or @FILE), or - for a pipe"
    command = _command(
        commands,
        "encode",
        "audio to .esd files",
        """  esdcodec encode talk.mp3                          writes talk.esd beside it
  esdcodec encode talk.mp3 -n 3                     three codebooks, 850 bit/s; 1 is what is said alone
  esdcodec encode corpus/ -o coded --jobs 4         a folder, mirrored below coded/
  esdcodec encode corpus/ -o coded --skip-existing  the same again: only what is missing
  esdcodec encode corpus/ -o codes --format npy     arrays [n, L] for training language models
  sox talk.wav -t wav - | esdcodec encode - > talk.esd""",
    )
    _add_files(command, sources, None)
    _add_n_quantizers(command)
    _add_gain(command)
    command.add_argument(
        "--format", choices=CODE_FORMATS, help="npy: the codes alone, [n, L] (default: that of --output, or esd)"
    )
    _add_model(command)
    command.set_defaults(run=run_encode)
    command.reads_audio = True

    command = _command(
        commands,
        "decode",
        ".esd files to audio",
        """  esdcodec decode talk.esd                          writes talk.wav, at the recording's own rate
  esdcodec decode talk.esd -o talk.mp3              the format that the name says
  esdcodec decode coded/ -o decoded --format flac   a folder, mirrored
  esdcodec decode damaged.esd --recover             what is lost is silent, and told
  esdcodec encode - < talk.wav | esdcodec decode - > decoded.wav""",
    )
    _add_files(command, sources, None)
    command.add_argument(
        "--format", choices=AUDIO_FORMATS, help="of what is written (default: that of --output, or wav)"
    )
    command.add_argument("--sample-rate", type=int, help="Hz of what is written (default: the recording's)")
    command.add_argument("--recover", action="store_true", help="decode what is whole of a damaged file")
    _add_model(command)
    command.set_defaults(run=run_decode)

    command = _command(
        commands,
        "roundtrip",
        "encode and decode, to hear what the codec does",
        """  esdcodec roundtrip                                 the bundled recording from 3 codebooks, with a picture
  esdcodec roundtrip talk.mp3 -n 8                   one file, from 8 codebooks
  esdcodec roundtrip corpus/ more.lst --output out   a folder (mirrored) and a list of files
  esdcodec roundtrip talk.mp3 --model 25hz_v1        the published model, downloaded once""",
    )
    command.add_argument("sources", nargs="*", metavar="SOURCE", help=f"{sources}; default: a bundled recording")
    _add_n_quantizers(command)
    _add_gain(command)
    command.add_argument("-o", "--output", default="reconstructed", help="folder (default: %(default)s)")
    command.add_argument("--jobs", type=int, default=1, help="processes, each with its share of the cores")
    command.add_argument("--plot", action="store_true", help="also write a PNG with both spectrograms and the codes")
    _add_existing(command)
    _add_model(command)
    command.set_defaults(run=run_roundtrip)
    command.reads_audio = True

    command = _command(
        commands,
        "info",
        "what .esd files hold, without a model",
        "  esdcodec info talk.esd\n  esdcodec info coded/ --json",
    )
    command.add_argument("sources", nargs="+", metavar="SOURCE", help=".esd files, folders, globs, lists")
    command.add_argument("--check", action="store_true", help="read every block and check it")
    command.add_argument("--json", action="store_true", help="one JSON object a file")
    command.set_defaults(run=run_info)

    command = _command(
        commands,
        "transcode",
        "drop codebooks from .esd files, without decoding",
        """  esdcodec transcode talk.esd -n 1 -o semantic.esd
  esdcodec transcode coded/ -n 3 -o smaller""",
    )
    _add_files(command, ".esd files, folders, globs, lists, or -", "file, folder, or -")
    command.add_argument("-n", "--n-quantizers", type=int, required=True, help="codebooks to keep")
    command.set_defaults(run=run_transcode)

    command = _command(
        commands,
        "plot",
        "a picture of an original, what comes of it, the subband signal and the codes",
        "  esdcodec plot talk.wav -o talk.png\n  esdcodec plot talk.wav -o talk.svg -n 8",
    )
    command.add_argument("source", metavar="AUDIO")
    command.add_argument("-o", "--output", required=True, help=".png, .svg or .pdf")
    _add_n_quantizers(command)
    _add_existing(command)
    _add_model(command)
    command.set_defaults(run=run_plot)

    command = _command(
        commands,
        "download",
        "fetch models now, to use them without a network later",
        "  esdcodec download 25hz_v1\n  esdcodec download owner/name --revision v2",
    )
    command.add_argument("models", nargs="+", metavar="MODEL", help="published name or Hub id")
    command.add_argument("--revision", help="branch, tag or commit")
    command.set_defaults(run=run_download)

    add_evaluate(commands)  # type: ignore[arg-type]
    command = _command(
        commands,
        "train",
        "train a codec (needs the extra [train])",
        """  esdcodec train --config-name=esdcodec_smoke machine.shards=SHARDS    two steps of everything, to try
  esdcodec train --config-name=esdcodec_train trainer.batch_size=3      the published model, on one GPU
  esdcodec train --config-name=esdcodec_train --cfg job                 all settings, with what they are set to
  accelerate launch --num_processes=8 -m esdcodec.train …               the same arguments, on eight GPUs""",
    )
    command.add_argument("--config-name", default="esdcodec_train", help=f"one of {', '.join(config_names())}")
    command.add_argument("--config-dir", help="folder of more configurations, of your own")
    command.add_argument("--cfg", choices=("job",), help="print the configuration instead")
    command.add_argument("overrides", nargs="*", metavar="group.key=value", help="settings; --hydra-help tells more")
    return main


# ---- encode, decode, roundtrip, transcode: many files ----------------------------------------------------------------


def run_encode(args: argparse.Namespace) -> int:
    from ..audio import EXTENSIONS
    from .batch import run
    from .tasks import Encode

    format = _format_of(args, CODE_FORMATS)
    task = Encode(**_model_of(args), n_quantizers=args.n_quantizers, format=format, gain_db=args.gain)
    return run(args, task, EXTENSIONS, CODE_FORMATS)


def run_decode(args: argparse.Namespace) -> int:
    from ..bitstream import MAX_RATE, MIN_RATE
    from .batch import run
    from .sinks import FORMATS
    from .tasks import Decode

    if args.sample_rate is not None and not MIN_RATE <= args.sample_rate <= MAX_RATE:
        raise UsageError(f"--sample-rate {args.sample_rate} must be {MIN_RATE} to {MAX_RATE} Hz")
    format = _format_of(args, AUDIO_FORMATS)
    rates = FORMATS[format].rates
    if args.sample_rate and rates and args.sample_rate not in rates:
        raise UsageError(f"--sample-rate {args.sample_rate}: {format} has {', '.join(map(str, rates))} Hz alone")
    task = Decode(**_model_of(args), format=format, sample_rate=args.sample_rate, recover=args.recover)
    return run(args, task, (".esd",), AUDIO_FORMATS)


def run_roundtrip(args: argparse.Namespace) -> int:
    from ..audio import EXTENSIONS
    from .batch import run
    from .tasks import Roundtrip

    demonstration = not args.sources
    if demonstration:  # `python infer.py`, as often as one likes
        args.sources, args.overwrite = [SAMPLE], not args.skip_existing
    task = Roundtrip(
        **_model_of(args),
        n_quantizers=3 if demonstration and args.n_quantizers is None else args.n_quantizers,  # what the codec is for
        picture=args.plot or (demonstration and find_spec("matplotlib") is not None),
        gain_db=args.gain,
    )
    code = run(args, task, EXTENSIONS, ())
    if demonstration and not args.json:
        print("The published model, of 110 M parameters, sounds better: add `--model 25hz_v1` (downloads 0.4 GB once).")
    return code


def run_transcode(args: argparse.Namespace) -> int:
    from .batch import run
    from .tasks import Transcode

    if args.output is None:
        raise UsageError("say with --output where to write")
    return run(args, Transcode(args.n_quantizers), (".esd",), ("esd",))


def _format_of(args: argparse.Namespace, formats: Sequence[str]) -> str:
    """The format that --output names by its extension, or --format, or the first one."""
    from .batch import names_folder

    named = "" if args.output is None or names_folder(args.output) else Path(args.output).suffix[1:].lower()
    if named not in formats:
        return str(args.format or formats[0])
    if args.format not in (None, named):
        raise UsageError(f"--output {args.output} and --format {args.format} are two formats: leave one out")
    return named


def _model_of(args: argparse.Namespace) -> dict[str, Any]:
    if args.chunk_seconds <= 0 or (args.batch_seconds is not None and args.batch_seconds <= 0):
        raise UsageError("--chunk-seconds and --batch-seconds must be positive")
    return {
        "model": args.model,
        "device": args.device,
        "dtype": args.dtype,
        "chunk_seconds": args.chunk_seconds,
        "batch_seconds": args.batch_seconds,
    }


# ---- info, plot, download --------------------------------------------------------------------------------------------


def run_info(args: argparse.Namespace) -> int:
    from ..bitstream import BitstreamError
    from .files import find_jobs, printable
    from .info import describe, table

    found = find_jobs(args.sources, (".esd",))
    failed = {str(path): why for path, why in found.failed.items()}
    for job in found:
        try:
            facts = describe(job.source, check=args.check)
        except Exception as error:
            failed[str(job.source)] = str(error) if isinstance(error, BitstreamError | OSError) else repr(error)
            continue
        print(json.dumps(facts) if args.json else table(facts), flush=True)
    for line in found.report():
        print(f"left out   {printable(line)}", file=sys.stderr)
    for source, why in failed.items():
        print(f"failed     {printable(source)}: {printable(why)}", file=sys.stderr)
    return 1 if failed else 0


def run_plot(args: argparse.Namespace) -> int:
    from .batch import wanted
    from .files import printable
    from .tasks import Roundtrip

    target = Path(args.output)
    if target.suffix not in (".png", ".svg", ".pdf"):
        raise UsageError(f"--output {target} must end in .png, .svg or .pdf")
    if not wanted([target], overwrite=args.overwrite, skip_existing=args.skip_existing):
        return 0
    task = Roundtrip(**_model_of(args), n_quantizers=args.n_quantizers, picture=True)
    task.start(threads=None)
    task.draw(Path(args.source), target)
    print(json.dumps({"written": str(target)}) if args.json else f"written    {printable(target)}")
    return 0


def run_download(args: argparse.Namespace) -> int:
    from ..weights import find

    for model in args.models:
        print(f"{model:12} {find(model, args.revision)}")
    return 0


# ---- all of them -----------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["train"] and not {"-h", "--help"} & set(argv):
        from ..train import main as train

        return train(argv[1:])  # Hydra reads these arguments
    args = parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int]
    if args.command == "evaluate":
        from ..evaluation.cli import run
    else:
        run = args.run
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no reason to stop
    handlers = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        return run(args)
    except SystemExit:
        print("stopped", file=sys.stderr)
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still to be written goes nowhere
        return 1
    except (UsageError, OSError, ValueError, RuntimeError) as error:  # no such model, no place to write
        from .files import printable

        print("esdcodec:", "\n".join(map(printable, str(error).split("\n"))), file=sys.stderr)
        return 2
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
