"""Work in several processes, and signals that stop it."""

from .pool import WorkerDied, in_processes, worker_number
from .signals import (
    EXIT_CODE,
    PREEMPTION,
    SIGNALS,
    Interrupted,
    Interruption,
    ignore_signals_in_worker,
    interrupted_at_once,
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
    "ignore_signals_in_worker",
    "in_processes",
    "interrupted_at_once",
    "stop",
    "uninterrupted",
    "worker_number",
]
