"""Work in several processes, which end with the one that started them and tidy up when they are stopped."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import NoReturn, ParamSpec, TypeVar

P = ParamSpec("P")
Job = TypeVar("Job")
Result = TypeVar("Result")

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def stop(signum: int, frame: object) -> NoReturn:
    """Handler of `SIGNALS`: ends the process with 128 + the signal's number, and ignores those that follow.

    So what is under way tidies up, and no second signal interrupts that.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + signum)


def in_processes(
    n_processes: int,
    work: Callable[[Job], Result],
    jobs: Iterable[Job],
    start: Callable[P, None],
    *args: P.args,
    **kwargs: P.kwargs,
) -> Iterator[tuple[Job, Result]]:
    """Yield each job and what `work` makes of it, as they come; each process begins with `start(*args)`.

    If this ends early, no further job is begun, and those under way are stopped.
    """
    context = multiprocessing.get_context("spawn")  # forked torch and onnxruntime threads may hang
    with ProcessPoolExecutor(n_processes, context, _start, (start, args, kwargs)) as pool:
        try:
            futures = {pool.submit(_work, work, job): job for job in jobs}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()  # they tidy up
            raise


def _start(start: Callable[..., None], args: tuple[object, ...], kwargs: dict[str, object]) -> None:
    for number in SIGNALS:
        signal.signal(number, stop)
    threading.Thread(target=_follow_parent, daemon=True).start()
    start(*args, **kwargs)


def _follow_parent() -> None:
    """End with the process that started this one, also if it was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(work: Callable[[Job], Result], job: Job) -> Result:
    try:
        return work(job)
    except SystemExit as stopped:  # the pool would take it for the outcome of this job, and go on with the next
        os._exit(int(stopped.code or 0))
