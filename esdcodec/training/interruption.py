"""Being told to stop: by a scheduler that takes the machine back, or by Ctrl-C's politer relatives."""

import signal
from types import FrameType

EXIT_CODE = 75  # "try again later" in sysexits.h: the run was saved, start it again


class Interrupted(SystemExit):
    """The run was told to stop and has saved what it had."""

    def __init__(self) -> None:
        super().__init__(EXIT_CODE)


class Interruption:
    """Remembers, while it is entered, that SIGTERM or SIGUSR1 came, instead of dying of it."""

    def __init__(self) -> None:
        self.received = False

    def __enter__(self) -> "Interruption":
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGUSR1)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = True
