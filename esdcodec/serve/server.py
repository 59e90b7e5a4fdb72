"""Sockets, signals and shut-down."""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..codec import ESDCodec
from .endpoints import Service
from .live import MAX_MESSAGE
from .settings import ServerSettings

if TYPE_CHECKING:
    from ..tts import TextToSpeech


class CodecServer(uvicorn.Server):
    """A codec's server; `run` serves until a signal comes, or `should_exit` is set, and then finishes what has begun.

    Args:
        on_start: is called with the URL when requests are served.
        tts: what speaks, as `load_tts` gives it. None: nothing.

    Raises:
        OSError: the port is taken, or not allowed.
    """

    def __init__(
        self,
        codec: ESDCodec,
        settings: ServerSettings,
        on_start: Callable[[str], None],
        tts: "TextToSpeech | None" = None,
    ) -> None:
        is_ipv6 = ":" in settings.host
        self.listening = socket.create_server(
            (settings.host, settings.port), family=socket.AF_INET6 if is_ipv6 else socket.AF_INET
        )
        host, port = f"[{settings.host}]" if is_ipv6 else settings.host, self.listening.getsockname()[1]
        self.url, self.on_start = f"http://{host}:{port}", on_start
        self.service = Service(codec, settings, tts)
        super().__init__(
            uvicorn.Config(
                self.service.application,
                http=_protocol(settings.timeout),
                ws_max_size=MAX_MESSAGE,
                lifespan="off",
                timeout_graceful_shutdown=max(1, round(3 * settings.timeout)),  # to arrive, to be coded, to be taken
                log_level="warning",
            )
        )

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            super().run([self.listening, *(sockets or [])])
        finally:
            self.listening.close()
            self.service.close()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.on_start(self.url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await self.service.stop()
        except asyncio.TimeoutError:
            logging.getLogger("uvicorn.error").warning("live streams did not end in time")
        await super().shutdown(sockets)


def _protocol(timeout: float) -> type[H11Protocol]:
    """HTTP/1.1 whose connections are cut when for `timeout` to twice as many seconds no request is complete or begun.

    uvicorn has such a limit only between an answer and the first byte that follows it.
    """

    class Protocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.loop.call_later(timeout, self._look, None)

        def _look(self, before: object) -> None:
            """Cut the connection if it waits for the same thing as `before`."""
            if self.transport.get_protocol() is not self:  # a live stream has its own limits
                return
            waits_for = self.cycle if self.cycle is None or self.cycle.response_complete else _AN_ANSWER
            if self.transport.is_closing():
                waits_for = _THE_CLIENT_TO_TAKE_IT
            if waits_for is before and before is not _AN_ANSWER:
                self.transport.abort()
            else:
                self.loop.call_later(timeout, self._look, waits_for)

    return Protocol


_AN_ANSWER, _THE_CLIENT_TO_TAKE_IT = object(), object()
