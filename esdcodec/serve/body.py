"""The body of a request: received within limits, or read away."""

import asyncio
from typing import BinaryIO

from starlette.requests import ClientDisconnect, Request

from .refusal import Refusal


async def receive(request: Request, file: BinaryIO, max_bytes: int, timeout: float) -> None:
    """Write a request's body into a file.

    Raises:
        Refusal: it is empty or a form, has too many bytes, or did not arrive in time.
        ClientDisconnect: the client left.
    """
    try:
        await asyncio.wait_for(_receive(request, file, max_bytes), timeout)
    except asyncio.TimeoutError:
        raise Refusal(408, f"the request's body did not arrive within {timeout:g} s") from None


async def _receive(request: Request, file: BinaryIO, max_bytes: int) -> None:
    refusal = Refusal(413, f"the request's body has more than {max_bytes / 1e6:g} MB: send it in parts")
    if request.headers.get("content-type", "").startswith("multipart/"):
        raise Refusal(415, "this is a form: send the file alone, as the body (`curl --data-binary @FILE`)")
    if int(request.headers.get("content-length", 0)) > max_bytes:
        raise refusal
    async for data in request.stream():
        if file.tell() + len(data) > max_bytes:
            raise refusal
        file.write(data)
    if not file.tell():
        raise Refusal(400, "what is to be done is in the request's body, and this one is empty")


async def discard(request: Request, max_bytes: int, timeout: float) -> None:
    """Read what is still being sent, within limits: some clients read no answer before they have sent all."""
    n_bytes = 0

    async def read() -> None:
        nonlocal n_bytes
        async for data in request.stream():
            n_bytes += len(data)
            if n_bytes > max_bytes:
                return

    try:
        await asyncio.wait_for(read(), min(10.0, timeout))
    except (asyncio.TimeoutError, ClientDisconnect, RuntimeError):
        return


async def left(request: Request) -> None:
    """Return when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
