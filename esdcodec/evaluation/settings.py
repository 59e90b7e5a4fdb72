"""What is to be evaluated and how, checked before anything is done."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .metrics import METRICS
from .systems import PEERS

ORIGINAL = "original"  # the system that is the recording itself


@dataclass(frozen=True)
class EvaluationSettings:
    """What is to be evaluated and how: all that a worker process needs.

    Raises:
        ValueError: settings that cannot be; the message lists all that is wrong.
    """

    folder: Path  # of the originals
    metrics: tuple[str, ...]  # names in `METRICS`
    model: str | None = None
    device: str = "cpu"
    n_quantizers: tuple[int, ...] = ()  # default: those of 1, 3, 8, 12 that the model has
    decoded: tuple[tuple[str, Path], ...] = ()  # name, folder of decoded files
    peers: tuple[str, ...] = ()  # names in `PEERS`
    commands: tuple[tuple[str, str], ...] = ()  # name, template of a shell command
    kept: Path | None = None  # where decoded files are kept; None: nowhere
    language: str | None = None  # of all recordings; None: what is known of each

    def __post_init__(self) -> None:
        problems = [f"no metric is called {m}: {', '.join(METRICS)}" for m in self.metrics if m not in METRICS]
        problems += [f"no peer is called {p}: {', '.join(PEERS)}" for p in self.peers if p not in PEERS]
        names = Counter([*(name for name, _ in (*self.decoded, *self.commands)), *self.peers])
        problems += [f"{n} systems are called {name!r}: give each its own name" for name, n in names.items() if n > 1]
        problems += [f"{ORIGINAL!r} is the original itself: give the system another name"] * (ORIGINAL in names)
        for name, template in self.commands:
            if not ("{input}" in template and "{output}" in template):
                problems.append(f"the command of {name!r} needs {{input}} and {{output}}: {template}")
        problems += [f"{folder} is no folder of decoded files" for _, folder in self.decoded if not folder.is_dir()]
        if problems:
            raise ValueError("\n".join(problems))
