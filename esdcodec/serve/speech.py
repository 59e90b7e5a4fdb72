"""Speech from text, in the protocol of `POST /v1/audio/speech` that most clients know."""

import io
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..infer.sinks import sink_into
from .files import MEDIA_TYPES, pcm
from .refusal import Refusal
from .work import Send, Work

if TYPE_CHECKING:
    from ..tts import TextToSpeech

ALIASES = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")  # names that clients send unless they are told others
SPEECH_TYPES = {**MEDIA_TYPES, "pcm": "audio/pcm"}
MAX_JSON = 2**17  # bytes of a request
EXAMPLE = '{"input": "Text.", "voice": "NAME", "response_format": "wav"}'


class VoiceName(BaseModel):
    """A voice as newer clients name it."""

    id: str


class SpeechRequest(BaseModel):
    """What a client sends. Another speed than 1, instructions, aac and server-sent events are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)

    input: str
    model: str | None = None
    voice: str | VoiceName | None = None
    response_format: Literal["mp3", "wav", "flac", "opus", "ogg", "pcm"] = "mp3"
    speed: float = Field(1.0, ge=1, le=1)
    instructions: Literal[""] | None = None
    stream_format: Literal["audio"] = "audio"
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    temperature: float | None = None
    n_quantizers: int | None = None

    @property
    def voice_name(self) -> str | None:
        return self.voice.id if isinstance(self.voice, VoiceName) else self.voice

    @property
    def changes(self) -> dict[str, Any]:
        """The settings of the model that are not its own."""
        given = {name: getattr(self, name) for name in ("seed", "temperature", "n_quantizers")}
        return {name: value for name, value in given.items() if value is not None}


def read_request(body: bytes, tts: "TextToSpeech", max_characters: int) -> SpeechRequest:
    """
    Raises:
        Refusal: the request is wrong, or names a model or a voice that is not here.
    """
    try:
        request = SpeechRequest.model_validate_json(body)
    except ValidationError as error:
        wrong = {".".join(map(str, each["loc"])) or "JSON": each["msg"] for each in error.errors()}
        words = "; ".join(f"{name}: {message}" for name, message in wrong.items())
        raise Refusal(400, f"{words}; the body is as {EXAMPLE}") from error
    if request.model not in (None, tts.name, *ALIASES):
        raise Refusal(404, f"model {request.model!r} is not here; there is {tts.name!r}")
    if request.voice_name is not None and request.voice_name not in tts.voices:  # a path would be one of the server's
        known = ", ".join(tts.voices) or "no voices: leave it out"
        raise Refusal(400, f"voice {request.voice_name!r} is not here; there are {known}")
    if len(request.input) > max_characters:
        raise Refusal(413, f"input has {len(request.input):,} characters, and {max_characters:,} are the most")
    return request


def say(tts: "TextToSpeech", request: SpeechRequest, send: Send, work: Work) -> float:
    """Say the text, and send the file as it is made; returns the seconds of audio. Called in the threads of the queue.

    Raises:
        ValueError: the text cannot be said.
        ClientLeft: nobody waits for it any more.
    """
    from ..infer.tts.speech import TAG

    pieces = tts.stream(request.input, request.voice_name, **request.changes)
    n_samples = 0

    def checked() -> Any:
        nonlocal n_samples
        for piece in pieces:
            work.check()
            n_samples += len(piece)
            yield piece

    if request.response_format == "pcm":
        for piece in checked():
            send(pcm(piece))
    else:
        file = cast(BinaryIO, SentFile(send))
        with sink_into(file, request.response_format, TAG)(tts.sample_rate, None) as write:
            for piece in checked():
                write(piece.numpy())
    return n_samples / tts.sample_rate


class SentFile(io.RawIOBase):
    """A file that is sent while it is written. What would correct its beginning comes too late, and is left out."""

    def __init__(self, send: Send) -> None:
        self._send, self._position, self._end = send, 0, 0

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._end}[whence]
        return self._position

    def write(self, data: Any) -> int:
        data = bytes(data)
        new = data[max(0, self._end - self._position) :]
        self._position += len(data)
        self._end = max(self._end, self._position)
        if new:
            self._send(new)
        return len(data)
