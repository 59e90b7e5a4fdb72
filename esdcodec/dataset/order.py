"""The order in which a corpus is read: a pure function of seed and place.

Places 0, 1, 2, … are the segments of a run, one after the other over all processes. What is at a place does not depend
on how many processes and workers there are, so ranks share an epoch exactly and a run resumes anywhere.
"""

import random
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import numpy as np

BLOCK = 1000  # places over which the shares of several corpora are exact


class Order:
    """Endless epochs over the items of shards, every item once in each.

    The shards of an epoch come in a random order, and items are shuffled within windows of as many consecutive shards
    as hold `window` items; with `window=0` all is as it lies.

    Args:
        counts: items in each shard.
        seed: of the order; every epoch has its own.
    """

    def __init__(self, counts: Sequence[int], *, window: int, seed: object) -> None:
        self.counts, self.window, self.seed = list(counts), window, seed
        self.size = sum(self.counts)
        # instance caches: a worker walks through an epoch, so the last ones are the ones needed
        self._windows = lru_cache(2)(self._make_windows)
        self._shuffled = lru_cache(4)(self._make_shuffled)

    def __getstate__(self) -> tuple:
        return self.counts, self.window, self.seed

    def __setstate__(self, state: tuple) -> None:
        self.__init__(state[0], window=state[1], seed=state[2])  # type: ignore[misc]

    def __getitem__(self, place: int) -> tuple[int, int, int]:
        """Epoch, shard and item in the shard, of a place."""
        epoch, place = divmod(place, self.size)
        if not self.window:
            starts = self._windows(-1)[0]
            shard = bisect_right(starts, place) - 1
            return epoch, shard, place - starts[shard]
        starts = self._windows(epoch)[0]
        window = bisect_right(starts, place) - 1
        shard, item = self._shuffled(epoch, window)[place - starts[window]]
        return epoch, int(shard), int(item)

    def _make_windows(self, epoch: int) -> tuple[list[int], list[list[int]]]:
        """Where the windows of an epoch start, and the shards in each."""
        shards = list(range(len(self.counts)))
        if epoch >= 0:
            random.Random(f"{self.seed}/{epoch}").shuffle(shards)
        windows: list[list[int]] = []
        room = 0
        for shard in shards:
            if room <= 0:
                windows.append([])
                room = self.window or 1
            windows[-1].append(shard)
            room -= self.counts[shard] if self.window else 1
        sizes = [sum(self.counts[shard] for shard in window) for window in windows]
        return list(accumulate(sizes, initial=0))[:-1], windows

    def _make_shuffled(self, epoch: int, window: int) -> np.ndarray:
        """Shard and item of each place in a window ``[n, 2]``."""
        shards = self._windows(epoch)[1][window]
        pairs = np.concatenate([np.stack([np.full(n, s), np.arange(n)], 1) for s in shards if (n := self.counts[s])])
        rng = np.random.default_rng(random.Random(f"{self.seed}/{epoch}/{window}").getrandbits(64))
        return rng.permutation(pairs)


class Mix:
    """Several corpora taken in turns at random, in shares that are exact over every `BLOCK` places.

    Args:
        weights: shares of the places, of any scale.
    """

    def __init__(self, weights: Sequence[float], seed: object) -> None:
        total = sum(weights)
        shares = [weight / total * BLOCK for weight in weights]
        self.quotas = [int(share) for share in shares]
        by_remainder = sorted(range(len(shares)), key=lambda i: self.quotas[i] - shares[i])
        for i in by_remainder[: BLOCK - sum(self.quotas)]:
            self.quotas[i] += 1
        self.seed = seed
        self._last: tuple[int, list[int]] = (-1, [])

    def __getitem__(self, place: int) -> tuple[int, int]:
        """Which corpus is read at a place, and how often it was read before."""
        if len(self.quotas) == 1:
            return 0, place
        block, i = divmod(place, BLOCK)
        if self._last[0] != block:
            turns = [corpus for corpus, quota in enumerate(self.quotas) for _ in range(quota)]
            random.Random(f"{self.seed}/mix/{block}").shuffle(turns)
            self._last = block, turns
        turns = self._last[1]
        return turns[i], block * self.quotas[turns[i]] + turns[:i].count(turns[i])
