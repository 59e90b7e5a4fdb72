"""Being told to stop, on systems that lack some of the signals too."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from esdcodec.processes import PREEMPTION, Interrupted, Interruption, ignore_signals_in_worker, interrupted_at_once

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_is_remembered_and_the_handler_before_comes_back(name):
    before = signal.getsignal(getattr(signal, name))
    with Interruption() as told:
        assert not told.received
        signal.raise_signal(getattr(signal, name))
        assert told.received
    assert signal.getsignal(getattr(signal, name)) is before


@pytest.mark.parametrize("number", PREEMPTION)
def test_before_there_is_anything_to_save_a_signal_ends_the_process(number):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted), interrupted_at_once():
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_a_run_in_another_thread_is_not_told_but_runs():
    failures = []

    def run():
        try:
            with Interruption() as told:
                assert not told.received
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not failures


def test_the_signals_are_those_that_the_system_has():
    code = "import signal; del signal.SIGUSR1; from esdcodec.processes import *; print(len(PREEMPTION))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.stdout == f"{len(PREEMPTION) - 1}\n", result.stderr


def test_a_worker_without_sigwaitinfo_outlives_a_preemption(monkeypatch):
    for name in ("sigwaitinfo", "pthread_sigmask"):
        monkeypatch.delattr(signal, name)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *PREEMPTION)}
    try:
        ignore_signals_in_worker()
        for number in before:
            os.kill(os.getpid(), number)  # nothing comes of it
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


KILLED = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from esdcodec.processes import ignore_signals_in_worker
if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=ignore_signals_in_worker) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        time.sleep(1000)
"""


def test_a_worker_ends_with_a_parent_that_was_killed(tmp_path):
    """It holds the parent's output, so whoever reads that would wait for ever."""
    (tmp_path / "killed.py").write_text(KILLED)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "killed.py")], stdout=subprocess.PIPE, text=True)
    assert int(parent.stdout.readline())
    parent.kill()
    parent.communicate(timeout=300)
