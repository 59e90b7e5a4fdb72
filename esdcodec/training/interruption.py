"""Being told to stop: by a scheduler that takes the machine back, or by Ctrl-C's politer relatives."""

import signal
import threading
from types import FrameType

EXIT_CODE = 75  # "try again later" in sysexits.h: the run was saved, start it again
# SIGUSR1 is what SLURM is asked to send; Windows has neither it nor a SIGTERM from outside, but Ctrl-Break
SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGBREAK") if hasattr(signal, name))


class Interrupted(SystemExit):
    """The run was told to stop and has saved what it had."""

    def __init__(self) -> None:
        super().__init__(EXIT_CODE)


class Interruption:
    """Remembers, while it is entered, that one of `SIGNALS` came, instead of dying of it.

    Python runs handlers in the main thread alone; a run in another thread is not told.
    """

    def __init__(self) -> None:
        self.received = False

    def __enter__(self) -> "Interruption":
        in_main_thread = threading.current_thread() is threading.main_thread()
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS if in_main_thread}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = True
