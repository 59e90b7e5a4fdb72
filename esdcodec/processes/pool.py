"""Many jobs in several processes, which end with the one that started them and tidy up when they are stopped."""

import _thread
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from multiprocessing.connection import Connection, wait
from typing import Any, ParamSpec, TypeVar

from .signals import SIGNALS, stop

P = ParamSpec("P")
Job = TypeVar("Job")
Result = TypeVar("Result")

GRACE = 20.0  # seconds in which a process that is stopped may tidy up
FAILED_STARTS = 3  # in a row, after which no further process is started


class WorkerDied(RuntimeError):
    """The process that did a job ended without a result."""


def in_processes(
    n_processes: int,
    work: Callable[[Job], Result],
    jobs: Iterable[Job],
    start: Callable[P, None],
    *args: P.args,
    **kwargs: P.kwargs,
) -> Generator[tuple[Job, Result | Exception], None, None]:
    """Yield each job and what `work` makes of it, as they come; each process begins with `start(*args)`.

    What a job raises is its outcome and no other's. A job whose process dies, as one that the system kills for its
    memory, is done once more at the end, alone in a fresh process; if that dies too, its outcome is `WorkerDied`.
    Where some processes cannot start, the others do the work; where none can, the jobs that are left get the reason.

    If this ends early, no further job is begun, and those under way are stopped. The processes have numbers, which
    `worker_number` tells them.
    """
    # `concurrent.futures` and loky give up every job when one process dies, and the processes of Pebble share a pipe
    # with a lock, which a killed one may hold. Here nothing is shared.
    what = (work, start, args, kwargs)
    again: list[Job] = []
    with closing(_supervised(n_processes, what, jobs)) as results:
        for job, result in results:
            if isinstance(result, WorkerDied):
                again.append(job)
            else:
                yield job, result
    with closing(_supervised(1, what, again)) as results:
        yield from results


def _supervised(
    n_processes: int, what: tuple[object, ...], jobs: Iterable[Any]
) -> Generator[tuple[Any, Any], None, None]:
    waiting = deque(jobs)
    workers: list[_Worker] = []
    failures: list[Exception] = []  # of processes that did not start, in a row
    try:
        while waiting or any(worker.jobs for worker in workers):
            if not workers and len(failures) >= FAILED_STARTS:
                while waiting:
                    yield waiting.popleft(), failures[-1]
                return
            wanted = min(n_processes, len(waiting) + sum(len(worker.jobs) for worker in workers))
            try:
                while len(workers) < wanted:
                    taken = {worker.number for worker in workers}
                    workers.append(_Worker(next(i for i in range(wanted) if i not in taken), what))
            except OSError as error:  # no memory, or too many processes
                failures.append(error)
                n_processes = max(1, len(workers))
            for worker in _ready(workers):
                done, outcome = worker.receive()
                if done:
                    failures.clear()
                elif outcome is not None:
                    failures.append(outcome)
                    n_processes = max(1, len(workers) - 1)  # too many, where the memory is too small
                if not (waiting and worker.alive and worker.give(waiting)):
                    workers.remove(worker)
                    worker.end()
                for job in done:
                    yield job, outcome
    finally:
        for worker in workers:
            worker.process.terminate()  # it tidies up
        deadline = time.monotonic() + GRACE  # of all together
        for worker in workers:
            # one that is still starting may not look at signals for long, and has nothing to tidy up
            worker.process.join(max(0.0, deadline - time.monotonic()) if worker.jobs else 0.5)
            if worker.process.is_alive():
                worker.process.kill()
            worker.end()


class _Worker:
    """A process, the parent's end of its pipe, and its current job (none while it starts)."""

    def __init__(self, number: int, what: tuple[object, ...]) -> None:
        context = multiprocessing.get_context("spawn")  # forked torch and onnxruntime threads may hang
        self.number = number
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, number, *what))
        self.process.start()
        theirs.close()  # so that the pipe ends when the process does
        self.jobs: list[Any] = []
        self.alive = True

    def receive(self) -> tuple[list[Any], Any]:
        """The job that is done, if there was one, and its result; or why the process cannot go on."""
        try:
            outcome = self.connection.recv() if self.connection.poll() else self._death()
        except (EOFError, OSError):
            outcome = self._death()
        done, self.jobs = self.jobs, []
        self.alive = self.alive and (bool(done) or outcome is None)
        return done, outcome

    def _death(self) -> WorkerDied:
        self.alive = False
        self.process.join()
        return WorkerDied(_cause(self.process.exitcode))

    def give(self, waiting: "deque[Any]") -> bool:
        """Hand over the first of the jobs that wait, if the process is still there."""
        try:
            self.connection.send(waiting[0])
        except OSError:
            return False
        self.jobs = [waiting.popleft()]
        return True

    def end(self) -> None:
        self.connection.close()  # which a process that waits for a job takes for the end
        self.process.join()


def _ready(workers: list[_Worker]) -> list[_Worker]:
    """Wait for workers that sent something or have ended, and return them."""
    ready = wait([source for worker in workers for source in (worker.connection, worker.process.sentinel)])
    return [worker for worker in workers if worker.connection in ready or worker.process.sentinel in ready]


def _cause(exitcode: int | None) -> str:
    if exitcode is None or exitcode >= 0:
        return f"the process that worked on it ended with exit code {exitcode}"
    known = {each.value: each.name for each in signal.Signals}
    name = known.get(-exitcode, f"signal {-exitcode}")  # real-time signals have none
    return f"the process that worked on it was killed ({name})" + (
        ": too little memory? Try fewer --jobs" if name == "SIGKILL" else ""
    )


# ---- in such a process -----------------------------------------------------------------------------------------------

_number: int | None = None


def worker_number() -> int | None:
    """Which of the processes of `in_processes` this one is, from 0; None in all others.

    No two that run at a time have one number; one that takes a dead one's place has its number.
    """
    return _number


def _serve(
    connection: Connection,
    number: int,
    work: Callable[[Any], object],
    start: Callable[..., None],
    args: tuple[object, ...],
    kwargs: dict[str, object],
) -> None:
    global _number
    _number = number
    for each in SIGNALS:
        signal.signal(each, stop)
    threading.Thread(target=_follow_parent, daemon=True).start()
    try:
        start(*args, **kwargs)
    except Exception as error:
        connection.send(portable(error))
        return
    connection.send(None)
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        try:
            connection.send(work(job))
        except Exception as error:
            connection.send(portable(error))


def portable(error: Exception) -> Exception:
    """The error, or its words where it cannot be pickled, or not be made again of what was pickled."""
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


def _follow_parent() -> None:
    """End with the process that started this one, also if it was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        if hasattr(signal, "pthread_kill"):  # which also ends a wait
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        else:
            _thread.interrupt_main(signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(1)
