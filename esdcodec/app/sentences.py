"""Errors as the page shows them: a sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gradio

from ..audio import AudioFileError
from ..errors import ESDCodecError

SHOWN_SECONDS = 20


def sentence(message: str) -> gradio.Error:
    """An error that the page shows as a sentence."""
    return gradio.Error(f"{message.rstrip('.')}.", duration=SHOWN_SECONDS, print_exception=False)


@contextmanager
def told_as_sentences(file: str | None = None) -> Iterator[None]:
    """What was wrong with what the visitor gave, without the folder of the server that `file` is in.

    Raises:
        gradio.Error: what the page shows as a sentence.
    """
    try:
        yield
    except AudioFileError as error:
        name = Path(file).name if file else ""
        raise sentence(f"{name}{str(error).removeprefix(str(file))}") from error
    except (ESDCodecError, ValueError) as error:
        raise sentence(str(error)[:1].upper() + str(error)[1:]) from error
