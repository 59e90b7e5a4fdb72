"""The page over a real socket, by Gradio's own client: what a browser sends and gets."""

import os
import re
import subprocess
import sys

import pytest
import soundfile

from esdcodec.cli.main import main, parser
from tests.conftest import write_speech

gradio_client = pytest.importorskip("gradio_client")

from esdcodec.app.page import make_page, serve_page  # noqa: E402
from esdcodec.app.settings import DemoSettings  # noqa: E402


@pytest.fixture(scope="module")
def page(codec, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        settings = DemoSettings(port=0, max_seconds=5.0, max_megabytes=0.2)
        page = make_page(codec, settings)
        yield serve_page(page, settings)
        page.close()


@pytest.fixture(scope="module")
def client(page, tmp_path_factory):
    return gradio_client.Client(page, download_files=str(tmp_path_factory.mktemp("downloads")), verbose=False)


def compare(client, file, numbers):
    return client.predict(file and gradio_client.handle_file(str(file)), numbers, api_name="/compare")


def shown(answer):
    """By the number of codebooks (0 is the original): what is said of it, its audio, its picture."""
    _, *parts, _ = answer
    slots = [parts[i : i + 3] for i in range(0, len(parts), 3)]  # the client leaves columns out
    return {n: slot for n, slot in enumerate(slots) if slot[1] is not None and value(slot[1])}


def value(part):
    return part["value"] if isinstance(part, dict) else part


def test_the_chosen_numbers_are_shown_beside_the_original(client, codec, tmp_path):
    talk = write_speech(tmp_path / "talk.wav", 1.0, rate=16000)
    versions = shown(compare(client, talk, [1, 3]))
    assert set(versions) == {0, 1, 3}
    assert "32,000 bytes" in value(versions[0][0])
    assert f"{codec.bitrate(3):,.0f} bit/s" in value(versions[3][0])
    for _, audio, _ in versions.values():
        assert soundfile.info(value(audio)).frames == 16000


@pytest.mark.parametrize(
    ("name", "numbers", "sentence"),
    [
        (None, [1], "Record something, or upload a file."),
        ("talk.wav", [], "Choose at least one number of codebooks."),
        ("long.flac", [1], "The recording is longer than 5 s: cut it, or take another one."),
        ("talk.txt", [1], "talk.txt: cannot be read as audio"),
    ],
)
def test_what_is_not_possible_is_a_sentence(client, tmp_path, name, numbers, sentence):
    write_speech(tmp_path / "talk.wav", 0.3)
    write_speech(tmp_path / "long.flac", 6.0, gain=0.0, rate=8000)
    (tmp_path / "talk.txt").write_text("no audio")
    with pytest.raises(Exception, match=re.escape(sentence)) as raised:
        compare(client, name and tmp_path / name, numbers)
    assert str(tmp_path) not in str(raised.value)


def test_a_file_that_is_too_large_is_refused(client, tmp_path):
    talk = write_speech(tmp_path / "large.wav", 4.9, rate=48000)
    with pytest.raises(Exception, match=r"413|large|size"):
        compare(client, talk, [1])


def test_nothing_of_other_hosts_is_loaded(page):
    import httpx

    text = httpx.get(page, timeout=60, trust_env=False).text
    assert not re.findall(r"""(?:src|href)=["']?https?://(?!127\.0\.0\.1)""", text)


def test_the_options_have_the_defaults_of_the_settings():
    given, settings = vars(parser().parse_args(["demo"])), vars(DemoSettings())
    assert {name: given[name] for name in settings} == settings


def test_without_gradio_it_says_what_to_install(capsys, monkeypatch, model):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "esdcodec.app.page")
    assert main(["demo", "--model", model]) == 2
    assert 'pip install "esdcodec[demo]"' in capsys.readouterr().err


def test_the_module_starts_the_command(model):
    command = [sys.executable, "-m", "esdcodec.app", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert result.returncode == 0
    assert "  esdcodec demo" in result.stdout
