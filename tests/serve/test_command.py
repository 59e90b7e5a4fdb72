"""`esdcodec serve`, run as a user runs it."""

import re
import signal
import subprocess
import sys
import threading

import httpx
import pytest

from esdcodec.bitstream import Reader
from esdcodec.cli.main import main
from esdcodec.serve.server import CodecServer
from esdcodec.serve.settings import ServerSettings
from tests.conftest import PATIENCE, write_speech
from tests.serve.servers import until


@pytest.fixture
def started(model):
    """A server, and its URL."""
    command = [sys.executable, "-m", "esdcodec.cli", "serve", "--model", model, "--device", "cpu", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process, re.search(r"http://\S+", process.stdout.readline())[0]
    process.kill()
    process.communicate()


def test_it_says_where_serves_there_alone_and_finishes_what_has_begun(started, tmp_path):
    process, url = started
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
    talk = write_speech(tmp_path / "talk.wav", 2.0).read_bytes()
    arrived = threading.Event()

    def upload():
        yield talk[:50_000]
        until(
            lambda: "esdcodec_requests_held 1" in httpx.get(f"{url}/metrics", timeout=PATIENCE, trust_env=False).text
        )  # it has begun
        arrived.set()
        process.send_signal(signal.SIGTERM)  # in the middle
        yield talk[50_000:]

    answer = httpx.post(f"{url}/v1/codec/encode", content=upload(), timeout=PATIENCE, trust_env=False)
    assert arrived.is_set()
    (tmp_path / "talk.esd").write_bytes(answer.content)
    with open(tmp_path / "talk.esd", "rb") as file:
        assert Reader(file).duration == 2.0
    assert process.wait(PATIENCE) == 143
    assert process.stderr.read() == "stopped\n"


def test_the_token_is_read_from_a_file_or_the_environment(model, tmp_path, monkeypatch):
    tokens = []
    monkeypatch.setattr(CodecServer, "run", lambda server: tokens.append(server.service.settings.token))
    (tmp_path / "token").write_text("of a file\n")
    command = ["serve", "--model", model, "--device", "cpu", "--port", "0"]
    assert main(command) == 0
    monkeypatch.setenv("ESDCODEC_TOKEN", "of the environment")
    assert main(command) == 0
    assert main([*command, "--token-file", str(tmp_path / "token")]) == 0
    assert tokens == [None, "of the environment", "of a file"]


def test_without_a_token_a_warning_says_who_may_ask(model, capsys, monkeypatch):
    monkeypatch.setattr(CodecServer, "run", lambda server: None)
    for host, warned in (("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)):
        main(["serve", "--model", model, "--device", "cpu", "--port", "0", "--host", host])
        assert ("--token-file" in capsys.readouterr().err) == warned


def test_wrong_commands_are_one_line(model, capsys, tmp_path, monkeypatch):
    (tmp_path / "empty").write_text("\n")
    for options, words in (
        (["--timeout", "0"], "timeout=0.0 must be more than 0"),
        (["--token-file", str(tmp_path / "empty")], "is empty"),
        (["--token-file", str(tmp_path / "none")], "none"),
        (["--host", "192.0.2.1"], "192.0.2.1"),
    ):
        assert main(["serve", "--model", model, "--device", "cpu", "--port", "0", *options]) == 2
        assert words in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "esdcodec.serve.server", raising=False)
    assert main(["serve", "--model", model]) == 2
    assert 'pip install "esdcodec[serve]"' in capsys.readouterr().err


def test_options_have_the_defaults_of_the_settings():
    from esdcodec.cli.main import parser

    given, settings = vars(parser().parse_args(["serve"])), vars(ServerSettings())
    assert {name: given[name] for name in settings if name in given} == {
        name: value for name, value in settings.items() if name in given
    }
    assert set(settings) - set(given) == {"token"}
