"""Errors as the page shows them: a sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gradio

from ..errors import ESDCodecError

SHOWN_SECONDS = 20


def sentence(message: str) -> gradio.Error:
    """An error that the page shows as a sentence."""
    return gradio.Error(f"{message.rstrip('.')}.", duration=SHOWN_SECONDS, print_exception=False)


@contextmanager
def told_as_sentences(*files: str | None) -> Iterator[None]:
    """What was wrong with what the visitor gave, without the folder of the server that `files` are in.

    Raises:
        gradio.Error: what the page shows as a sentence.
    """
    try:
        yield
    except (ESDCodecError, ValueError) as error:
        message, names = str(error), [Path(file).name for file in files if file]
        for file, name in zip(filter(None, files), names):
            message = message.replace(file, name)
        begins_with_name = message.startswith(tuple(names))
        raise sentence(message if begins_with_name else message[:1].upper() + message[1:]) from error
