"""Work in several processes, and being told to stop."""

from .pool import WorkerDied, in_processes
from .signals import (
    EXIT_CODE,
    PREEMPTION,
    SIGNALS,
    Interrupted,
    Interruption,
    leave_to_the_parent,
    stop,
    uninterrupted,
)

__all__ = [
    "EXIT_CODE",
    "PREEMPTION",
    "SIGNALS",
    "Interrupted",
    "Interruption",
    "WorkerDied",
    "in_processes",
    "leave_to_the_parent",
    "stop",
    "uninterrupted",
]
