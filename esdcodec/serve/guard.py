"""What all requests pass: the token, the count, and a client's time to take its answer."""

import asyncio
import hmac
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .metrics import Metrics
from .refusal import Refusal, answer
from .settings import ServerSettings

OPEN = ("/healthz",)  # without the token


class Guard:
    """ASGI application around another one.

    Args:
        paths: that are counted by their names; others are counted together.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings, metrics: Metrics, paths: frozenset[str]) -> None:
        self.app, self.settings, self.metrics, self.paths = app, settings, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self.paths else "other"
        status, started = 499, time.perf_counter()  # 499: the client left before an answer
        counted = scope["type"] == "websocket"  # streams count their audio alone

        def count() -> None:
            nonlocal counted
            if not counted:
                self.metrics.add_request(path, status, time.perf_counter() - started)
            counted = True

        async def timed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body" and not message.get("more_body"):
                count()  # before the client knows that it has all
            await asyncio.wait_for(send(message), self.settings.timeout)  # a client that takes nothing is left

        try:
            if self._is_allowed(scope):
                await self.app(scope, receive, timed_send)
            elif scope["type"] == "websocket":
                await timed_send({"type": "websocket.close", "code": 1008, "reason": "the token is missing or wrong"})
            else:
                refusal = Refusal(401, "the token is missing or wrong: send `Authorization: Bearer TOKEN`")
                await answer(refusal)(scope, receive, timed_send)
        finally:
            count()

    def _is_allowed(self, scope: Scope) -> bool:
        if self.settings.token is None or scope["path"] in OPEN:
            return True
        scheme, _, given = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self.settings.token.encode())
