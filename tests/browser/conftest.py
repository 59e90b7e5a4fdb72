"""A real headless Chromium, driven by Playwright: Debian's, or the one that CHROMIUM names.

Where one of them is missing the tests are skipped.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PATIENCE

PLACES = ("chromium", "chromium-browser", "google-chrome")
MICROPHONE = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")  # allowed without a question
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("browser")


@pytest.fixture(scope="session")
def launch():
    """Starts Chromium with more arguments: `launch("--use-file-for-fake-audio-capture=talk.wav")`."""
    playwright = pytest.importorskip("playwright.sync_api", reason='no Playwright: `pip install -e ".[dev]"`')
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, PLACES)), None)
    if program is None:
        pytest.skip("no Chromium: `apt-get install chromium`, or name one in CHROMIUM")
    with playwright.sync_playwright() as driver:
        yield lambda *more: driver.chromium.launch(executable_path=program, args=["--no-sandbox", *MICROPHONE, *more])


@pytest.fixture(scope="session")
def chromium(launch) -> Iterator:
    """One for all tests that want no arguments of their own."""
    browser = launch()
    yield browser
    browser.close()


@pytest.fixture(params=[390, 1280], ids=["phone", "desk"])
def tab(chromium, request) -> Iterator:
    """An empty page, as wide as a phone and as a desk; at the end it must have written no error to its console."""
    page = chromium.new_page(viewport={"width": request.param, "height": 844 if request.param < 600 else 900})
    page.set_default_timeout(1000 * PATIENCE)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    yield page
    page.close()
    assert not problems
