"""The queue before the codec: so many requests work, so many wait, and the others are told to come again."""

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from .refusal import Refusal

Result = TypeVar("Result")
Send = Callable[[bytes], None]
UNDER_WAY = 4  # pieces of an answer that are made and not yet taken


class ClientLeft(BrokenPipeError):
    """Nobody waits for the result any more. Encoders of audio pass the errors of files on, and no others."""


class Work:
    """A request's work, as it sees itself: it asks now and then whether it is still wanted."""

    def __init__(self) -> None:
        self._unwanted = threading.Event()

    def give_up(self) -> None:
        self._unwanted.set()

    def check(self) -> None:
        """
        Raises:
            ClientLeft: nobody waits for the result any more.
        """
        if self._unwanted.is_set():
            raise ClientLeft


async def next_piece(pieces: AsyncIterator[bytes], left: Awaitable[object]) -> bytes:
    """The next piece of an answer.

    Raises:
        ClientLeft: the client left before.
    """
    piece: asyncio.Future[bytes] = asyncio.ensure_future(anext(pieces))  # type: ignore[arg-type]
    watch: asyncio.Future[object] = asyncio.ensure_future(left)
    either: set[asyncio.Future[Any]] = {piece, watch}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if piece.done():
            return piece.result()
        raise ClientLeft
    finally:
        watch.cancel()
        piece.cancel()


class WorkQueue:
    """Threads that code files, and slots for requests. Its methods are called by the event loop alone."""

    def __init__(self, workers: int, waiting: int) -> None:
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="codec")
        self._limit = workers + waiting
        self.held = 0  # slots: requests whose file is arriving, waiting or being coded
        self.working = 0
        self._counting = threading.Lock()  # by the threads

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        """A slot for a request, from before its body is read until its work has ended.

        Raises:
            Refusal: all slots are taken.
        """
        if self.held >= self._limit:
            raise Refusal(503, f"{self.held} requests are being served, as many as may be: try again", retry=True)
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1

    async def run(self, function: Callable[[Work], Result], left: Awaitable[object], timeout: float) -> Result:
        """The result of `function` in a thread, which gets its `Work`.

        It returns when the thread has ended, so that a slot is free only when nothing works for it any more.

        Args:
            left: done when the client has left.
            timeout: seconds, with those in the queue.

        Raises:
            Refusal: it took too long.
            ClientLeft: the client left.
        """
        work = Work()
        job = self._threads.submit(self._counted, function, work)
        result = asyncio.wrap_future(job)
        watch: asyncio.Future[object] = asyncio.ensure_future(left)
        try:
            either: set[asyncio.Future[Any]] = {result, watch}
            await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if result.done():
                return result.result()
            raise ClientLeft if watch.done() else Refusal(504, f"this took more than {timeout:g} s: send less at once")
        finally:
            watch.cancel()
            work.give_up()
            if not job.cancel():  # it has begun
                with contextlib.suppress(Exception):
                    await result

    async def stream(self, function: Callable[[Work, Send], object], timeout: float) -> AsyncGenerator[bytes, None]:
        """What `function` sends from a thread, piece by piece; it waits while more than a few are not taken.

        It has a slot until the thread has ended. Who takes no more closes the iterator, and the work is given up.

        Args:
            timeout: seconds until each piece, the first one's with those in the queue.

        Raises:
            Refusal: all slots are taken, or a piece took too long.
        """
        work, loop = Work(), asyncio.get_running_loop()
        pieces: asyncio.Queue[bytes] = asyncio.Queue(UNDER_WAY)

        def send(data: bytes) -> None:
            sending = asyncio.run_coroutine_threadsafe(pieces.put(data), loop)
            try:
                while True:
                    with contextlib.suppress(concurrent.futures.TimeoutError):
                        return sending.result(0.1)
                    work.check()
            except ClientLeft:
                sending.cancel()
                raise

        slot = contextlib.ExitStack()
        slot.enter_context(self.slot())
        job = self._threads.submit(self._counted, lambda work: function(work, send), work)
        result = asyncio.wrap_future(job)

        def ended(done: "asyncio.Future[object]") -> None:
            slot.close()
            if not done.cancelled():
                done.exception()  # is known to those who took the pieces

        result.add_done_callback(ended)
        try:
            while not result.done() or not pieces.empty():
                taking = asyncio.ensure_future(pieces.get())
                waiting: set[asyncio.Future[Any]] = {taking, result}
                try:
                    await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    taken = taking.done()
                    taking.cancel()
                if taken:
                    yield taking.result()
                elif not result.done():
                    raise Refusal(504, f"this took more than {timeout:g} s: send less at once")
            result.result()  # raises what went wrong
        finally:
            work.give_up()
            job.cancel()

    def _counted(self, function: Callable[[Work], Result], work: Work) -> Result:
        work.check()
        self._count(1)
        try:
            return function(work)
        finally:
            self._count(-1)

    def _count(self, more: int) -> None:
        with self._counting:
            self.working += more

    def close(self) -> None:
        """Wait for what has begun."""
        self._threads.shutdown(cancel_futures=True)
