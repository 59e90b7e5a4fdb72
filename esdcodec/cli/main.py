"""The command line `esdcodec`.

Exit codes: 0 all done; 1 some files failed, each named with the reason; 2 the command itself was wrong; 130 and 143
stopped by Ctrl-C and by SIGTERM, with no half file left.
"""

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence

from ..processes import SIGNALS, stop
from . import (
    convert,
    decode,
    demo,
    download,
    encode,
    evaluate,
    evaluate_tts,
    index,
    info,
    plot,
    roundtrip,
    serve,
    speak,
    tokenise,
    train,
    transcode,
    voice,
)
from .parsing import EXIT_CODES, Command
from .terminal import printable

COMMANDS = (
    encode,
    decode,
    roundtrip,
    info,
    transcode,
    plot,
    speak,
    convert,
    voice,
    download,
    tokenise,
    evaluate,
    evaluate_tts,
    index,
    train,
    serve,
    demo,
)
ALIASES = {"tokenize": "tokenise"}


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(
        prog="esdcodec",
        description="24 kHz speech to 25 frames of codes a second, and back; speech from text",
        epilog=EXIT_CODES,
    )
    commands = main.add_subparsers(dest="command", required=True, parser_class=Command)
    for command in COMMANDS:
        command.add_parser(commands)
    return main


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command as the arguments (default: those of this process) say; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    argv = [ALIASES.get(word, word) for word in argv[:1]] + list(argv[1:])
    if argv[:1] == ["train"] and not {"-h", "--help"} & set(argv):
        return train.main(argv[1:])  # Hydra reads these arguments
    args = parser().parse_args(argv)
    start: Callable[[argparse.Namespace], int] = args.start
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no reason to stop
    handlers = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        return start(args)
    except SystemExit:
        print("stopped", file=sys.stderr)
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still to be written goes nowhere
        return 1
    except (
        OSError,
        ValueError,
        RuntimeError,
        ImportError,
    ) as error:  # no such model, a folder that cannot be written, a wrong option, an extra that is not installed
        print("esdcodec:", "\n".join(map(printable, str(error).split("\n"))), file=sys.stderr)
        return 2
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
