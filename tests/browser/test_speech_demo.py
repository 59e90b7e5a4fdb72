"""The tabs of a model that speaks, as a visitor sees them, on a phone and at a desk."""

import pytest

pytest.importorskip("gradio")

from esdcodec.app.page import make_page, serve_page
from esdcodec.app.settings import DemoSettings
from tests.speaking import make_speaking_model


@pytest.fixture(scope="module")
def url(codec, model, tmp_path_factory):
    folder = make_speaking_model(codec, model, tmp_path_factory.mktemp("speaking"))
    from esdcodec.tts import load_tts

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        settings = DemoSettings(port=0)
        page = make_page(codec, settings, load_tts(folder, codec=codec))
        yield serve_page(page, settings)
        page.close()


def test_a_text_is_said_and_played(tab, url):
    tab.goto(url)
    tab.get_by_role("tab", name="Speak").first.click()
    tab.get_by_label("Text", exact=True).fill("A sentence.")
    tab.get_by_role("button", name="Say it").click()
    tab.get_by_label("Play", exact=True).filter(visible=True).first.wait_for()
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_voice_is_made_only_of_who_agreed(tab, url):
    tab.goto(url)
    tab.get_by_role("tab", name="Voice").first.click()
    tab.get_by_text("Make the voice and speak").click()
    tab.get_by_text("Confirm that the speaker agreed.").wait_for()
