"""Signals that stop a program: a command tidies up and ends, a training run saves first, its workers ignore them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # that stop a command
# SIGUSR1 is what SLURM is asked to send; Windows has neither it nor a SIGTERM from outside, but Ctrl-Break
PREEMPTION = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGBREAK") if hasattr(signal, name))
EXIT_CODE = 75  # "try again later" in sysexits.h: the run was saved, start it again

# ---- a command -------------------------------------------------------------------------------------------------------

_held = False  # within `uninterrupted`
_received = 0  # the signal that came meanwhile


def stop(signum: int, frame: object) -> None:
    """Handler of `SIGNALS`: ends the process with 128 + the signal's number, and ignores those that follow.

    So what is under way tidies up, and no second signal interrupts that.
    """
    global _received
    for number in SIGNALS:
        signal.signal(number, _ignore)  # with SIG_IGN, Python reports a signal that has already come as a race
    if _held:
        _received = signum
    else:
        raise SystemExit(128 + signum)


def _ignore(signum: int, frame: object) -> None:
    pass


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay a signal that comes within until the end.

    For calls into C that call back: an exception that is raised in the callback is printed and lost.
    """
    global _held, _received
    _held = True
    try:
        yield
    finally:
        _held = False
        if _received:
            signum, _received = _received, 0
            raise SystemExit(128 + signum)


# ---- a training run --------------------------------------------------------------------------------------------------


class Interrupted(SystemExit):
    """A signal stopped the run, which has saved its state, if it had one yet."""

    def __init__(self) -> None:
        super().__init__(EXIT_CODE)


class Interruption:
    """While it is entered, records that one of `PREEMPTION` came, which then does not end the process.

    Python runs signal handlers in the main thread only; a run in another thread cannot be interrupted like this.
    """

    def __init__(self) -> None:
        self.received = False

    def __enter__(self) -> "Interruption":
        self._handlers = _preemption_calls(self._note)
        self._handlers.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._handlers.__exit__(None, None, None)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = True


@contextmanager
def interrupted_at_once() -> Iterator[None]:
    """Raise `Interrupted` where one of `PREEMPTION` comes within; for a run that has nothing to save yet."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise Interrupted

    with _preemption_calls(leave):
        yield


@contextmanager
def _preemption_calls(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    in_main_thread = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handler) for number in PREEMPTION if in_main_thread}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def ignore_signals_in_worker(worker: int | None = None) -> None:
    """Ignore, in a worker process, signals that are not the parent's, and end when the parent has ended.

    A scheduler signals all processes of a job, but the trainer needs its workers until it has saved. A trainer that is
    killed can signal nobody.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()
    numbers = {signal.SIGINT, *PREEMPTION}
    if not hasattr(signal, "sigwaitinfo"):
        # macOS does not say who sent a signal, and Windows sends none between processes: the worker ends when the
        # trainer closes its queue, or when torch's watchdog sees that the trainer is gone
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def watch() -> None:
        while signal.sigwaitinfo(numbers).si_pid != os.getppid():
            pass
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
