"""Servers over real sockets, each in a thread of its own."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from esdcodec import ESDCodec
from esdcodec.serve.server import CodecServer
from esdcodec.serve.settings import ServerSettings
from tests.conftest import PATIENCE


@contextmanager
def running(codec: ESDCodec, tts: object = None, **settings: object) -> Iterator[CodecServer]:
    """A server at a free port; at the end it is stopped, and must stop."""
    started = threading.Event()
    given = ServerSettings(port=0, **settings)  # type: ignore[arg-type]
    server = CodecServer(codec, given, lambda _: started.set(), tts)  # type: ignore[arg-type]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert started.wait(PATIENCE)
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()


def client(server: CodecServer, **options: object) -> httpx.Client:
    return httpx.Client(base_url=server.url, timeout=PATIENCE, trust_env=False, **options)  # type: ignore[arg-type]


def until(condition) -> None:
    """Wait for what another thread brings about."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class HeldWork:
    """Stands in for the coding of a file: it goes on when it is let go, and notes when it is no longer wanted."""

    def __init__(self, function):
        self.function, self.begun, self.ended = function, threading.Semaphore(0), threading.Semaphore(0)
        self.go = threading.Event()
        self.was_given_up = False

    def __call__(self, *inputs):
        *_, work = inputs
        self.begun.release()
        try:
            while not self.go.wait(0.01):
                work.check()
            return self.function(*inputs)
        except Exception:
            self.was_given_up = True
            raise
        finally:
            self.ended.release()
