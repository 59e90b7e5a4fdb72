"""Units over the machines of a Ray cluster: actors that hold the codec, and a loop that loses no unit.

An actor reads, decodes and resamples in threads of its own, ahead of its network, as a local process does. Only units
and manifests travel. Readers in actors of their own would send all audio through Ray's object store.
"""

import os
import platform
import signal
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...processes import FAILED_STARTS, GRACE, SIGNALS, WorkerDied, portable, uninterrupted
from ...whole_file import tidy_after_kill
from .ray_address import check_answers, import_ray
from .settings import TokeniseSettings
from .sources import Unit
from .work import ShardManifest, manifest_file
from .worker import Results, Worker

# Measured with Ray 2.60: actors with its defaults lose the units of a node that dies; with unlimited restarts and
# retries they hang where no CPU is left; its actor pool ends at the first exception. So none of that is used here.
TRIES = 3  # of a unit, if the process or machine that works on it dies
LOOK = 1.0  # seconds after which the cluster is looked at again
TIDY = 60.0  # seconds in which processes that tidy up may start and end
NO_ROOM = 300.0  # seconds without an actor that runs, after which the units that are left fail


def ray_results(worker: Worker, units: Sequence[Unit], jobs: int | None, address: str | None) -> Results:
    """Units that `jobs` actors do, each like `worker`; default: as many as the cluster has room for, always.

    A unit whose process or machine dies is done again, at most `TRIES` times; then its outcome is `WorkerDied`. Dead
    actors are replaced where there is room. Where none can start, the units that are left get the reason.

    If this ends early, the actors are killed, and what they had begun to write is deleted.

    Raises:
        ConnectionError, ValueError: no cluster answers at this address, or it is none.
        ImportError: Ray is not installed.
    """
    if not units:
        return
    worker.output.mkdir(parents=True, exist_ok=True)
    with connected(address) as ray:
        actors = _Actors(ray, worker, deque(units), jobs)
        try:
            yield from actors.results()
        finally:
            actors.end()


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """The module `ray`, connected to a cluster: the one that it is connected to already, or else until the end."""
    ray = import_ray()
    if ray.is_initialized():
        if address is not None:
            raise ValueError(f"Ray is connected to a cluster already: leave out ray_address={address!r}, or end that")
        yield ray
        return
    check_answers(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would send statistics of a cluster that it starts
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="warning")
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)  # Ray has set its own
        yield ray
    finally:
        ray.shutdown()


@dataclass(eq=False)
class _Actor:
    """An actor, the node where it runs (none while it waits for room), and its current unit (none while it starts)."""

    handle: Any
    node: str = ""
    unit: Unit | None = None


class _Actors:
    """The actors of a run, and the units that wait for one."""

    def __init__(self, ray: Any, worker: Worker, waiting: deque[Unit], jobs: int | None) -> None:
        self.ray, self.waiting, self.jobs = ray, waiting, jobs
        self.settings = _on_cluster(worker.settings, ray.cluster_resources().get("GPU", 0) > 0)
        self.output, self.threads = worker.output, worker.threads or 1
        self.needs = {"CPU": self.threads} | ({"GPU": 1} if self.settings.device == "cuda" else {})
        self.running: dict[Any, _Actor] = {}  # by what is waited for
        self.refused = 0  # actors that could not start
        self.failures: list[Exception] = []  # of starts, in a row
        self.deaths: Counter[str] = Counter()  # units by name
        self.unfinished: dict[str, list[_Actor]] = defaultdict(list)  # by node: what died amid a unit
        self.seen = time.monotonic()  # when an actor last ran

    def results(self) -> Results:
        while self.waiting or self._busy():
            self._fill()
            if reason := self._hopeless():
                while self.waiting:
                    yield self.waiting.popleft(), reason
                if not self._busy():
                    return
            with uninterrupted():  # of a signal's exception Ray's wait makes another one
                ready, _ = self.ray.wait(list(self.running), timeout=LOOK)
                outcome = self._take(ready[0]) if ready else None
            if outcome is not None:
                yield outcome

    def _busy(self) -> int:
        return sum(actor.unit is not None for actor in self.running.values())

    def _room(self) -> int:
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        return sum(int(min(has.get(name, 0) / n for name, n in self.needs.items())) for has in nodes)

    def _fill(self) -> None:
        """Start as many actors as are wanted and are not there."""
        wanted = min((self.jobs or self._room()) - self.refused, len(self.waiting) + self._busy())
        while len(self.running) < max(1, wanted) and len(self.failures) < FAILED_STARTS and self.waiting:
            kind = self.ray.remote(max_restarts=0, max_task_retries=0)(TokeniseActor)
            kind = kind.options(num_cpus=self.threads, num_gpus=self.needs.get("GPU", 0))
            actor = _Actor(kind.remote(self.settings, self.output, self.threads, os.getcwd()))
            self.running[actor.handle.node.remote()] = actor

    def _hopeless(self) -> Exception | None:
        """Why no unit that waits will be done."""
        if any(actor.node for actor in self.running.values()):  # else all wait for room
            self.seen = time.monotonic()
        if not self.running:
            return self.failures[-1]
        if time.monotonic() - self.seen > NO_ROOM:
            need = " and ".join(f"{n} {name}" for name, n in self.needs.items())
            return RuntimeError(f"no node of the Ray cluster had {need} free for an actor in {NO_ROOM:.0f} s")
        return None

    def _take(self, reference: Any) -> "tuple[Unit, tuple[ShardManifest, float] | Exception] | None":
        """The unit that is done, and its result; the actor gets its next one."""
        actor = self.running.pop(reference)
        try:
            outcome = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            died = WorkerDied(f"{type(error).__name__}: {_first_and_last(error)}")
            if actor.unit is not None:
                return self._put_back(actor, actor.unit, died)
            self._refuse(actor, died)
            return None
        unit = actor.unit
        if not actor.node:
            actor.node = outcome
            self.running[actor.handle.load.remote()] = actor
            return None
        if unit is None and outcome is not None:
            self._refuse(actor, outcome)
            return None
        self.failures.clear()
        if self.waiting:
            actor.unit = self.waiting.popleft()
            self.running[actor.handle.run.remote(actor.unit)] = actor
        else:
            self.ray.kill(actor.handle)
        return None if unit is None else (unit, outcome)

    def _refuse(self, actor: _Actor, error: Exception) -> None:
        """Do without an actor that does not start."""
        self.ray.kill(actor.handle)
        self.failures.append(error)
        self.refused += 1

    def _put_back(self, actor: _Actor, unit: Unit, error: Exception) -> tuple[Unit, Exception] | None:
        """Let a unit whose actor died wait again, if that has not happened too often."""
        self.unfinished[actor.node].append(actor)
        self.ray.kill(actor.handle)  # it may be cut off only, and still at work
        self.deaths[unit.name] += 1
        if self.deaths[unit.name] < TRIES:
            self.waiting.append(unit)
            return None
        return unit, WorkerDied(f"the process that worked on it died, {TRIES} times: {error}")

    def end(self) -> None:
        """Kill the actors, and delete what was left half-written where an actor died or was killed."""
        for actor in self.running.values():
            if actor.unit is not None:
                self.unfinished[actor.node].append(actor)
            self.ray.kill(actor.handle)
        if self.running:
            self.ray.wait(list(self.running), num_returns=len(self.running), timeout=GRACE)  # until they have ended
        tidy_up = self.ray.remote(num_cpus=0, max_retries=0)(tidy_after_kill)  # its module is soon imported
        here = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        tasks = []
        for node in self.ray.nodes():
            actors = self.unfinished.get(node["NodeID"])
            if node["Alive"] and actors:
                folders = {manifest_file(self.output, actor.unit).parent for actor in actors if actor.unit}
                options = {"scheduling_strategy": here(node["NodeID"], soft=False)}
                tasks.append(tidy_up.options(**options).remote(folders, GRACE))
        if tasks:
            self.ray.wait(tasks, num_returns=len(tasks), timeout=TIDY)


def _on_cluster(settings: TokeniseSettings, has_gpus: bool) -> TokeniseSettings:
    """The settings with one kind of device for all actors."""
    device = settings.device or ("cuda" if has_gpus else "cpu")
    if device.startswith("cuda:"):
        raise ValueError(f"--device {device}: Ray gives each actor a GPU of its own; say cuda")
    return replace(settings, device=device)


def _first_and_last(error: Exception) -> str:
    """What Ray says first, and last, where it tells of an exception."""
    lines = str(error).strip().split("\n")
    return " … ".join(dict.fromkeys([lines[0], lines[-1]]))


# ---- on a node of the cluster ----------------------------------------------------------------------------------------


class TokeniseActor:
    """A codec on its GPU, or on so many cores, in the driver's working directory where its node has that."""

    def __init__(self, settings: TokeniseSettings, output: Path, threads: int, folder: str) -> None:
        self.worker, self.folder = Worker(settings, output, threads), folder

    def node(self) -> str:
        """The id of the node where it is."""
        found: str = import_ray().get_runtime_context().get_node_id()
        return found

    def load(self) -> Exception | None:
        """Load the model. Returns why it cannot work."""
        try:
            if os.path.isdir(self.folder):
                os.chdir(self.folder)
            if not self.worker.output.is_dir():
                where = f"{platform.node()} has no folder {self.worker.output}"
                raise FileNotFoundError(f"{where}: it must be on a disk that all machines share")
            self.worker.start()
            return None
        except Exception as error:
            return portable(error)

    def run(self, unit: Unit) -> tuple[ShardManifest, float] | Exception:
        try:
            return self.worker.run(unit)
        except Exception as error:  # one shard's failure is one shard's
            return portable(error)
