"""The application: which path does what."""

import io
import json
import logging
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from .. import __version__
from ..codec import ESDCodec
from ..infer.files import CodedFile
from .body import discard, left, receive
from .files import MEDIA_TYPES, Encoding, decode, encode
from .guard import Guard
from .live import LiveStreams
from .metrics import Metrics
from .refusal import Refusal, answer, refusal_of
from .settings import ServerSettings
from .speech import MAX_JSON, SPEECH_TYPES, SpeechRequest, read_request, say
from .work import ClientLeft, Work, WorkQueue, next_piece

if TYPE_CHECKING:
    from ..tts import TextToSpeech

LOG = logging.getLogger(__name__)
PIECE = 2**16  # bytes of an answer that are sent at once
SPEECH_PATH = "/v1/audio/speech"
LEFT = 499  # status of a request whose client has left; nobody reads it
AudioFormat = Literal["wav", "flac", "mp3", "ogg", "opus"]
Gain = Annotated[float, Field(ge=-60, le=60)] | Literal["auto"]
FileWork = Callable[[BinaryIO, BinaryIO, Work], CodedFile]  # of a source, a target, and whether it is still wanted


class Service:
    """A codec behind HTTP: a server runs its `application`; `stop` ends the live streams, and `close` the threads."""

    def __init__(self, codec: ESDCodec, settings: ServerSettings, tts: "TextToSpeech | None" = None) -> None:
        self.codec, self.settings, self.tts = codec, settings, tts
        self.queue = WorkQueue(settings.workers, settings.queue)
        self.metrics = Metrics(
            {
                "requests_held": ("Files that arrive, wait or are coded.", lambda: self.queue.held),
                "requests_working": ("Files that are coded.", lambda: self.queue.working),
                "streams_open": ("Live streams.", lambda: self.streams.open),
            }
        )
        self.streams = LiveStreams(codec, settings, self.metrics)
        self.stopping = False
        # no pages that load scripts of other hosts
        app = FastAPI(title="ESDCodec", version=__version__, docs_url=None, redoc_url=None)
        app.add_api_route("/healthz", self.health, methods=["GET", "HEAD"])
        app.add_api_route("/metrics", self.show_metrics, methods=["GET"])
        app.add_api_route("/v1/codec/encode", self.encode, methods=["POST"], openapi_extra=_body("audio"))
        app.add_api_route("/v1/codec/decode", self.decode, methods=["POST"], openapi_extra=_body("an .esd file"))
        app.add_api_route(SPEECH_PATH, self.speak, methods=["POST"], openapi_extra=_json_body())
        app.add_api_route("/v1/audio/voices", self.voices, methods=["GET"])
        app.add_api_route("/v1/models", self.models, methods=["GET"])
        app.add_api_websocket_route("/v1/codec/live/encode", self.live_encode)
        app.add_api_websocket_route("/v1/codec/live/decode", self.live_decode)
        app.add_exception_handler(RequestValidationError, _invalid)
        app.add_exception_handler(HTTPException, _unknown)
        paths = frozenset(getattr(route, "path", "") for route in app.routes)
        self.application = Guard(app, settings, self.metrics, paths)

    async def stop(self) -> None:
        """Refuse new requests, and let the live streams end."""
        self.stopping = True
        await self.streams.stop(self.settings.timeout)

    def close(self) -> None:
        self.queue.close()

    # ---- paths ------------------------------------------------------------------------------------------------------

    async def health(self) -> JSONResponse:
        """Whether requests are served, and by which model."""
        state = "stopping" if self.stopping else "ok"
        content = {"status": state, "model": self.codec.name, "version": __version__}
        return JSONResponse(content, 503 if self.stopping else 200)

    async def show_metrics(self) -> Response:
        """Counters and gauges for Prometheus."""
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def encode(
        self, request: Request, n: int | None = None, gain: Gain = "auto", format: Literal["esd", "npy"] = "esd"
    ) -> Response:
        """Audio to an `.esd` file, or to its codes alone: uint16 `[n, L]` as `numpy.save` writes them.

        `n`: codebooks (default: all). `gain`: dB before encoding (default: what brings the audio to the codec's level).
        """
        _check_query(request, ("n", "gain", "format"))
        how = Encoding(n, None if gain == "auto" else gain, format)

        def work(source: BinaryIO, target: BinaryIO, work: Work) -> CodedFile:
            return encode(self.codec, source, target, how, self.settings.max_seconds, work)

        return await self._serve(request, work, "application/octet-stream")

    async def decode(self, request: Request, format: AudioFormat = "wav", sample_rate: int | None = None) -> Response:
        """An `.esd` file to audio, by default at the recording's own rate."""
        _check_query(request, ("format", "sample_rate"))

        def work(source: BinaryIO, target: BinaryIO, work: Work) -> CodedFile:
            return decode(self.codec, source, target, format, sample_rate, self.settings.max_seconds, work)

        return await self._serve(request, work, MEDIA_TYPES[format])

    async def live_encode(self, socket: WebSocket) -> None:
        await self.streams.encode(socket)

    async def live_decode(self, socket: WebSocket) -> None:
        await self.streams.decode(socket)

    async def speak(self, request: Request) -> Response:
        """Text to audio, which is sent as it is made; the body is that of OpenAI's `POST /v1/audio/speech`."""
        body = io.BytesIO()
        try:
            self._check_open()
            await receive(request, body, MAX_JSON, self.settings.timeout)
            wanted = read_request(body.getvalue(), self._speaker(), self.settings.max_characters)
            pieces = self.queue.stream(partial(self._say, wanted), self.settings.timeout)
            first = await next_piece(pieces, left(request))
        except (ClientLeft, ClientDisconnect):
            return Response(status_code=LEFT)
        except Exception as error:
            await discard(request, MAX_JSON, self.settings.timeout)
            return self._failed(request, error)
        return MadeWhileSent(first, pieces, SPEECH_TYPES[wanted.response_format])

    async def models(self) -> Response:
        """The model that speaks, as clients ask for it."""
        tts = self.tts
        known = [] if tts is None else [{"id": tts.name, "object": "model", "created": 0, "owned_by": "esdcodec"}]
        return JSONResponse({"object": "list", "data": known})

    async def voices(self) -> Response:
        """The names of its voices."""
        return JSONResponse({"voices": [] if self.tts is None else list(self.tts.voices)})

    def _say(self, wanted: SpeechRequest, work: Work, send: Callable[[bytes], None]) -> None:
        seconds = say(self._speaker(), wanted, send, work)
        self.metrics.add_audio(SPEECH_PATH, seconds)

    def _speaker(self) -> "TextToSpeech":
        if self.tts is None:
            raise Refusal(404, "this server has no model that speaks: start it with `esdcodec serve --tts MODEL`")
        return self.tts

    # ---- one request ------------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self.stopping:
            raise Refusal(503, "the server shuts down", retry=True)

    async def _serve(self, request: Request, function: FileWork, media_type: str) -> Response:
        """The answer to a request with a file, as `function` makes it of that file."""
        target = tempfile.TemporaryFile()  # noqa: SIM115  (the answer closes it)
        try:
            self._check_open()
            with self.queue.slot(), tempfile.TemporaryFile() as source:
                await receive(request, source, self.settings.max_bytes, self.settings.timeout)
                source.seek(0)
                coded = await self.queue.run(
                    lambda work: function(source, target, work), left(request), self.settings.timeout
                )
        except (ClientLeft, ClientDisconnect):
            target.close()
            return Response(status_code=LEFT)
        except Exception as error:
            target.close()
            await discard(request, self.settings.max_bytes, self.settings.timeout)
            return self._failed(request, error)
        self.metrics.add_audio(request.url.path, coded.audio_seconds)
        headers = {"content-length": str(target.seek(0, io.SEEK_END)), "x-audio-seconds": f"{coded.audio_seconds:.3f}"}
        if coded.problems:
            headers["x-problems"] = json.dumps(coded.problems)
        return StreamingResponse(_pieces(target), headers=headers, media_type=media_type)

    def _failed(self, request: Request, error: Exception) -> Response:
        """The answer to a request that failed."""
        refusal = refusal_of(error)
        if refusal is None:
            LOG.error("%s failed", request.url.path, exc_info=error)
            refusal = Refusal(500, "the server failed: its log says how")
        return answer(refusal)


class MadeWhileSent(StreamingResponse):
    """An answer whose pieces are made while it is sent; however its sending ends, they are made no longer."""

    def __init__(self, first: bytes, rest: AsyncGenerator[bytes, None], media_type: str) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            yield first
            async for piece in rest:
                yield piece

        super().__init__(pieces(), media_type=media_type)
        self.rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self.rest.aclose()


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    with file:
        file.seek(0)
        while data := file.read(PIECE):
            yield data


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """What is wrong with a query, in one sentence."""
    assert isinstance(error, RequestValidationError)
    wrong = {str(each["loc"][1] if len(each["loc"]) > 1 else each["loc"][0]): each["msg"] for each in error.errors()}
    return answer(Refusal(400, "; ".join(f"{name}: {message}" for name, message in wrong.items())))


async def _unknown(request: Request, error: Exception) -> JSONResponse:
    """Wrong paths and methods, and queries with unknown names."""
    assert isinstance(error, HTTPException)
    told = {
        404: f"there is nothing at {request.url.path}: the paths are in /openapi.json",
        405: f"{request.method} is not for {request.url.path}: how it is asked is in /openapi.json",
    }
    return answer(Refusal(error.status_code, told.get(error.status_code, str(error.detail))))


def _check_query(request: Request, names: tuple[str, ...]) -> None:
    if len(request.query_params) < len(request.query_params.multi_items()):
        raise HTTPException(400, "an option is given twice")
    if unknown := sorted(set(request.query_params) - set(names)):
        raise HTTPException(400, f"unknown: {', '.join(unknown)}; there are {', '.join(names)}")


def _body(what: str) -> dict[str, object]:
    content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    return {"requestBody": {"required": True, "description": what, "content": content}}


def _json_body() -> dict[str, object]:
    content: dict[str, Any] = {"application/json": {"schema": SpeechRequest.model_json_schema()}}
    return {"requestBody": {"required": True, "description": "what is to be said, and how", "content": content}}
