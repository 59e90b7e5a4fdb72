"""What the processes of these tests do. They import nothing else, as each would for a second: torch above all."""

import os
import signal
import time
from pathlib import Path

from esdcodec.processes import worker_number

FOLDER = ""  # of a worker process: where it may leave a note


def begin(folder="", broken_starts=0):
    global FOLDER
    FOLDER = folder
    if broken_starts:
        begun = Path(folder, f"begun{os.getpid()}")
        begun.touch()
        if len(list(Path(folder).glob("begun*"))) <= broken_starts:
            os.kill(os.getpid(), signal.SIGKILL)


def refuse_to_begin():
    raise ValueError("no such model")


class Awkward(Exception):
    """It is pickled, but not made again: its constructor wants more than its words."""

    def __init__(self, words, more):
        super().__init__(words)


def work(job):
    if job == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "killed once" and not Path(FOLDER, "once").exists():
        Path(FOLDER, "once").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "killed by a signal without a name":
        os.kill(os.getpid(), signal.SIGRTMIN + 1)
    if job == "ends":
        os._exit(3)
    if job == "raises":
        raise AssertionError("not as it should be")
    if job == "awkward":
        raise Awkward("words", "more")
    if job == "number":
        time.sleep(0.05)
        return worker_number()
    if job == "cannot travel":
        return lambda: None
    return job * 2


def begin_once(folder):
    """The first process begins at once, the others hear no signal for long."""
    try:
        Path(folder, "begun").touch(exist_ok=False)
    except FileExistsError:
        Path(folder, "busy").touch()
        sum(range(10**11))


def when_another_is_starting(folder):
    while not Path(folder, "busy").exists():
        time.sleep(0.01)
