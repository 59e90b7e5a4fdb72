"""What happens under load, with slow and vanishing clients, and at the end."""

import io
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from esdcodec.infer.files import CodedFile, encode_file
from esdcodec.serve import files
from tests.conftest import PATIENCE, write_speech
from tests.serve.servers import HeldWork, client, running, until


@pytest.fixture(scope="module")
def talks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("talks")
    return [write_speech(folder / f"{seed}.wav", 0.4, seed=seed).read_bytes() for seed in range(8)]


@pytest.fixture
def held(monkeypatch):
    """Encoding waits until it is let go."""
    work = HeldWork(files.encode)
    monkeypatch.setattr("esdcodec.serve.endpoints.encode", work)
    yield work
    work.go.set()


def encoded(codec, talk):
    target = io.BytesIO()
    encode_file(codec, io.BytesIO(talk), target)
    return target.getvalue()


def encode(http, talk):
    return http.post("/v1/codec/encode", content=talk)


class Connection:
    """A client that speaks HTTP by hand."""

    def __init__(self, server, *, buffer=None):
        host, port = server.url.removeprefix("http://").split(":")
        self.socket = socket.socket()
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect((host, int(port)))

    def send(self, path, content, *, announced=None):
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {announced or len(content)}\r\n\r\n"
        self.socket.sendall(head.encode() + content)

    def answer(self):
        """All that comes until the server closes the connection."""
        received = b""
        try:
            while data := self.socket.recv(2**16):
                received += data
        except ConnectionResetError:
            pass
        return received


class TestLoad:
    def test_many_requests_at_once_all_get_their_own_answer(self, codec, talks):
        with running(codec, workers=2) as server, client(server) as http, ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda talk: encode(http, talk), talks * 3))
        assert [answer.content for answer in answers] == [encoded(codec, talk) for talk in talks] * 3

    def test_a_full_queue_refuses_at_once_and_loses_nothing_that_it_took(self, codec, talks, held):
        with running(codec, workers=1, queue=2) as server, client(server) as http, ThreadPoolExecutor(3) as pool:
            taken = [pool.submit(encode, http, talk) for talk in talks[:3]]
            until(lambda: server.service.queue.held == 3)
            refused = encode(http, talks[3])
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert "esdcodec_requests_held 3" in http.get("/metrics").text.splitlines()
            held.go.set()
            assert [job.result().content for job in taken] == [encoded(codec, talk) for talk in talks[:3]]
            assert encode(http, talks[3]).status_code == 200

    def test_a_client_that_leaves_in_the_middle_takes_nothing_from_the_others(self, codec, talks, held):
        with running(codec, workers=1, queue=2) as server, client(server) as http, ThreadPoolExecutor(2) as pool:
            leaving = Connection(server)
            leaving.send("/v1/codec/encode", talks[0])
            assert held.begun.acquire(timeout=PATIENCE)  # it is being coded
            waiting = Connection(server)
            waiting.send("/v1/codec/encode", talks[1])
            arriving = Connection(server)
            arriving.send("/v1/codec/encode", talks[2][:500], announced=len(talks[2]))
            until(lambda: server.service.queue.held == 3)
            for connection in (leaving, waiting, arriving):
                connection.socket.close()
            until(lambda: server.service.queue.held == 0)
            assert held.was_given_up
            assert server.service.queue.working == 0
            held.go.set()
            others = [pool.submit(encode, http, talk) for talk in talks[3:5]]
            assert [job.result().content for job in others] == [encoded(codec, talk) for talk in talks[3:5]]

    def test_a_fault_of_the_server_is_one_request_s(self, codec, talks, monkeypatch):
        def fail(*_):
            raise RuntimeError("out of memory")

        with running(codec) as server, client(server) as http:
            with monkeypatch.context() as patch:
                patch.setattr("esdcodec.serve.endpoints.encode", fail)
                assert encode(http, talks[0]).status_code == 500
            assert encode(http, talks[0]).content == encoded(codec, talks[0])
            assert server.service.queue.held == 0


class TestTimeouts:
    def test_work_that_takes_too_long_is_given_up(self, codec, talks, held):
        with running(codec, timeout=0.5) as server, client(server) as http:
            answer = encode(http, talks[0])
            assert answer.status_code == 504
            assert "0.5 s" in answer.json()["error"]["message"]
            assert held.was_given_up
            assert server.service.queue.held == 0

    def test_a_file_that_does_not_arrive_is_given_up(self, codec, talks):
        with running(codec, timeout=0.5) as server:
            slow = Connection(server)
            slow.send("/v1/codec/encode", talks[0][:100], announced=len(talks[0]))
            answer = slow.answer()  # and the connection is closed
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert json.loads(answer.split(b"\r\n\r\n")[1])["error"]["code"] == 408
            assert server.service.queue.held == 0

    @pytest.mark.parametrize("head", [b"", b"POST /v1/codec/encode HTTP/1.1\r\nhost: x\r\ncont"], ids=["none", "half"])
    def test_a_connection_that_asks_nothing_is_closed(self, codec, head):
        with running(codec, timeout=0.5) as server:
            silent = Connection(server)
            silent.socket.sendall(head)
            assert silent.answer() == b""

    def test_half_a_head_after_an_answer_is_not_waited_for(self, codec):
        with running(codec, timeout=1.0) as server:
            silent = Connection(server)
            silent.socket.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /hea")
            assert silent.answer().startswith(b"HTTP/1.1 200 ")

    def test_a_client_that_takes_no_answer_is_left(self, codec, talks, monkeypatch):
        def large_answer(codec, source, target, *_):
            target.write(bytes(30_000_000))
            return CodedFile(1.0, 1)

        monkeypatch.setattr("esdcodec.serve.endpoints.decode", large_answer)
        with running(codec, timeout=0.5) as server:
            greedy = Connection(server, buffer=4096)
            greedy.send("/v1/codec/decode", talks[0])
            until(lambda: server.service.metrics.requests["/v1/codec/decode", 200])
            until(lambda: not server.server_state.connections)
            assert len(greedy.answer()) < 30_000_000


class TestShutDown:
    def test_what_has_begun_is_finished_and_nothing_new_is_taken(self, codec, talks, held):
        with running(codec, queue=4) as server, client(server) as http, ThreadPoolExecutor(2) as pool:
            taken = [pool.submit(encode, http, talk) for talk in talks[:2]]
            until(lambda: server.service.queue.held == 2)
            server.should_exit = True
            until(lambda: not server.servers or not server.servers[0].is_serving())
            with pytest.raises(httpx.TransportError):
                encode(http, talks[2])
            threading.Timer(0.3, held.go.set).start()
            assert [job.result().content for job in taken] == [encoded(codec, talk) for talk in talks[:2]]
