"""Work in several processes: what one job does to its process is that job's alone."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from esdcodec.processes import WorkerDied, in_processes, stop, uninterrupted, worker_number
from tests.conftest import PATIENCE
from tests.processes.jobs import begin, begin_once, refuse_to_begin, when_another_is_starting, work


def outcomes(jobs, *args, n_processes=2, start=begin):
    found = list(in_processes(n_processes, work, jobs, start, *args))
    assert sorted(map(str, jobs)) == sorted(str(job) for job, _ in found), "each job has one outcome"
    return dict(found)


def test_what_one_job_does_is_no_other_jobs_outcome(tmp_path):
    harmful = [
        "killed",
        "killed once",
        "killed by a signal without a name",
        "ends",
        "raises",
        "awkward",
        "cannot travel",
    ]
    found = outcomes([1, 2, *harmful, 3, 4, 5], str(tmp_path))
    assert [found[i] for i in range(1, 6)] == [2, 4, 6, 8, 10]
    assert isinstance(found["killed"], WorkerDied)
    assert "SIGKILL" in str(found["killed"])
    assert found["killed once"] == 2 * "killed once"
    assert "(signal " in str(found["killed by a signal without a name"])
    assert isinstance(found["ends"], WorkerDied)
    assert "exit code 3" in str(found["ends"])
    assert str(found["raises"]) == "not as it should be"
    assert str(found["awkward"]) == "Awkward: words"
    assert isinstance(found["cannot travel"], Exception)


def test_processes_that_do_not_start_leave_the_work_to_the_others(tmp_path):
    assert outcomes([1, 2, 3], str(tmp_path), 1) == {1: 2, 2: 4, 3: 6}


def test_where_none_starts_each_job_is_told_why(tmp_path):
    found = outcomes([1, 2, 3], start=refuse_to_begin)
    assert {str(why) for why in found.values()} == {"no such model"}
    found = outcomes([1, 2], str(tmp_path), 1000)
    assert all(isinstance(why, WorkerDied) for why in found.values())


def test_processes_are_numbered_and_one_that_takes_a_dead_ones_place_has_its_number():
    found = [number for job, number in in_processes(2, work, ["number"] * 20 + ["killed"] + ["number"] * 20, begin)]
    assert {number for number in found if not isinstance(number, Exception)} == {0, 1}
    assert worker_number() is None


def test_no_jobs_no_processes():
    assert outcomes([], start=refuse_to_begin) == {}


def test_processes_end_when_the_results_are_no_longer_wanted():
    results = in_processes(2, work, range(1000), begin)
    assert next(results)[1] is not None
    assert multiprocessing.active_children()
    results.close()
    assert not multiprocessing.active_children()


def test_processes_that_are_still_starting_are_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("esdcodec.processes.pool.GRACE", 3600.0)
    results = in_processes(2, when_another_is_starting, 3 * [str(tmp_path)], begin_once, str(tmp_path))
    assert next(results)[1] is None
    results.close()
    assert not multiprocessing.active_children()


def test_workers_of_a_killed_process_tidy_up_and_end(tmp_path):
    script = f"""
        import os, pathlib, time
        from esdcodec.processes import in_processes

        def begin():
            pass

        def work(job):
            note = pathlib.Path({str(tmp_path)!r}, str(os.getpid()))
            note.touch()
            try:
                time.sleep(600)
            finally:
                note.unlink()

        if __name__ == "__main__":
            list(in_processes(2, work, [1, 2], begin))
    """
    file = tmp_path / "script.py"
    file.write_text(textwrap.dedent(script))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, str(file)], env=environment)
    while len(list(tmp_path.glob("[0-9]*"))) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    until = time.monotonic() + PATIENCE
    while list(tmp_path.glob("[0-9]*")):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_signal_within_a_call_into_c_is_not_lost():
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    reached = []

    def call():
        with uninterrupted():
            signal.raise_signal(signal.SIGTERM)
            reached.append("the end of the call")

    try:
        with pytest.raises(SystemExit) as stopped:
            call()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert reached
    assert stopped.value.code == 128 + signal.SIGTERM


def test_two_signals_at_once_stop_a_process_without_a_word():
    script = """
        import os, signal
        from esdcodec.processes import SIGNALS, stop

        for number in SIGNALS:
            signal.signal(number, stop)
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        for number in SIGNALS:
            os.kill(os.getpid(), number)
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        finally:
            for _ in range(10000):  # the second one is handled here
                pass
    """
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, check=False)
    assert result.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM)
    assert result.stderr == b""
