"""Files over HTTP: right answers, limits, and a sentence for what is not served."""

import io
import json

import numpy as np
import pytest
import soundfile

from esdcodec.bitstream import Reader
from esdcodec.infer.files import decode_file, encode_file
from esdcodec.infer.sinks import sink_into
from tests.conftest import make_tiny_codec, write_speech
from tests.serve.servers import client, running


@pytest.fixture(scope="module")
def server(codec):
    with running(codec, max_megabytes=1.0, max_seconds=20.0) as server:
        yield server


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    return write_speech(tmp_path_factory.mktemp("talk") / "talk.wav", 1.3, rate=16000).read_bytes()


@pytest.fixture(scope="module")
def coded(codec, talk):
    target = io.BytesIO()
    encode_file(codec, io.BytesIO(talk), target, 3)
    return target.getvalue()


def silence(seconds: float) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(int(8000 * seconds), np.float32), 8000, format="FLAC")
    return file.getvalue()


def post(http, path, content, **query):
    return http.post(f"/v1/codec/{path}", content=content, params=query)


class TestAnswers:
    def test_a_file_is_encoded_as_on_the_command_line(self, http, talk, coded):
        answer = post(http, "encode", talk, n=3)
        assert answer.status_code == 200
        assert answer.content == coded
        assert float(answer.headers["x-audio-seconds"]) == pytest.approx(1.3)

    def test_the_gain_can_be_given(self, http, talk):
        assert Reader(io.BytesIO(post(http, "encode", talk, gain=3.5).content)).header.gain_db == 3.5

    def test_codes_alone_are_an_array(self, http, codec, talk):
        codes = np.load(io.BytesIO(post(http, "encode", talk, n=2, format="npy").content))
        audio, rate = soundfile.read(io.BytesIO(talk), dtype="float32")
        assert (codes == codec.encode(audio, rate, n_quantizers=2)[0].numpy()).all()

    def test_a_file_is_decoded_as_on_the_command_line(self, http, codec, coded):
        expected = io.BytesIO()
        decode_file(codec, io.BytesIO(coded), sink_into(expected, "wav"))
        answer = post(http, "decode", coded)
        assert answer.content == expected.getvalue()
        assert answer.headers["content-type"] == "audio/wav"

    @pytest.mark.parametrize("format", ["wav", "flac", "mp3", "ogg", "opus"])
    def test_all_formats_come_whole(self, http, coded, format):
        answer = post(http, "decode", coded, format=format, sample_rate=24000)
        audio, rate = soundfile.read(io.BytesIO(answer.content))
        assert rate == 24000
        assert len(audio) == pytest.approx(1.3 * rate, abs=2000)  # mp3 has a delay

    def test_a_damaged_recording_is_coded_and_its_damage_named(self, http, talk):
        answer = post(http, "encode", talk[: len(talk) // 2])
        assert answer.status_code == 200
        assert json.loads(answer.headers["x-problems"])
        assert 0 < float(answer.headers["x-audio-seconds"]) < 1.3


class TestRefusals:
    @pytest.mark.parametrize(
        ("path", "query", "status", "words"),
        [
            ("encode", {"n": 99}, 400, "1 to 6 codebooks"),
            ("encode", {"n": "many"}, 400, "n: "),
            ("encode", {"gain": "nan"}, 400, "gain: "),
            ("encode", {"n": [3, 4]}, 400, "given twice"),
            ("encode", {"n_quantizers": 3}, 400, "unknown: n_quantizers; there are n, gain, format"),
            ("decode", {"format": "zip"}, 400, "format: "),
            ("decode", {"sample_rate": 5}, 422, ".esd"),
        ],
    )
    def test_a_wrong_query_is_answered_by_a_sentence(self, http, talk, path, query, status, words):
        answer = post(http, path, talk, **query)
        assert answer.status_code == status
        assert words in answer.json()["error"]["message"]

    def test_what_is_no_audio_or_no_esd_file_says_so(self, http, talk, coded):
        assert post(http, "encode", coded).status_code == 415
        assert post(http, "decode", talk).status_code == 422
        assert post(http, "decode", coded[:-3]).status_code == 422
        assert post(http, "encode", b"").status_code == 400
        nothing = http.get("/v1/audio")
        assert (nothing.status_code, nothing.json()["error"]["code"]) == (404, 404)
        assert http.get("/v1/codec/encode").status_code == 405

    def test_a_form_is_refused_with_the_way_to_send_the_file(self, http, talk):
        answer = http.post("/v1/codec/encode", files={"file": talk})
        assert answer.status_code == 415
        assert "--data-binary" in answer.json()["error"]["message"]

    def test_a_wrong_path_or_method_says_where_the_right_ones_are(self, http):
        for answer in (http.get("/v1/codec"), http.get("/v1/codec/encode")):
            assert "/openapi.json" in answer.json()["error"]["message"]

    def test_codes_of_another_model_are_refused(self, http, talk):
        target = io.BytesIO()
        encode_file(make_tiny_codec(seed=1), io.BytesIO(talk), target)
        assert post(http, "decode", target.getvalue()).status_code == 409

    @pytest.mark.parametrize("announced", [True, False], ids=["length in the head", "in chunks"])
    def test_a_file_with_too_many_bytes_is_refused_before_it_is_all_there(self, http, announced):
        big = bytes(3_000_000)
        answer = post(
            http, "encode", big if announced else iter([big[i : i + 2**16] for i in range(0, len(big), 2**16)])
        )
        assert answer.status_code == 413
        assert "1 MB" in answer.json()["error"]["message"]
        assert http.get("/healthz").status_code == 200

    def test_audio_that_is_too_long_is_refused_however_small_its_file(self, http, codec):
        long = silence(21.0)
        assert len(long) < 10_000
        assert post(http, "encode", long).status_code == 413
        target = io.BytesIO()
        encode_file(codec, io.BytesIO(long), target, 1)
        assert post(http, "decode", target.getvalue()).status_code == 413

    def test_more_samples_than_the_limit_has_are_refused(self, http, codec):
        target = io.BytesIO()
        encode_file(codec, io.BytesIO(silence(5.0)), target, 1)
        assert post(http, "decode", target.getvalue(), sample_rate=1_000_000).status_code == 413


class TestToken:
    def test_only_who_has_it_is_served(self, codec, talk):
        with running(codec, token="secret") as server, client(server) as http:
            assert http.get("/healthz").status_code == 200
            for headers in ({}, {"authorization": "Bearer other"}, {"authorization": "secret"}):
                for path in ("/v1/codec/encode", "/metrics", "/openapi.json", "/nothing"):
                    answer = http.request("POST", path, content=b"x", headers=headers)
                    assert answer.status_code == 401
                    assert "Bearer" in answer.json()["error"]["message"]
            assert http.head("/healthz").status_code == 200
            for scheme in ("Bearer", "bearer"):
                answer = http.post("/v1/codec/encode", content=talk, headers={"authorization": f"{scheme} secret"})
                assert answer.status_code == 200


def test_health_and_metrics_tell_what_was_done(codec, talk):
    with running(codec) as server, client(server) as http:
        assert http.get("/healthz").json()["model"] == codec.name
        post(http, "encode", talk)
        post(http, "encode", b"no audio")
        http.get("/a/path/that/somebody/made/up")
        lines = http.get("/metrics").text.splitlines()
    assert 'esdcodec_requests_total{path="/v1/codec/encode",status="200"} 1' in lines
    assert 'esdcodec_requests_total{path="/v1/codec/encode",status="415"} 1' in lines
    assert 'esdcodec_requests_total{path="other",status="404"} 1' in lines
    assert 'esdcodec_audio_seconds_total{path="/v1/codec/encode"} 1.300' in lines
    assert 'esdcodec_request_seconds_count{path="/v1/codec/encode"} 2' in lines
    assert "esdcodec_requests_held 0" in lines
