"""Work beside the training: one piece at a time, in a thread of its own."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait


class Background:
    """Does one piece of work while the caller goes on. A process that ends waits for it."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._running: Future[None] | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Begin `work` when the work before is done; raises what that one raised."""
        self.wait()
        self._running = self._pool.submit(work)

    def check(self) -> None:
        """Raise what finished work raised, once; work that goes on is left alone."""
        if self._running is not None and self._running.done():
            self.wait()

    def wait(self) -> None:
        """Wait until nothing is left to do; raises what the work raised, once."""
        if self._running is None:
            return
        wait([self._running])  # a KeyboardInterrupt here leaves the work to the next one who waits
        running, self._running = self._running, None
        running.result()
