"""What of a corpus was used, dropped and broken, counted and said: nothing is skipped silently."""

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from .batch import Batch, Skip

log = logging.getLogger(__name__)

ENOUGH_TO_TELL = 100  # utterances
SAID_OF_EACH = 3  # examples of a reason in one shard that are logged; all are counted


class TooMuchIsBroken(RuntimeError):
    """More of the data cannot be used than `data.max_broken_share` allows."""


@dataclass
class Tally:
    """Counts of one process."""

    used: int = 0  # segments
    skipped: Counter[tuple[str, str]] = field(default_factory=Counter)  # (shard, reason) -> how many
    converted: Counter[str] = field(default_factory=Counter)

    def add(self, batch: Batch) -> None:
        self.used += len(batch.keys)
        self.converted.update(batch.converted)
        self.skip(batch.skipped)

    def skip(self, skips: Iterable[Skip]) -> None:
        for skip in skips:
            kind = skip.shard, skip.reason
            self.skipped[kind] += 1
            if self.skipped[kind] <= SAID_OF_EACH:
                more = ", and from now on others like it" if self.skipped[kind] == SAID_OF_EACH else ""
                log.warning("skipped %s in %s: %s%s", skip.key or "the rest", skip.shard, skip.reason, more)

    def reasons(self) -> Counter[str]:
        """How many were skipped for each reason, over all shards."""
        total: Counter[str] = Counter()
        for (_, reason), n in self.skipped.items():
            total[reason] += n
        return total


def check_share(broken: Counter[str], n_used: int, max_share: float) -> None:
    """Stop where too much is broken (`broken`: how many for which reason), once there is enough to tell.

    Raises:
        TooMuchIsBroken: with the reasons.
    """
    n_broken = broken.total()
    total = n_broken + n_used
    if total >= ENOUGH_TO_TELL and n_broken > max_share * total:
        most = "; ".join(f"{reason}: {n}" for reason, n in broken.most_common(5))
        raise TooMuchIsBroken(
            f"{n_broken} of {total} utterances are broken, more than data.max_broken_share={max_share:g} ({most}): "
            "mend or remove the shards named in the log, or raise it"
        )
