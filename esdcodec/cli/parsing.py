"""Parsers of the subcommands: examples, defaults, exit codes, and a suggestion for an unknown option."""

import argparse
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

EXIT_CODES = "exit codes: 0 all done, 1 some files failed (named at the end), 2 wrong command, 130/143 stopped"


class Help(argparse.RawDescriptionHelpFormatter):
    """Examples as they are written, and after each option its default."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        shown = action.default not in (None, False, argparse.SUPPRESS, []) and "(default" not in (action.help or "")
        return f"{action.help or ''} (default: %(default)s)" if shown else action.help


class Command(argparse.ArgumentParser):
    """The parser of a subcommand. It reports unknown options itself, with its own usage."""

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


Commands = argparse._SubParsersAction  # of `Command`


def add_command(
    commands: "Commands[Command]", name: str, help: str, examples: str, start: Callable[[argparse.Namespace], int]
) -> Command:
    """A subcommand; `start` turns its arguments into settings, runs it and returns the exit code."""
    command: Command = commands.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ".",
        epilog=f"examples:\n{examples}\n\n{EXIT_CODES}",
        formatter_class=Help,
    )
    command.set_defaults(start=start)
    return command
