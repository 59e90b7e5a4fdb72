"""Speech over HTTP: with the client that most programs use, by hand, and under load."""

import gc
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
import torch

openai = pytest.importorskip("openai")

from esdcodec.audio import read  # noqa: E402
from esdcodec.cli.main import main  # noqa: E402
from esdcodec.serve.server import CodecServer  # noqa: E402
from tests.conftest import PATIENCE  # noqa: E402
from tests.serve.servers import client, running, until  # noqa: E402
from tests.serve.test_load import Connection  # noqa: E402
from tests.speaking import make_speaking_model  # noqa: E402
from tests.test_readme import ROOT, example  # noqa: E402

PATH = "/v1/audio/speech"
TEXT = "A sentence. Another one."


@pytest.fixture(scope="module")
def tts(codec, model, tmp_path_factory):
    folder = make_speaking_model(codec, model, tmp_path_factory.mktemp("speaking"))
    from esdcodec.tts import load_tts

    tts = load_tts(folder, codec=codec)
    tts.folder = folder
    return tts


@pytest.fixture(scope="module")
def server(codec, tts):
    with running(codec, tts, max_characters=100, workers=2) as server:
        yield server


@pytest.fixture(scope="module")
def speaker(server):
    """OpenAI's client, pointed at this server."""
    transport = httpx.Client(trust_env=False)
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", http_client=transport, max_retries=0) as speaker:
        yield speaker


def samples(content: bytes, format: str) -> tuple[np.ndarray, int]:
    if format == "pcm":
        return np.frombuffer(content, "<i2") / 32768, 24000
    if format == "wav":  # its length was not known when its header was sent
        return np.frombuffer(content[content.index(b"data") + 8 :], "<i2") / 32768, 24000
    return read(io.BytesIO(content))


def pieces(tts, text, voice):
    return torch.cat(list(tts.stream(text, voice))).numpy()


class SlowStream:
    """Stands in for a model that speaks: it goes on piece by piece when it is let go."""

    name, voices, sample_rate = "slow", ("she",), 24000

    def __init__(self):
        self.go, self.begun, self.ended = threading.Semaphore(0), threading.Semaphore(0), threading.Semaphore(0)

    def stream(self, text, voice, **changes):
        self.begun.release()
        try:
            for _ in range(50):
                assert self.go.acquire(timeout=PATIENCE)
                yield torch.zeros(24000)
        finally:
            self.ended.release()


class TestAnswers:
    @pytest.mark.parametrize("format", ["wav", "flac", "opus", "mp3", "pcm"])
    def test_openai_s_client_gets_what_the_model_says(self, speaker, tts, format):
        answer = speaker.audio.speech.create(model="tts-1", input=TEXT, voice="he", response_format=format)
        audio, rate = samples(answer.content, format)
        expected = pieces(tts, TEXT, "he")
        assert rate == 24000
        if format in ("wav", "flac", "pcm"):
            assert np.abs(audio - expected).max() < 1e-3
        else:
            assert len(audio) == pytest.approx(len(expected), abs=4000)  # mp3 has a delay

    def test_it_comes_in_pieces_and_all_of_them_are_the_file(self, speaker, tts):
        with speaker.audio.speech.with_streaming_response.create(
            model=tts.name, input=TEXT, voice="she", response_format="pcm"
        ) as answer:
            assert "content-length" not in answer.headers
            received = b"".join(answer.iter_bytes())
        assert np.abs(samples(received, "pcm")[0] - pieces(tts, TEXT, "she")).max() < 1e-3

    def test_voices_and_models_are_listed(self, speaker, http, tts):
        assert [model.id for model in speaker.models.list()] == [tts.name]
        assert http.get("/v1/audio/voices").json() == {"voices": ["he", "she"]}

    def test_the_voice_may_be_left_out_and_the_seed_given(self, http, tts):
        first, again, other = (
            http.post(PATH, json={"input": "Text.", "response_format": "pcm", "seed": seed, "speed": 1.0}).content
            for seed in (1, 1, 2)
        )
        assert first == again != other
        named = http.post(PATH, json={"input": "Text.", "voice": {"id": "he"}, "seed": -1})
        assert named.status_code == 200

    def test_what_is_said_is_counted(self, http):
        http.post(PATH, json={"input": "Text."})
        assert f'esdcodec_audio_seconds_total{{path="{PATH}"}}' in http.get("/metrics").text

    def test_the_example_of_the_page_runs(self, server):
        script = example("openai", (ROOT / "docs/serve.md").read_text(encoding="utf-8"))
        namespace = {}
        exec(script.replace("http://127.0.0.1:8024", server.url).replace("NAME", "he"), namespace)
        assert namespace["audio"][:4] == b"RIFF"

    def test_the_command_loads_the_model(self, model, tts, monkeypatch):
        servers = []
        monkeypatch.setattr(CodecServer, "run", lambda server: servers.append(server))
        command = ["serve", "--model", model, "--device", "cpu", "--port", "0", "--tts"]
        assert main([*command, str(tts.folder)]) == 0
        assert servers[0].service.tts.voices == ("he", "she")
        assert main([*command, "nowhere"]) == 2


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "status", "words"),
        [
            ({"voice": "alloy"}, 400, "'alloy' is not here; there are he, she"),
            ({"voice": "/etc/passwd"}, 400, "is not here"),
            ({"model": "gpt-9"}, 404, "'gpt-9' is not here"),
            ({"input": " "}, 400, "nothing to say"),
            ({"input": "long " * 30}, 413, "150 characters, and 100 are the most"),
            ({"input": None}, 400, "input: "),
            ({"speed": 2}, 400, "speed: "),
            ({"response_format": "aac"}, 400, "response_format: "),
            ({"colour": "blue"}, 400, "colour: "),
            ({"temperature": -1}, 400, "temperature"),
            ({"n_quantizers": 99}, 400, "n_quantizers=99"),
            ({"seed": 2**70}, 400, "seed"),
            ({"voice": {}}, 400, "voice"),
        ],
    )
    def test_a_wrong_request_is_answered_by_a_sentence(self, http, change, status, words):
        answer = http.post(PATH, json={"input": "Text.", **change})
        assert answer.status_code == status
        assert words in answer.json()["error"]["message"]

    @pytest.mark.parametrize("body", [b"", b"no JSON", b"[1]", b'{"input": "' + b"x" * 200_000 + b'"}'])
    def test_what_is_no_request_says_so(self, http, body):
        answer = http.post(PATH, content=body)
        assert answer.status_code in (400, 413)
        assert answer.json()["error"]["message"]

    def test_openai_s_client_raises_its_errors(self, speaker):
        with pytest.raises(openai.BadRequestError, match="there are he, she"):
            speaker.audio.speech.create(model="tts-1", input="Text.", voice="alloy")

    def test_a_server_without_a_model_that_speaks_says_so(self, codec):
        with running(codec) as server, client(server) as http:
            assert "--tts" in http.post(PATH, json={"input": "Text."}).json()["error"]["message"]
            assert http.get("/v1/models").json()["data"] == []

    def test_only_who_has_the_token_is_served(self, codec, tts):
        with running(codec, tts, token="secret") as server:
            for key, raised in (("other", openai.AuthenticationError), ("secret", None)):
                transport = httpx.Client(trust_env=False)
                with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, http_client=transport) as speaker:
                    if raised:
                        with pytest.raises(raised):
                            speaker.audio.speech.create(model="tts-1", input="Text.", voice="she")
                    else:
                        assert speaker.audio.speech.create(model="tts-1", input="Text.", voice="she").content


class TestLoad:
    def test_many_at_once_all_get_their_own_answer(self, http, tts):
        texts = [f"Sentence {i}." for i in range(6)]
        with ThreadPoolExecutor(6) as pool:
            bodies = [{"input": text, "response_format": "pcm"} for text in texts]
            answers = list(pool.map(lambda body: http.post(PATH, json=body).content, bodies))
        for text, answer in zip(texts, answers):
            assert np.abs(samples(answer, "pcm")[0] - pieces(tts, text, None)).max() < 1e-3

    def test_the_first_piece_comes_before_the_last_is_made(self, codec):
        slow = SlowStream()
        with running(codec, slow) as server, client(server) as http:
            slow.go.release()
            with http.stream("POST", PATH, json={"input": "Text.", "response_format": "pcm"}) as answer:
                arriving = answer.iter_raw()
                received = len(next(arriving))
                slow.go.release(49)
                assert received + sum(map(len, arriving)) == 50 * 48000
            until(lambda: server.service.queue.held == 0)

    def test_who_leaves_in_the_middle_takes_nothing_from_the_others(self, codec):
        slow = SlowStream()
        body = {"input": "Text.", "response_format": "pcm"}
        with running(codec, slow, workers=1, queue=1) as server, client(server) as http:
            slow.go.release()
            with http.stream("POST", PATH, json=body) as answer:
                assert next(answer.iter_raw())
                with ThreadPoolExecutor(1) as pool:  # the next one waits, and is not lost
                    waiting = pool.submit(http.post, PATH, json=body)
                    until(lambda: server.service.queue.held == 2)
                    refused = http.post(PATH, json=body)
                    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
                    answer.close()
                    slow.go.release(60)
                    assert slow.ended.acquire(timeout=PATIENCE)
                    slow.go.release(60)
                    assert len(waiting.result().content) == 50 * 48000
            until(lambda: server.service.queue.held == 0)

    def test_who_leaves_before_the_first_piece_holds_nothing(self, codec, caplog):
        slow = SlowStream()
        with running(codec, slow, workers=1, queue=1) as server:
            begun, waiting = Connection(server), Connection(server)
            for connection in (begun, waiting):
                connection.send(PATH, b'{"input": "Text."}')
            assert slow.begun.acquire(timeout=PATIENCE)
            until(lambda: server.service.queue.held == 2)
            waiting.socket.close()
            until(lambda: server.service.queue.held == 1)
            begun.socket.close()
            slow.go.release()
            until(lambda: server.service.queue.held == 0)
        gc.collect()
        assert "pending" not in caplog.text  # no task is forgotten

    def test_who_takes_nothing_is_left(self, codec):
        class Long(SlowStream):
            def stream(self, text, voice, **changes):
                for _ in range(50):
                    yield torch.zeros(1_000_000)

        with running(codec, Long(), timeout=0.5) as server:
            greedy = Connection(server, buffer=4096)
            greedy.send(PATH, b'{"input": "Text.", "response_format": "pcm"}')
            until(lambda: server.service.metrics.requests[PATH, 200])
            until(lambda: server.service.queue.held == 0)
            assert len(greedy.answer()) < 100_000_000

    def test_a_fault_in_the_middle_is_seen_by_the_client(self, codec):
        class Failing(SlowStream):
            def stream(self, text, voice, **changes):
                yield torch.zeros(24000)
                raise RuntimeError("out of memory")

        with running(codec, Failing()) as server, client(server) as http:
            with pytest.raises(httpx.RemoteProtocolError):
                http.post(PATH, json={"input": "Text.", "response_format": "pcm"})
            until(lambda: server.service.queue.held == 0)

    def test_what_takes_too_long_is_given_up(self, codec):
        slow = SlowStream()
        with running(codec, slow, timeout=0.5) as server, client(server) as http:
            answer = http.post(PATH, json={"input": "Text."})
            assert (answer.status_code, json.loads(answer.content)["error"]["code"]) == (504, 504)
            slow.go.release()
            until(lambda: server.service.queue.held == 0)

    def test_what_has_begun_is_finished_at_the_end(self, codec):
        slow = SlowStream()
        with running(codec, slow) as server, client(server) as http, ThreadPoolExecutor(1) as pool:
            taken = pool.submit(http.post, PATH, json={"input": "Text.", "response_format": "pcm"})
            assert slow.begun.acquire(timeout=PATIENCE)
            server.should_exit = True
            slow.go.release(50)
            assert len(taken.result().content) == 50 * 48000
