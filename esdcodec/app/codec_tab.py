"""The codec's tab: a recording in, and the original and several numbers of codebooks beside each other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio
import numpy as np

from ..audio import Waveform
from ..codec import ESDCodec
from ..evaluation.plot import codes_image, panels_image
from .compare import Comparison, Version, compare
from .sentences import sentence, told_as_sentences
from .settings import DemoSettings

SAMPLE = Path(__file__).parents[1] / "assets" / "sample.flac"
FIRST_CHOICE = (1, 3, 8, 12)


def add_codec_tab(codec: ESDCodec, settings: DemoSettings) -> None:
    """The tab, into the page that is being made."""
    first_choice = [n for n in FIRST_CHOICE if n <= codec.n_codebooks]
    with gradio.Row():
        with gradio.Column(min_width=300):
            recording = audio_input("Recording")
        with gradio.Column(min_width=300):
            chosen = gradio.CheckboxGroup(
                [(str(n), n) for n in range(1, codec.n_codebooks + 1)],
                value=first_choice,
                label="Codebooks",
                info="The first one alone is semantic; each of the others adds detail.",
            )
            start = gradio.Button("Encode and decode", variant="primary")
    problems = gradio.Markdown(visible=False)
    with gradio.Row(elem_classes="versions"):
        original = _Slot("Original")
        versions = [_Slot(f"{n} codebook{'s' * (n > 1)}") for n in range(1, codec.n_codebooks + 1)]
    codes = gradio.Image(label="Codes", visible=False, format="png", buttons=["download", "fullscreen"])

    def run(file: str | None, numbers: Sequence[int]) -> list[Any]:
        if file is None:
            raise sentence("Record something, or upload a file")
        with told_as_sentences(file):
            comparison = compare(codec, file, numbers, settings.max_seconds)
        by_number = {version.n_quantizers: version for version in comparison.versions}
        shown = _original(original, comparison)
        for n, slot in enumerate(versions, 1):
            shown += _version(slot, comparison, by_number[n]) if n in by_number else slot.hidden()
        picture = codes_image(comparison.codes, codec.codebook_sizes, comparison.seconds)
        damage = gradio.update(value="; ".join(comparison.problems), visible=bool(comparison.problems))
        return [damage, *shown, gradio.update(value=picture, visible=True)]

    outputs = [problems, *original.parts, *(part for slot in versions for part in slot.parts), codes]
    start.click(run, [recording, chosen], outputs, api_name="compare", concurrency_limit=1, concurrency_id="codec")


def audio_input(label: str) -> gradio.Audio:
    """Where a recording is made or uploaded, or the bundled one taken."""
    recording = gradio.Audio(sources=["microphone", "upload"], type="filepath", label=label, buttons=["download"])
    gradio.Examples(
        [[str(SAMPLE)]],
        [recording],
        example_labels=["A telephone prompt"],
        label="Or an example",
        api_visibility="private",
    )
    return recording


def samples_of(audio: Waveform) -> np.ndarray:
    """16-bit samples, as players take them."""
    return (np.clip(audio, -1, 1) * 32767).astype(np.int16)


class _Slot:
    """Where one version is shown: its numbers, a player and a spectrogram."""

    def __init__(self, title: str) -> None:
        with gradio.Column(min_width=300, visible=False) as column:
            about = gradio.Markdown()
            player = gradio.Audio(label=title, interactive=False, buttons=["download"])
            picture = gradio.Image(show_label=False, format="png", buttons=["download", "fullscreen"])
        self.parts = [column, about, player, picture]

    def shown(self, about: str, audio: Waveform, sample_rate: int, *more: tuple[Waveform, int, str]) -> list[Any]:
        """The values of its parts; `more` signals are drawn below the spectrogram."""
        picture = panels_image((audio, sample_rate, "audio"), *more)
        return [gradio.update(visible=True), about, (sample_rate, samples_of(audio)), picture]

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
    subband = version.subband, comparison.subband_sample_rate, "subband that guides the decoder"
    return slot.shown(about, version.audio, comparison.sample_rate, subband)
