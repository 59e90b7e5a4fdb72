"""Counts what of a corpus is used, dropped and broken, and logs it: nothing is skipped silently."""

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from .batch import Batch, SkippedUtterance

log = logging.getLogger(__name__)

MIN_UTTERANCES = 100  # before the share of broken ones is judged
MIN_SHARDS = 20  # or all, if there are fewer
LOGGED_EXAMPLES = 3  # of a reason in one shard; all are counted


class TooMuchIsBroken(RuntimeError):
    """More of the data cannot be used than `data.max_broken_share` allows."""


@dataclass
class SkipCounts:
    """Counts of one process, or with `+` of several.

    Of shards that are streamed, `shards` says how many were `read` to their end and how many are `broken`, and the
    `utterances of read` and `utterances of broken` ones; `n_shards` is how many there are.
    """

    used: int = 0  # segments
    skipped: Counter[tuple[str, str]] = field(default_factory=Counter)  # (shard, reason) -> how many
    converted: Counter[str] = field(default_factory=Counter)
    shards: Counter[str] = field(default_factory=Counter)
    n_shards: int = 0

    def __add__(self, other: "SkipCounts") -> "SkipCounts":
        return SkipCounts(
            self.used + other.used,
            self.skipped + other.skipped,
            self.converted + other.converted,
            self.shards + other.shards,
            max(self.n_shards, other.n_shards),
        )

    def check(self, max_share: float) -> None:
        """Stop where too much is broken, once enough has been read.

        Raises:
            TooMuchIsBroken: more than `max_share` of the utterances, or of the shards.
        """
        check_share(self.reasons(), self.used, max_share)
        read, broken = self.shards["read"], self.shards["broken"]
        enough = min(self.n_shards, MIN_SHARDS)
        if not broken or read + broken < enough:
            return
        # a shard that broke after half of its utterances is half a broken one
        size = self.shards["utterances of read"] / read if read else self.shards["utterances of broken"] / broken
        missing = broken - min(broken, self.shards["utterances of broken"] / max(1.0, size))
        if missing > max_share * (read + broken):
            reasons = list(dict.fromkeys(reason for _, reason in self.skipped if reason.startswith("shard ")))[:3]
            raise TooMuchIsBroken(
                f"{broken} of {read + broken} shards could not be read to their end, more than "
                f"data.max_broken_share={max_share:g} ({'; '.join(reasons)}): mend or remove those named in the log, "
                "or raise it"
            )

    def add(self, batch: Batch) -> None:
        self.used += len(batch.keys)
        self.converted.update(batch.converted)
        self.shards.update(batch.shards_seen)
        self.add_skipped(batch.skipped)

    def add_skipped(self, utterances: Iterable[SkippedUtterance]) -> None:
        for skipped in utterances:
            kind = skipped.shard, skipped.reason
            self.skipped[kind] += 1
            if self.skipped[kind] <= LOGGED_EXAMPLES:
                more = ", and from now on others like it" if self.skipped[kind] == LOGGED_EXAMPLES else ""
                key = skipped.key.encode(errors="backslashreplace").decode()  # a name in a tar may be no UTF-8
                log.warning("skipped %s in %s: %s%s", key or "the rest", skipped.shard, skipped.reason, more)

    def reasons(self) -> Counter[str]:
        """How many were skipped for each reason, over all shards."""
        total: Counter[str] = Counter()
        for (_, reason), n in self.skipped.items():
            total[reason] += n
        return total


def check_share(broken: Counter[str], n_used: int, max_share: float) -> None:
    """Stop where too much is broken (`broken`: how many for which reason), once enough has been read.

    Raises:
        TooMuchIsBroken: with the reasons.
    """
    n_broken = broken.total()
    total = n_broken + n_used
    if total >= MIN_UTTERANCES and n_broken > max_share * total:
        most = "; ".join(f"{reason}: {n}" for reason, n in broken.most_common(5))
        raise TooMuchIsBroken(
            f"{n_broken} of {total} utterances are broken, more than data.max_broken_share={max_share:g} ({most}): "
            "mend or remove the shards named in the log, or raise it"
        )
