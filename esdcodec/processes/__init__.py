"""Work in several processes, and signals that stop it."""

from .pool import FAILED_STARTS, GRACE, WorkerDied, in_processes, portable, worker_number
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
    "FAILED_STARTS",
    "GRACE",
    "PREEMPTION",
    "SIGNALS",
    "Interrupted",
    "Interruption",
    "WorkerDied",
    "ignore_signals_in_worker",
    "in_processes",
    "interrupted_at_once",
    "portable",
    "stop",
    "uninterrupted",
    "worker_number",
]
