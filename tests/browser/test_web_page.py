"""The page that needs no server, as a visitor uses it, with the bundled model and a microphone that plays a file."""

import io
import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import soundfile

from esdcodec import bitstream, load, static_page
from esdcodec.infer.files import decode_file, encode_file
from esdcodec.infer.sinks import sink_into
from esdcodec.static_page import SAMPLE, write_page
from tests.bitstream.test_bitstream import codes_of, written
from tests.conftest import PATIENCE, write_speech

ASSETS = static_page.BUILT.parent
LARGEST_DOWNLOAD = 17_000_000  # bytes, by brotli; without what only a graphics card needs
COMPRESSED = """
const { brotliCompressSync, constants } = require("zlib"), file = require("fs").readFileSync(process.argv[1]);
console.log(brotliCompressSync(file, { params: { [constants.BROTLI_PARAM_QUALITY]: 6 } }).length);
"""
A_CARD = "Object.defineProperty(navigator, 'gpu', { value: { requestAdapter: async () => ({}) } })"
DENIED = "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotAllowedError') }"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def nano():
    return load(device="cpu")


@pytest.fixture(scope="module")
def folder(node, nano, tmp_path_factory):
    """The written page, in a folder that is not the server's root."""
    root = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        node("build.mjs", root / "built")
        patch.setattr(static_page, "BUILT", root / "built")
        write_page(nano, root / "site/try")
    return root / "site/try"


@pytest.fixture(scope="module")
def page(launch, folder, tmp_path_factory):
    """The loaded page; at the end it must have asked for nothing but its own files, and have written no error."""
    talk = write_speech(tmp_path_factory.mktemp("microphone") / "talk.wav", 3.0, rate=48000)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder.parent))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/try/"
    browser = launch(f"--use-file-for-fake-audio-capture={talk}")
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(1000 * PATIENCE)
    asked, problems = [], []
    page.context.on("request", lambda request: asked.append((request.method, request.url)))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(url)
    until(page, "Ready")
    yield page
    browser.close()
    server.shutdown()
    assert {method for method, _ in asked} == {"GET"}
    assert not [address for _, address in asked if not address.startswith((url, f"blob:{url.removesuffix('/try/')}"))]
    assert not problems


def until(page, start):
    """Wait until the page says so; what it says instead is an error."""
    said = page.locator(f"#status:text-matches('^{start}'), #error:text-matches('.')").first
    said.wait_for()
    assert said.text_content().startswith(start)


def give(page, file):
    page.locator("#file").set_input_files(str(file))


def save(page, link, target):
    with page.expect_download() as download:
        page.get_by_role("link", name=link).click()
    download.value.save_as(target)
    return target


def by_python(codec, source, n_quantizers):
    file = io.BytesIO()
    encode_file(codec, source, file, n_quantizers)
    return file


def are_equal(ours, right):
    """Everything, but for one frame that may fall to the other of two equally near entries."""
    ours, right = bitstream.Reader(io.BytesIO(ours.read_bytes())), bitstream.Reader(right)
    assert (ours.header, ours.original_samples) == (right.header, right.original_samples)
    return (ours.read() != right.read()).any(axis=0).sum() <= 1


def test_a_sentence_has_the_codes_and_the_audio_of_python(page, nano, tmp_path):
    page.get_by_role("button", name="Take a recorded sentence").click()
    until(page, "Done")
    coded = save(page, "Save the .esd file", tmp_path / "talk.esd")
    assert f"{coded.stat().st_size:,} bytes for 4.9 s" in page.locator("#size").text_content()
    assert are_equal(coded, by_python(nano, ASSETS / SAMPLE, 3))
    page.get_by_role("slider", name="Codebooks").press("End")
    until(page, "Done")
    coded = save(page, "Save the .esd file", coded)
    assert are_equal(coded, by_python(nano, ASSETS / SAMPLE, None))
    decoded, _ = soundfile.read(save(page, "Save as wav", tmp_path / "decoded.wav"))
    with coded.open("rb") as source, (tmp_path / "python.wav").open("wb") as target:
        decode_file(nano, source, sink_into(target, "wav"))
    np.testing.assert_allclose(decoded, soundfile.read(tmp_path / "python.wav")[0], atol=1e-3)
    for title in ("Original", "Decoded"):
        figure = page.get_by_role("figure").filter(has_text=title)
        assert figure.get_by_role("img", name=re.compile("Spectrogram of the .*: 4.9 s")).is_visible()
        assert figure.locator("audio").evaluate("(audio) => audio.error === null && audio.src.startsWith('blob:')")


def test_what_the_microphone_gave_is_what_is_coded(page, nano, tmp_path):
    page.get_by_role("button", name="Record", exact=True).click()
    page.get_by_role("button", name="Stop recording (1 s)").click()
    until(page, "Done")
    recording = save(page, "Save the recording", tmp_path / "recording.wav")
    audio, rate = soundfile.read(recording)
    assert len(audio) > rate
    assert audio.std() > 1e-3
    coded = save(page, "Save the .esd file", tmp_path / "recording.esd")
    assert are_equal(coded, by_python(nano, recording, int(page.get_by_role("slider").input_value())))


def test_files_are_opened_and_long_work_is_stopped(page, nano, tmp_path):
    (tmp_path / "talk.esd").write_bytes(by_python(nano, ASSETS / SAMPLE, 2).getvalue())
    give(page, tmp_path / "talk.esd")
    until(page, "Done")
    assert page.get_by_text("Decoded from 2 codebooks").is_visible()
    assert not page.locator("#original").is_visible()
    assert page.get_by_role("slider").get_attribute("aria-valuetext") == "2 of 2 codebooks"
    give(page, write_speech(tmp_path / "long.wav", 120.0, rate=8000))
    page.get_by_role("button", name="Stop", exact=True).click()
    until(page, "Stopped")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("talk.txt", b"no audio", "This browser cannot read this file as audio. A wav file always works."),
        ("talk.wav", b"", "This file is empty."),
        ("talk.esd", b"no codes", "This is no .esd file: it does not begin with ESDC."),
        ("cut.esd", written(codes_of(40))[:-1], "The end of this .esd file is missing or damaged: it was cut"),
        ("other.esd", written(codes_of(40)), "These codes are of the model “25hz_nano”, and this page has “25hz"),
    ],
)
def test_what_is_not_possible_is_a_sentence(page, tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    give(page, tmp_path / name)
    error = page.get_by_role("alert").filter(has_text=".")
    error.wait_for()
    assert error.text_content().startswith(sentence)


def test_it_is_used_by_keyboard_and_fits_phone_and_desk(page):
    page.get_by_role("button", name="Take a recorded sentence").click()
    until(page, "Done")
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.get_by_role("heading", level=1).click()
    reached = []
    for _ in range(5):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
    assert reached == ["record", "open", "sample", "books", "esd"]
    for role in ("button", "slider", "link", "img", "progressbar"):
        for control in page.get_by_role(role, include_hidden=True).all():
            named = control.get_attribute("aria-label") or control.text_content()
            assert named or control.get_attribute("id") == "books"  # which has a label


def test_it_works_offline_once_loaded_and_goes_on_where_a_graphics_card_or_a_microphone_fails(page):
    page.context.set_offline(True)
    page.add_init_script(f"{A_CARD}; {DENIED}")
    page.reload()
    until(page, "Ready")
    card = page.get_by_label("Compute on the graphics card")
    card.click()
    page.get_by_role("alert").filter(has_text="The graphics card is not used.").wait_for()
    assert not card.is_checked()
    page.get_by_role("button", name="Take a recorded sentence").click()
    until(page, "Done")
    page.get_by_role("button", name="Record", exact=True).click()
    page.get_by_text("This page may not use the microphone. Allow it in the browser's settings, or").wait_for()


def test_what_is_loaded_is_small(node, folder):
    files = [path for path in folder.rglob("*") if path.is_file() and "gpu" not in path.parts]
    assert sum(int(node("-e", COMPRESSED, path)) for path in files) <= LARGEST_DOWNLOAD
