"""`esdcodec download`: fetch models now, to use them without a network later."""

import argparse
from collections.abc import Sequence

from .parsing import Command, Commands, add_command

EXAMPLES = "  esdcodec download 25hz_v1\n  esdcodec download owner/name --revision v2"


def add_parser(commands: "Commands[Command]") -> None:
    help = "fetch models now, to use them without a network later"
    command = add_command(commands, "download", help, EXAMPLES, start)
    command.add_argument("models", nargs="+", metavar="MODEL", help="published name or Hub id")
    command.add_argument("--revision", help="branch, tag or commit")


def start(args: argparse.Namespace) -> int:
    return run(args.models, args.revision)


def run(models: Sequence[str], revision: str | None) -> int:
    from ..weights import find

    for model in models:
        print(f"{model:12} {find(model, revision)}")
    return 0
