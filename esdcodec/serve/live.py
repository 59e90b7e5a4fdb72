"""Live streams by WebSocket: samples in and codes out, or codes in and samples out."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from fastapi import WebSocket, WebSocketDisconnect
from torch import Tensor

from ..codec import ESDCodec
from ..infer.files import check_output_rate
from ..streams import StreamDecoder, StreamEncoder
from .files import pcm
from .metrics import Metrics
from .settings import ServerSettings

MAX_SECONDS = 10.0  # of audio in a message
MAX_MESSAGE = 2**20  # bytes: ten seconds at 48 kHz
MAX_REASON = 123  # bytes, why a stream was closed
NORMAL, GOING, POLICY, TOO_BIG, LATER = 1000, 1001, 1008, 1009, 1013  # codes of RFC 6455


class _End(Exception):
    """The stream ends, with a code and a reason for the client."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class LiveStreams:
    """All live streams of a server: they share one thread, and each message is answered before the next is read."""

    def __init__(self, codec: ESDCodec, settings: ServerSettings, metrics: Metrics) -> None:
        self.codec, self.settings, self.metrics = codec, settings, metrics
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="live")
        self._stopping = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self.open = 0

    async def encode(self, socket: WebSocket) -> None:
        """16-bit samples in, little-endian and mono; codes ``[L, n]`` out, as 16-bit numbers."""

        def make(rate: int, n_quantizers: int | None, look_ahead_ms: float | None) -> _Coding:
            stream = self.codec.stream_encoder(rate, n_quantizers=n_quantizers, look_ahead_ms=look_ahead_ms)
            return _Coding(stream, rate, _samples, _code_bytes)

        await self._serve(socket, make)

    async def decode(self, socket: WebSocket) -> None:
        """Codes ``[L, n]`` in, as 16-bit numbers; 16-bit samples out, at the model's rate."""

        def make(rate: int, n_quantizers: int | None, look_ahead_ms: float | None) -> _Coding:
            n = self.codec.n_codebooks if n_quantizers is None else n_quantizers
            self.codec.bits_per_frame(n)  # raises for a wrong number
            stream = self.codec.stream_decoder(look_ahead_ms=look_ahead_ms)
            return _Coding(stream, self.codec.frame_rate, lambda data: _codes(data, n), _sample_bytes)

        await self._serve(socket, make)

    async def stop(self, timeout: float) -> None:
        """Let all streams send what they have, and end."""
        self._stopping.set()
        try:
            await asyncio.wait_for(self._empty.wait(), timeout)
        finally:
            self._thread.shutdown(wait=False)

    # ---- one stream -------------------------------------------------------------------------------------------------

    async def _serve(self, socket: WebSocket, make: "MakeCoding") -> None:
        await socket.accept()
        if self.open >= self.settings.streams or self._stopping.is_set():
            await socket.close(LATER, "as many streams are open as may be: try again")
            return
        self.open += 1
        self._empty.clear()
        try:
            with suppress(WebSocketDisconnect):  # the client has left; what it sent was coded
                try:
                    await self._run(socket, make)
                except _End as end:
                    await socket.close(end.code, str(end))
                except ValueError as error:
                    await socket.close(POLICY, str(error).encode()[:MAX_REASON].decode(errors="ignore"))
        finally:
            self.open -= 1
            if not self.open:
                self._empty.set()

    async def _run(self, socket: WebSocket, make: "MakeCoding") -> None:
        coding = await self._call(make, *_options(socket, self.codec.sample_rate))
        await socket.send_json(self._about(coding))
        while data := await self._next(socket):
            seconds = coding.take(data)
            if seconds > MAX_SECONDS:
                raise _End(TOO_BIG, f"a message holds at most {MAX_SECONDS:g} s")
            if coding.seconds > self.settings.stream_seconds:
                raise _End(POLICY, f"a stream has at most {self.settings.stream_seconds:g} s: begin another one")
            if answer := await self._call(coding.push):
                await socket.send_bytes(answer)
            self.metrics.add_audio(socket.url.path, seconds)
        if coding.seconds:
            await socket.send_bytes(await self._call(coding.finish))
        await socket.send_json({"seconds": coding.seconds})
        stopping = self._stopping.is_set()
        await socket.close(GOING if stopping else NORMAL, "the server shuts down" if stopping else "done")

    def _about(self, coding: "_Coding") -> dict[str, Any]:
        return {
            "model": self.codec.name,
            "fingerprint": self.codec.fingerprint.hex(),
            "sample_rate": self.codec.sample_rate,
            "frame_rate": self.codec.frame_rate,
            "codebook_sizes": list(self.codec.codebook_sizes),
            "look_ahead_ms": coding.stream.look_ahead_ms,
        }

    async def _next(self, socket: WebSocket) -> bytes:
        """The next message; nothing at the end, which the client says with an empty one, or the server by stopping.

        Raises:
            WebSocketDisconnect: the client has left.
            _End: nothing came in time, or text.
        """
        receiving = asyncio.ensure_future(socket.receive_bytes())
        stopping = asyncio.ensure_future(self._stopping.wait())
        waiting = {receiving, stopping}
        await asyncio.wait(waiting, timeout=self.settings.timeout, return_when=asyncio.FIRST_COMPLETED)
        try:
            if receiving.done():
                return receiving.result()
        except KeyError:
            raise _End(POLICY, "messages are binary") from None
        finally:
            receiving.cancel()
            stopping.cancel()
        if self._stopping.is_set():
            return b""
        raise _End(POLICY, f"nothing came for {self.settings.timeout:g} s")

    async def _call(self, function: Callable[..., Any], *inputs: Any) -> Any:
        running = asyncio.get_running_loop().run_in_executor(self._thread, function, *inputs)
        try:
            return await asyncio.wait_for(running, self.settings.timeout)
        except asyncio.TimeoutError:
            raise _End(LATER, "there is too much to do: try again") from None


class _Coding:
    """A stream of the codec, between bytes that come and bytes that go.

    Args:
        rate: samples or frames a second of what comes.
    """

    def __init__(
        self,
        stream: StreamEncoder | StreamDecoder,
        rate: float,
        read: Callable[[bytes], Tensor],
        write: Callable[[Tensor], bytes],
    ) -> None:
        self.stream, self.rate, self.read, self.write = stream, rate, read, write
        self.piece: Tensor | None = None
        self.seconds = 0.0

    def take(self, data: bytes) -> float:
        """Take the next message; returns the seconds of audio in it."""
        self.piece = self.read(data).to(self.stream.codec.device)
        seconds = self.piece.shape[-1] / self.rate
        self.seconds += seconds
        return seconds

    def push(self) -> bytes:
        assert self.piece is not None
        return self.write(self.stream.push(self.piece))

    def finish(self) -> bytes:
        return self.write(self.stream.finish())


MakeCoding = Callable[[int, int | None, float | None], _Coding]  # of a rate, codebooks and look-ahead


def _options(socket: WebSocket, sample_rate: int) -> tuple[int, int | None, float | None]:
    """Rate, codebooks and look-ahead in the query.

    Raises:
        ValueError: a name or a value is not one of these.
    """
    query = dict(socket.query_params)
    rate, n, look_ahead = (query.pop(name, None) for name in ("sample_rate", "n", "look_ahead_ms"))
    if query:
        raise ValueError(f"unknown: {', '.join(query)}; there are sample_rate, n and look_ahead_ms")
    try:
        options = int(rate or sample_rate), int(n) if n else None, float(look_ahead) if look_ahead else None
    except ValueError:
        raise ValueError("sample_rate and n are whole numbers, look_ahead_ms is a number") from None
    check_output_rate(options[0])  # the same limits as of what is sent
    return options


def _samples(data: bytes) -> Tensor:
    """``[T]`` of 16-bit numbers."""
    if len(data) % 2:
        raise ValueError("samples have 16 bits: send an even number of bytes")
    return torch.from_numpy(np.frombuffer(data, "<i2").astype(np.float32) / 2**15)


def _codes(data: bytes, n: int) -> Tensor:
    """``[1, n, L]`` of 16-bit numbers ``[L, n]``."""
    if len(data) % (2 * n):
        raise ValueError(f"a frame has {n} codes of 16 bits: send whole frames")
    return torch.from_numpy(np.frombuffer(data, "<u2").astype(np.int64).reshape(-1, n).T.copy())[None]


def _code_bytes(codes: Tensor) -> bytes:
    """Codes ``[1, n, L]`` as 16-bit numbers ``[L, n]``."""
    return codes[0].T.cpu().numpy().astype("<u2").tobytes()


def _sample_bytes(audio: Tensor) -> bytes:
    """Audio ``[1, 1, T]`` as 16-bit numbers."""
    return pcm(audio[0, 0])
