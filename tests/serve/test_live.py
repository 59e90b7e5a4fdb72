"""Live streams over WebSockets: the values of the codec's own streams, limits, and an orderly end."""

import json
from urllib.parse import urlencode

import numpy as np
import pytest
import torch
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.conftest import PATIENCE, speech
from tests.serve.servers import running, until
from tests.test_readme import ROOT, example


@pytest.fixture(scope="module")
def server(codec):
    with running(codec, streams=2, stream_seconds=15.0) as server:
        yield server


def live(server, path, *, headers=None, **query):
    url = f"ws{server.url.removeprefix('http')}/v1/codec/live/{path}?{urlencode(query)}"
    return connect(url, open_timeout=PATIENCE, close_timeout=PATIENCE, proxy=None, additional_headers=headers)


def everything(socket):
    """Binary messages joined, texts as values, and the code and reason of the end."""
    data, texts = b"", []
    try:
        while True:
            message = socket.recv(timeout=PATIENCE)
            if isinstance(message, str):
                texts.append(json.loads(message))
            else:
                data += message
    except ConnectionClosed as closed:
        return data, texts, (closed.rcvd.code, closed.rcvd.reason)


@pytest.fixture(scope="module")
def samples():
    return (speech(1.1)[0, 0] * 2**15).round().clamp(-(2**15), 2**15 - 1).numpy().astype("<i2")


def pieces(array, size):
    return [array[i : i + size].tobytes() for i in range(0, len(array), size)]


class TestValues:
    @pytest.mark.parametrize(("n", "rate"), [(1, 24000), (3, 16000)])
    def test_codes_are_those_of_encode(self, server, codec, samples, n, rate):
        with live(server, "encode", n=n, sample_rate=rate) as socket:
            for piece in pieces(samples, 1000):
                socket.send(piece)
            socket.send(b"")
            data, (about, total), end = everything(socket)
        stream = codec.stream_encoder(rate, n_quantizers=n)
        parts = [torch.from_numpy(samples[i : i + 1000] / np.float32(2**15)) for i in range(0, len(samples), 1000)]
        expected = torch.cat([*map(stream.push, parts), stream.finish()], dim=-1)[0]
        assert (expected.numpy() == np.frombuffer(data, "<u2").reshape(-1, n).T).all()
        assert (about["sample_rate"], about["fingerprint"]) == (codec.sample_rate, codec.fingerprint.hex())
        assert about["look_ahead_ms"] == stream.look_ahead_ms
        assert (total["seconds"], end) == (pytest.approx(len(samples) / rate), (1000, "done"))

    def test_samples_are_those_of_decode(self, server, codec):
        codes = codec.encode(speech(1.1), n_quantizers=2)
        with live(server, "decode", n=2) as socket:
            for piece in pieces(codes[0].T.numpy().astype("<u2"), 7):
                socket.send(piece)
            socket.send(b"")
            data, (_, total), end = everything(socket)
        expected = (codec.decode(codes)[0, 0] * 32767).round().numpy()
        assert np.abs(np.frombuffer(data, "<i2") - expected).max() <= 1
        assert (total["seconds"], end) == (pytest.approx(codes.shape[-1] / codec.frame_rate), (1000, "done"))

    def test_a_smaller_look_ahead_is_told(self, server, codec):
        with live(server, "encode", look_ahead_ms=0) as socket:
            assert json.loads(socket.recv(timeout=PATIENCE))["look_ahead_ms"] == 0

    def test_an_empty_stream_ends_as_well(self, server):
        with live(server, "encode") as socket:
            socket.send(b"")
            data, (_, total), end = everything(socket)
        assert (data, total["seconds"], end) == (b"", 0.0, (1000, "done"))


class TestLimits:
    @pytest.mark.parametrize(
        ("path", "query", "message", "code", "words"),
        [
            ("encode", {"n": 99}, None, 1008, "1 to 6 codebooks"),
            ("encode", {"n": "x"}, None, 1008, "whole numbers"),
            ("encode", {"rate": 1}, None, 1008, "unknown: rate"),
            ("encode", {"ä" * 100: 1}, None, 1008, "unknown: ä"),
            ("encode", {"sample_rate": 1}, None, 1008, "sample_rate"),
            ("encode", {}, "text", 1008, "binary"),
            ("encode", {}, b"odd", 1008, "even"),
            ("encode", {"sample_rate": 8000}, bytes(2 * 80_002), 1009, "10 s"),
            ("decode", {"n": 2}, b"odd", 1008, "whole frames"),
            ("decode", {"n": 1}, b"\xff\xff", 1008, "65535"),
            ("decode", {"n": 1}, bytes(2 * 2001), 1009, "10 s"),
        ],
    )
    def test_what_is_wrong_ends_the_stream_with_the_reason(self, server, path, query, message, code, words):
        with live(server, path, **query) as socket:
            if message is not None:
                socket.send(message)
            *_, end = everything(socket)
        assert end[0] == code
        assert words in end[1]

    def test_a_message_of_megabytes_is_not_taken(self, server):
        with live(server, "encode") as socket:
            socket.send(bytes(2**21))
            assert everything(socket)[2][0] == 1009

    def test_a_stream_has_an_end(self, server):
        with live(server, "encode", n=1, sample_rate=1000) as socket:
            for _ in range(2):
                socket.send(bytes(2 * 9000))
            *_, end = everything(socket)
        assert end == (1008, "a stream has at most 15 s: begin another one")

    def test_more_streams_than_allowed_are_told_to_come_again(self, server):
        until(lambda: server.service.streams.open == 0)
        with live(server, "encode") as one, live(server, "decode") as other:
            for socket in (one, other):
                socket.recv(timeout=PATIENCE)
            with live(server, "encode") as third:
                assert everything(third)[2][0] == 1013
        until(lambda: server.service.streams.open == 0)  # both have left without a word
        with live(server, "encode") as again:
            again.send(b"")
            assert everything(again)[2] == (1000, "done")

    def test_a_stream_that_says_nothing_is_ended(self, codec):
        with running(codec, timeout=0.5) as server, live(server, "encode") as socket:
            *_, end = everything(socket)
        assert end[0] == 1008

    def test_only_who_has_the_token_is_served(self, codec):
        with running(codec, token="secret") as server:
            with pytest.raises(InvalidStatus, match="403"), live(server, "encode"):
                pass
            with live(server, "encode", headers={"authorization": "Bearer secret"}) as socket:
                assert "model" in json.loads(socket.recv(timeout=PATIENCE))


def test_the_example_of_the_documentation_runs(server, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    script = example("live", (ROOT / "docs/serve.md").read_text(encoding="utf-8"))
    namespace: dict[str, object] = {}
    exec(script.replace("ws://127.0.0.1:8024", f"ws{server.url.removeprefix('http')}"), namespace)
    assert len(namespace["codes"]) == 2 * 200


def test_a_server_that_stops_sends_what_it_has_coded(codec, samples):
    with running(codec) as server, live(server, "encode", n=2) as socket:
        socket.send(samples.tobytes())
        until(lambda: server.service.metrics.audio_seconds["/v1/codec/live/encode"] > 1)
        server.should_exit = True
        data, (_, total), end = everything(socket)
    assert len(data) == 2 * 2 * codec.num_frames(len(samples))
    assert (total["seconds"], end) == (pytest.approx(1.1), (1001, "the server shuts down"))
