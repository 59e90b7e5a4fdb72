"""The page: a recording in, and the original and several numbers of codebooks beside each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio
import numpy as np

from ..audio import AudioFileError, Waveform
from ..codec import ESDCodec
from ..errors import ESDCodecError
from ..evaluation.plot import codes_image, spectrogram_image
from .compare import Comparison, Version, compare

SAMPLE = Path(__file__).parents[1] / "assets" / "sample.flac"
FIRST_CHOICE = (1, 3, 8, 12)
KEPT_SECONDS = 3600  # that recordings stay on the disk of the server
ERROR_SECONDS = 20  # that a sentence is shown
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")  # of the system: nothing of other hosts


@dataclass(frozen=True)
class DemoSettings:
    """Where the page is served, and what it takes."""

    host: str = "127.0.0.1"
    port: int = 7860  # 0: one that is free
    max_seconds: float = 30.0  # of a recording
    max_megabytes: float = 20.0  # of a file
    queue: int = 16  # recordings that wait; one is coded at a time


def make_page(codec: ESDCodec, settings: DemoSettings) -> gradio.Blocks:
    """The page, not yet served."""
    first_choice = [n for n in FIRST_CHOICE if n <= codec.n_codebooks]
    with gradio.Blocks(title="ESDCodec", analytics_enabled=False, delete_cache=(600, KEPT_SECONDS)) as page:
        gradio.Markdown(
            f"# ESDCodec\nSpeech as {codec.frame_rate:g} frames of integers a second. Record or upload up to "
            f"{settings.max_seconds:g} s, and hear what each number of codebooks keeps. Model: {codec.name}."
        )
        with gradio.Row():
            with gradio.Column(min_width=300):
                recording = gradio.Audio(sources=["microphone", "upload"], type="filepath", label="Recording")
                gradio.Examples([[str(SAMPLE)]], [recording], label="Or a recorded sentence")
            with gradio.Column(min_width=300):
                chosen = gradio.CheckboxGroup(
                    [(str(n), n) for n in range(1, codec.n_codebooks + 1)],
                    value=first_choice,
                    label="Codebooks",
                    info="The first one alone is semantic; each of the others adds detail.",
                )
                start = gradio.Button("Encode and decode", variant="primary")
        problems = gradio.Markdown(visible=False)
        with gradio.Row():
            original = _Slot("Original")
            versions = [_Slot(f"{n} codebook{'s' * (n > 1)}") for n in range(1, codec.n_codebooks + 1)]
        codes = gradio.Image(label="Codes", visible=False, format="png", buttons=["download", "fullscreen"])

        def run(file: str | None, numbers: Sequence[int]) -> list[Any]:
            comparison = _compare(codec, file, numbers, settings.max_seconds)
            by_number = {version.n_quantizers: version for version in comparison.versions}
            shown = _original(original, comparison)
            for n, slot in enumerate(versions, 1):
                shown += _version(slot, comparison, by_number[n]) if n in by_number else slot.hidden()
            picture = codes_image(comparison.codes, codec.codebook_sizes, comparison.seconds)
            damage = gradio.update(value="; ".join(comparison.problems), visible=bool(comparison.problems))
            return [damage, *shown, gradio.update(value=picture, visible=True)]

        outputs = [problems, *original.parts, *(part for slot in versions for part in slot.parts), codes]
        start.click(run, [recording, chosen], outputs, api_name="compare", concurrency_limit=1)
    return page.queue(max_size=settings.queue)


def serve_page(page: gradio.Blocks, settings: DemoSettings) -> str:
    """Serve the page from a thread of its own; returns its URL.

    Raises:
        OSError: the port is taken.
    """
    _, url, _ = page.launch(
        server_name=settings.host,
        server_port=settings.port or None,
        theme=gradio.themes.Default(font=FONTS, font_mono=("ui-monospace", "monospace")),
        footer_links=[],
        max_file_size=int(settings.max_megabytes * 1e6),
        quiet=True,
        share=False,
        ssr_mode=False,
        prevent_thread_lock=True,
    )
    return str(url)


class _Slot:
    """Where one version is shown: its numbers, a player and a spectrogram."""

    def __init__(self, title: str) -> None:
        self.title = title
        with gradio.Column(min_width=300, visible=False) as column:
            about = gradio.Markdown()
            player = gradio.Audio(label=title, interactive=False, buttons=["download"])
            picture = gradio.Image(show_label=False, format="png", buttons=["download", "fullscreen"])
        self.parts = [column, about, player, picture]

    def shown(self, about: str, audio: Waveform, sample_rate: int) -> list[Any]:
        """The values of its parts."""
        samples = (np.clip(audio, -1, 1) * 32767).astype(np.int16)
        picture = spectrogram_image(audio, sample_rate, self.title)
        return [gradio.update(visible=True), about, (sample_rate, samples), picture]

    def hidden(self) -> list[Any]:
        return [gradio.update(visible=False), "", None, None]


def _original(slot: _Slot, comparison: Comparison) -> list[Any]:
    n_bytes, rate = 2 * len(comparison.original), comparison.sample_rate
    about = f"### Original\n**{n_bytes:,} bytes**, {16 * rate:,} bit/s  \n16-bit samples"
    return slot.shown(about, comparison.original, rate)


def _version(slot: _Slot, comparison: Comparison, version: Version) -> list[Any]:
    rate = 8 * version.n_bytes / comparison.seconds
    about = (
        f"### n = {version.n_quantizers}\n**{version.n_bytes:,} bytes**, {rate:,.0f} bit/s  \n"
        f"its codes alone: {version.bitrate:,.0f} bit/s"
    )
    return slot.shown(about, version.audio, comparison.sample_rate)


def _compare(codec: ESDCodec, file: str | None, numbers: Sequence[int], max_seconds: float) -> Comparison:
    """
    Raises:
        gradio.Error: what the page shows as a sentence.
    """
    if file is None:
        raise _sentence("Record something, or upload a file")
    try:
        return compare(codec, file, numbers, max_seconds)
    except AudioFileError as error:
        raise _sentence(f"{Path(file).name}{str(error).removeprefix(str(file))}") from error
    except (ESDCodecError, ValueError) as error:
        raise _sentence(str(error)[:1].upper() + str(error)[1:]) from error


def _sentence(message: str) -> gradio.Error:
    return gradio.Error(f"{message}.", duration=ERROR_SECONDS, print_exception=False)
