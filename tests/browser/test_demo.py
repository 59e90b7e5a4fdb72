"""`esdcodec demo` as a visitor sees it, on a phone and at a desk."""

import re

import pytest

pytest.importorskip("gradio")

from esdcodec.app.page import make_page, serve_page
from esdcodec.app.settings import DemoSettings
from tests.conftest import write_speech


@pytest.fixture(scope="module")
def url(codec, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        settings = DemoSettings(port=0, max_seconds=5.0)
        page = make_page(codec, settings)
        yield serve_page(page, settings)
        page.close()


@pytest.fixture
def demo(tab, url):
    tab.goto(url)
    tab.get_by_role("button", name="Encode and decode").wait_for()
    return tab


def upload(demo, file):
    demo.get_by_role("button", name="Upload file").first.click()
    demo.locator("input[type=file]").first.set_input_files(str(file))
    demo.get_by_role("button", name="Reset audio").or_(demo.get_by_label("Play", exact=True)).first.wait_for()


def press(demo):
    demo.get_by_role("button", name="Encode and decode").click()


def fits(demo):
    """Nothing is wider than the screen."""
    return demo.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_file_is_uploaded_and_its_versions_are_played_and_seen(demo, codec, tmp_path):
    upload(demo, write_speech(tmp_path / "talk.wav", 1.0, rate=16000))
    press(demo)
    for title in ("Original", "n = 1", "n = 3"):
        demo.get_by_role("heading", name=title, exact=True).wait_for()
    assert demo.get_by_text("32,000 bytes").is_visible()
    assert demo.get_by_text(f"its codes alone: {codec.bitrate(3):,.0f} bit/s").is_visible()
    versions = demo.locator(".versions")
    for shown in (versions.get_by_label("Play", exact=True), versions.locator("img")):
        shown.nth(2).wait_for()
        assert shown.count() == 3
    assert demo.get_by_role("button", name=re.compile("ownload")).count() > 3
    assert fits(demo)


def test_a_sentence_is_recorded(launch, url, tmp_path):
    said = write_speech(tmp_path / "said.wav", 3.0, rate=48000)
    browser = launch(f"--use-file-for-fake-audio-capture={said}")
    demo = browser.new_page(viewport={"width": 390, "height": 844})
    demo.goto(url)
    demo.get_by_role("button", name="Record", exact=True).click()
    demo.wait_for_timeout(1500)
    demo.get_by_role("button", name="Stop", exact=True).first.click()
    demo.get_by_label("Play", exact=True).first.wait_for()
    press(demo)
    demo.get_by_role("heading", name="n = 1", exact=True).wait_for()
    browser.close()


def test_what_is_not_possible_is_a_sentence(demo, tmp_path):
    press(demo)
    demo.get_by_text("Record something, or upload a file.").wait_for()
    upload(demo, write_speech(tmp_path / "long.flac", 6.0, rate=8000))
    press(demo)
    demo.get_by_text("The recording is longer than 5 s: cut it, or take another one.").wait_for()
    assert fits(demo)
