"""The tabs of a model that speaks, by Gradio's own client: speech, voices, and a sentence for what is not possible."""

import re

import numpy as np
import pytest
import soundfile

from tests.conftest import write_speech
from tests.speaking import make_speaking_model

gradio_client = pytest.importorskip("gradio_client")

from esdcodec.app.page import make_page, serve_page  # noqa: E402
from esdcodec.app.settings import DemoSettings  # noqa: E402


@pytest.fixture(scope="module")
def tts(codec, model, tmp_path_factory):
    folder = make_speaking_model(codec, model, tmp_path_factory.mktemp("speaking"))
    from esdcodec.tts import load_tts

    return load_tts(folder, codec=codec)


@pytest.fixture(scope="module")
def ask(codec, tts, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        settings = DemoSettings(port=0, max_seconds=5.0, max_characters=80)
        page = make_page(codec, settings, tts)
        url = serve_page(page, settings)
        client = gradio_client.Client(url, download_files=str(tmp_path_factory.mktemp("downloads")), verbose=False)
        yield lambda name, *inputs: client.predict(*inputs, api_name=f"/{name}")
        page.close()


def handle(file):
    return file and gradio_client.handle_file(str(file))


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    return write_speech(tmp_path_factory.mktemp("talk") / "talk.wav", 1.5)


def samples(file) -> np.ndarray:
    return soundfile.read(file["value"] if isinstance(file, dict) else file, dtype="float32")[0]


def test_a_text_is_said_in_the_chosen_voice(ask, tts):
    said, _ = ask("speak", "A sentence.", "he", 3)
    assert np.abs(samples(said) - np.asarray(tts("A sentence.", "he", seed=3))).max() < 1e-3


def test_a_seed_that_was_struck_out_is_the_first_one(ask):
    assert np.array_equal(*(samples(ask("speak", "A sentence.", "he", seed)[0]) for seed in (None, 0)))


def test_a_clip_becomes_a_voice_that_speaks_and_can_be_taken_along(ask, tts, talk):
    said, _, file = ask("voice", handle(talk), "What she says.", True, "Text.", 1)
    again = tts("Text.", tts.voice(file["value"] if isinstance(file, dict) else file), seed=1)
    assert np.abs(samples(said) - np.asarray(again)).max() < 1e-3


def test_a_recording_is_said_in_another_voice(ask, tts, talk):
    said, _ = ask("convert", handle(talk), "he")
    assert len(samples(said)) == len(samples(talk))


@pytest.mark.parametrize(
    ("name", "inputs", "words"),
    [
        ("speak", (" ", "he", 1), "nothing to say"),
        ("speak", ("long " * 20, "he", 1), "more than 80 characters"),
        ("voice", (None, "Words.", True, "Text.", 1), "Record something, or upload a file."),
        ("voice", ("talk", "Words.", False, "Text.", 1), "Confirm that the speaker agreed."),
        ("voice", ("talk", " ", True, "Text.", 1), "Write what is said in the clip, word for word."),
        ("voice", ("short", "Words.", True, "Text.", 1), "short.wav has 0.30 s"),
        ("convert", ("long", "he"), "The recording is longer than 5 s: cut it, or take another one."),
        ("convert", (None, "he"), "Record something, or upload a file."),
    ],
)
def test_what_is_not_possible_is_a_sentence(ask, talk, tmp_path, name, inputs, words):
    files = {
        "talk": talk,
        "short": write_speech(tmp_path / "short.wav", 0.3),
        "long": write_speech(tmp_path / "long.flac", 6.0, rate=8000),
    }
    first, *rest = inputs
    given = handle(files[first]) if first in files else first
    with pytest.raises(Exception, match=re.escape(words)) as raised:
        ask(name, given, *rest)
    assert "/" not in str(raised.value)


def test_a_path_is_no_voice(ask, talk):
    with pytest.raises(Exception, match=r"not in the list|one of the model's voices"):
        ask("speak", "Text.", str(talk), 1)
