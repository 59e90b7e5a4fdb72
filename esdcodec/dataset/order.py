"""The order in which a corpus is read: a pure function of seed and position.

Positions 0, 1, 2, … are the segments of a run, one after the other over all processes. What is at a position does not
depend on how many processes and workers there are, so ranks share an epoch exactly and a run resumes anywhere.
"""

import random
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise

import numpy as np

BLOCK = 1000  # positions over which the shares of several corpora are exact
TOGETHER = 256  # shards that are read at a time: as many as that a window mixes, and as few as can be held open
ROUNDS = 6  # of the Feistel network; with random functions 4 are enough (Luby and Rackoff 1988)


class Permutation:
    """A random permutation of the numbers below `n` that is computed, not stored.

    A Feistel network on as many bits as `n` has, walked along until it leads below `n` again (Black and Rogaway 2002).
    """

    def __init__(self, n: int, seed: object) -> None:
        bits = max(2, (n - 1).bit_length())
        rng = random.Random(str(seed))
        self.n, self.right = n, bits // 2
        self.left_mask, self.right_mask = (1 << (bits - self.right)) - 1, (1 << self.right) - 1
        self.keys = [(rng.getrandbits(64), rng.getrandbits(64) | 1) for _ in range(ROUNDS)]

    def __getitem__(self, i: int) -> int:
        while True:
            left, right = i >> self.right, i & self.right_mask
            for round_, (add, times) in enumerate(self.keys):
                if round_ % 2:
                    right ^= _mixed(left, add, times) & self.right_mask
                else:
                    left ^= _mixed(right, add, times) & self.left_mask
            i = left << self.right | right
            if i < self.n:
                return i


def _mixed(value: int, add: int, times: int) -> int:
    """32 bits of which each depends on all of `value`."""
    product = (value + add) * times & 0xFFFFFFFFFFFFFFFF
    return ((product ^ product >> 29) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF) >> 32


class Order:
    """Endless epochs over the items of shards, every item once in each.

    The shards of an epoch come in a random order, in groups of `together` or, where these hold fewer than `window`
    items, more. A group is read in windows of about `window` items, each a piece of every shard of the group, so that
    many shards are mixed however small the window is. Within a window all is shuffled. With `window=0` nothing is
    shuffled.

    Args:
        counts: items in each shard.
        seed: of the order; every epoch has its own.
        together: shards of a group.
    """

    def __init__(self, counts: Sequence[int] | np.ndarray, *, window: int, seed: object, together: int = TOGETHER):
        self.counts = np.asarray(counts, np.int64)
        self.window, self.seed = window, seed
        self.size = int(self.counts.sum())
        wide = -(-len(self.counts) * window // max(1, self.size))  # shards that hold a window
        self.n_groups = max(1, len(self.counts) // max(together, wide, 1))
        # instance caches: a worker walks through an epoch, so the last ones are the ones needed
        self._epoch = lru_cache(2)(self._make_epoch)
        self._group = lru_cache(2)(self._make_group)

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if name not in ("_epoch", "_group")}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._epoch = lru_cache(2)(self._make_epoch)
        self._group = lru_cache(2)(self._make_group)

    def __getitem__(self, position: int) -> tuple[int, int, int]:
        """Epoch, shard and item in the shard, of a position."""
        epoch, position = divmod(position, self.size)
        if not self.window:
            starts = self._epoch(-1)[0]
            shard = bisect_right(starts, position) - 1
            return epoch, shard, position - starts[shard]
        starts = self._epoch(epoch)[0]
        group = bisect_right(starts, position) - 1
        shard, item = self._group(epoch, group)[position - starts[group]]
        return epoch, shard, item

    def _make_epoch(self, epoch: int) -> tuple[list[int], list[list[int]]]:
        """Where the groups of an epoch start, and the shards in each; of epoch -1, every shard alone."""
        shards = list(range(len(self.counts)))
        n_groups = len(shards)
        if epoch >= 0:
            random.Random(f"{self.seed}/{epoch}").shuffle(shards)
            n_groups = self.n_groups
        bounds = [len(shards) * i // n_groups for i in range(n_groups + 1)]
        groups = [shards[first:last] for first, last in pairwise(bounds)]
        sizes = (int(self.counts[group].sum()) for group in groups)
        return list(accumulate(sizes, initial=0))[:-1], groups

    def _make_group(self, epoch: int, group: int) -> "_Group":
        shards = self._epoch(epoch)[1][group]
        return _Group(shards, self.counts[shards], self.window, f"{self.seed}/{epoch}/{group}")


class _Group:
    """Shards that are read together, window by window."""

    def __init__(self, shards: Sequence[int], counts: np.ndarray, window: int, seed: str) -> None:
        self.shards, self.counts, self.seed = shards, counts, seed
        self.size = int(counts.sum())
        self.n_windows = max(1, round(self.size / window))
        rng = random.Random(seed)
        self.turned = [rng.randrange(max(1, n)) for n in counts.tolist()]  # where each shard begins in this epoch
        self._window = lru_cache(2)(self._make_window)
        self._last = 0

    def __getitem__(self, position: int) -> tuple[int, int]:
        """Shard and item of a position in the group."""
        start, end, *_ = self._window(self._last)
        if not start <= position < end:
            self._last = self._find(position)
            start, end, *_ = self._window(self._last)
        _, _, permutation, firsts, ends = self._window(self._last)
        i = permutation[position - start]
        which = bisect_right(ends, i)
        before = ends[which - 1] if which else 0
        item = (firsts[which] + i - before + self.turned[which]) % int(self.counts[which])
        return self.shards[which], item

    def _find(self, position: int) -> int:
        low, high = 0, self.n_windows - 1  # the last window that starts at or before `position`
        while low < high:
            middle = (low + high + 1) // 2
            if int(self._firsts(middle).sum()) <= position:
                low = middle
            else:
                high = middle - 1
        return low

    def _firsts(self, window: int) -> np.ndarray:
        """Where the pieces of a window begin in their shards."""
        return self.counts * window // self.n_windows

    def _make_window(self, window: int) -> tuple[int, int, Permutation, list[int], list[int]]:
        firsts, lasts = self._firsts(window), self._firsts(window + 1)
        start, end = int(firsts.sum()), int(lasts.sum())
        return (
            start,
            end,
            Permutation(end - start, f"{self.seed}/{window}"),
            firsts.tolist(),
            np.cumsum(lasts - firsts).tolist(),
        )


class Mix:
    """Several corpora taken in turns at random, in shares that are exact over every `BLOCK` positions.

    Args:
        weights: shares of the positions, of any scale.
    """

    def __init__(self, weights: Sequence[float], seed: object) -> None:
        total = sum(weights)
        shares = [weight / total * BLOCK for weight in weights]
        self.quotas = [int(share) for share in shares]
        by_remainder = sorted(range(len(shares)), key=lambda i: self.quotas[i] - shares[i])
        for i in by_remainder[: BLOCK - sum(self.quotas)]:
            self.quotas[i] += 1
        self.seed = seed
        self._last: tuple[int, list[tuple[int, int]]] = (-1, [])

    def __getitem__(self, position: int) -> tuple[int, int]:
        """Which corpus is read at a position, and how often it was read before."""
        if len(self.quotas) == 1:
            return 0, position
        block, i = divmod(position, BLOCK)
        if self._last[0] != block:
            turns = [corpus for corpus, quota in enumerate(self.quotas) for _ in range(quota)]
            random.Random(f"{self.seed}/mix/{block}").shuffle(turns)
            read = [block * quota for quota in self.quotas]
            taken = []
            for corpus in turns:
                taken.append((corpus, read[corpus]))
                read[corpus] += 1
            self._last = block, taken
        return self._last[1][i]
