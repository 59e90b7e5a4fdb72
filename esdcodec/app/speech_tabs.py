"""The tabs of a model that speaks: text, a voice from a clip, another voice for a recording."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio
import numpy as np

from .codec_tab import audio_input, samples_of
from .compare import read_recording
from .sentences import sentence, told_as_sentences
from .settings import DemoSettings

if TYPE_CHECKING:
    from ..tts import Speech, TextToSpeech

ONE_AT_A_TIME: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "codec"}
ENDS = {
    "end": "",
    "length": "It became too long, and was cut: try another seed.",
    "loop": "It repeated itself, and was cut: try another seed.",
}


def add_speech_tabs(tts: "TextToSpeech", settings: DemoSettings) -> None:
    """The tabs, into the page that is being made."""
    with gradio.Tab("Speak"):
        _add_text_tab(tts, settings)
    with gradio.Tab("Voice"):
        _add_voice_tab(tts, settings)
    with gradio.Tab("Convert"):
        _add_conversion_tab(tts, settings)


def _add_text_tab(tts: "TextToSpeech", settings: DemoSettings) -> None:
    with gradio.Row():
        with gradio.Column(min_width=300):
            text = _text_input("Text", settings)
        with gradio.Column(min_width=300):
            voice, seed = _voice_choice(tts), _seed()
            start = gradio.Button("Say it", variant="primary")
    said, why = _output()

    def run(text: str, voice: str | None, seed: float | None) -> list[Any]:
        with _checked(text, settings):
            return _shown(tts(text, _of_the_model(tts, voice), seed=int(seed or 0)))

    start.click(run, [text, voice, seed], [said, why], api_name="speak", **ONE_AT_A_TIME)


def _add_voice_tab(tts: "TextToSpeech", settings: DemoSettings) -> None:
    with gradio.Row():
        with gradio.Column(min_width=300):
            clip = audio_input("One speaker, 5 to 10 s")
            words = gradio.Textbox(label="What is said in it, word for word", lines=2)
            agreed = gradio.Checkbox(label="The speaker agreed that speech is made in this voice")
        with gradio.Column(min_width=300):
            text, seed = _text_input("What the voice is to say", settings), _seed()
            start = gradio.Button("Make the voice and speak", variant="primary")
    said, why = _output()
    file = gradio.File(label="The voice, for `esdcodec speak --voice`", visible=False)

    def run(clip: str | None, words: str, agreed: bool, text: str, seed: float | None) -> list[Any]:
        from ..tts import Voice

        if not agreed:
            raise sentence("Confirm that the speaker agreed")
        with _checked(text, settings, clip):
            if not words.strip():
                raise ValueError("write what is said in the clip, word for word")
            voice = Voice.from_audio(str(clip), words, codec=tts.codec, name="voice", consent="agreed")
            speech = tts(text, voice, seed=int(seed or 0))
            target = Path(str(clip)).parent / "my.voice"  # goes when the clip goes
            voice.save(target)
        return [*_shown(speech), gradio.update(value=str(target), visible=True)]

    start.click(run, [clip, words, agreed, text, seed], [said, why, file], api_name="voice", **ONE_AT_A_TIME)


def _add_conversion_tab(tts: "TextToSpeech", settings: DemoSettings) -> None:
    with gradio.Row():
        with gradio.Column(min_width=300):
            recording = audio_input("Recording")
        with gradio.Column(min_width=300):
            voice = _voice_choice(tts)
            start = gradio.Button("Say the same in this voice", variant="primary")
    said, why = _output()

    def run(recording: str | None, voice: str | None) -> list[Any]:
        with _checked("any", settings, recording):
            return _shown(tts.convert(str(recording), _of_the_model(tts, voice)))

    start.click(run, [recording, voice], [said, why], api_name="convert", **ONE_AT_A_TIME)


# ---- parts -----------------------------------------------------------------------------------------------------------


def _text_input(label: str, settings: DemoSettings) -> gradio.Textbox:
    return gradio.Textbox(
        "People choose a codec by hearing it.", label=label, lines=3, max_length=settings.max_characters
    )


def _voice_choice(tts: "TextToSpeech") -> gradio.Dropdown:
    return gradio.Dropdown(list(tts.voices), value=tts.default_voice, label="Voice", visible=bool(tts.voices))


def _seed() -> gradio.Number:
    return gradio.Number(
        1, label="Seed", info="Another one says it in another way.", precision=0, minimum=0, maximum=2**31
    )


def _output() -> tuple[gradio.Audio, gradio.Markdown]:
    said = gradio.Audio(label="Generated speech", interactive=False, buttons=["download"])
    return said, gradio.Markdown()


def _of_the_model(tts: "TextToSpeech", voice: str | None) -> str | None:
    """The name of a voice; a path would be one of the server's.

    Raises:
        ValueError: the model has no such voice.
    """
    if voice is not None and voice not in tts.voices:
        raise ValueError("choose one of the model's voices")
    return voice


@contextmanager
def _checked(text: str, settings: DemoSettings, *files: str | None) -> Iterator[None]:
    """Around what is done with a text, and with a recording if there is one.

    Raises:
        gradio.Error: what the page shows as a sentence.
    """
    for file in files:
        if file is None:
            raise sentence("Record something, or upload a file")
    with told_as_sentences(*files):
        if len(text) > settings.max_characters:
            raise ValueError(f"the text has more than {settings.max_characters} characters: shorten it")
        for file in files:
            read_recording(str(file), settings.max_seconds)
        yield


def _shown(speech: "Speech") -> list[Any]:
    return [(speech.sample_rate, samples_of(np.asarray(speech))), ENDS[speech.stop]]
