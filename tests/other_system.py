"""What Python lacks on Windows and macOS, taken away from processes that a test starts."""

import os
from pathlib import Path

_TAKE_AWAY = """
import builtins, multiprocessing, os, signal, sys, warnings

for name in ("SIGUSR1", "SIGUSR2", "SIGKILL", "SIGHUP", "pthread_sigmask", "sigwait", "sigwaitinfo", "sigtimedwait",
             "pthread_kill", "setitimer"):
    delattr(signal, name)
for name in ("fork", "forkpty", "pread", "pwrite", "killpg", "sched_getaffinity", "posix_fadvise"):
    delattr(os, name)

ABSENT = {"fcntl", "grp", "pwd", "resource", "termios"}
find = builtins.__import__

def find_module(name, scope=None, *rest, **more):  # other packages ask for the system by its name
    if name in ABSENT and scope and scope.get("__name__", "").startswith("esdcodec"):
        raise ModuleNotFoundError(name)
    return find(name, scope, *rest, **more)

register = os.register_at_fork

def register_at_fork(**functions):  # torch has it everywhere but where the system is called win32
    if sys._getframe(1).f_globals["__name__"].startswith("esdcodec"):
        raise AttributeError("register_at_fork")
    register(**functions)

open_file = os.open

def open_no_folder(path, *rest, **more):
    if os.path.isdir(path) and sys._getframe(1).f_globals["__name__"].startswith("esdcodec"):
        raise PermissionError(13, "Permission denied", str(path))
    return open_file(path, *rest, **more)

builtins.__import__ = find_module
os.open = open_no_folder
warnings.filterwarnings("error", category=EncodingWarning, module="esdcodec")  # text is not UTF-8 everywhere
os.register_at_fork = register_at_fork
multiprocessing.set_start_method("spawn")
"""


def without_posix(folder: Path) -> dict[str, str]:
    """An environment whose Python processes, and those that they start, have no POSIX signals, fork or locks."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(_TAKE_AWAY)
    root = Path(__file__).parents[1]
    return {
        **os.environ,
        "PYTHONPATH": f"{folder}{os.pathsep}{root}",
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNDEFAULTENCODING": "1",
    }
