"""How a run is stopped by Ctrl-C or SIGTERM: what is under way tidies up, and no second signal interrupts that."""

import signal
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def stop(signum: int, frame: object) -> NoReturn:
    """Handler of `SIGNALS`: ends the process with 128 + the signal's number, and ignores those that follow."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + signum)
