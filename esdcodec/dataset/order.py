"""The order in which a corpus is read: a pure function of seed and place.

Places 0, 1, 2, … are the segments of a run, one after the other over all processes. What is at a place does not depend
on how many processes and workers there are, so ranks share an epoch exactly and a run resumes anywhere.
"""

import random
from collections.abc import Sequence
from functools import lru_cache, partial

import numpy as np

PIECE = 64  # neighbours that stay in one window
BLOCK = 1000  # places over which the shares of several corpora are exact


class Order:
    """Endless epochs over numbered items, every one once in each.

    An epoch is cut into pieces of up to `PIECE` neighbours, which lie together on the disk. Pieces come in random
    order, and items are shuffled within windows of as many pieces as hold `window` items: a window has parts of
    hundreds of shards. With `window=0` all is as it lies.

    Args:
        size: number of items.
        seed: of the order; every epoch has its own.
    """

    def __init__(self, size: int, *, window: int, seed: object) -> None:
        self.size, self.window, self.seed = size, window, seed
        self.piece = max(1, min(PIECE, window // 16))
        self.n_pieces = -(-size // self.piece)
        self.per_window = -(-window // self.piece)  # pieces
        # instance caches: a worker walks through an epoch, so the last ones are the ones needed
        self._pieces = lru_cache(2)(self._make_pieces)
        self._shuffled = lru_cache(4)(self._make_shuffled)

    def __reduce__(self) -> tuple:
        return partial(Order, window=self.window, seed=self.seed), (self.size,)

    def __getitem__(self, position: int) -> tuple[int, int]:
        """Epoch and item at a position."""
        epoch, position = divmod(position, self.size)
        if not self.window:
            return epoch, position
        full = self.per_window * self.piece  # items of a window, but of that with the last piece, which is shorter
        missing = self.n_pieces * self.piece - self.size
        short = self._pieces(epoch)[1]
        window = position // full if position < (short + 1) * full - missing else (position + missing) // full
        first = window * full - (missing if window > short else 0)
        return epoch, int(self._shuffled(epoch, window)[position - first])

    def _make_pieces(self, epoch: int) -> tuple[np.ndarray, int]:
        """The pieces in the order of an epoch, and the window that has the last of the corpus."""
        pieces = self._rng(epoch).permutation(self.n_pieces)
        return pieces, int(np.flatnonzero(pieces == self.n_pieces - 1)[0]) // self.per_window

    def _make_shuffled(self, epoch: int, window: int) -> np.ndarray:
        """Items of a window in their order."""
        pieces = self._pieces(epoch)[0][window * self.per_window : (window + 1) * self.per_window]
        items = (pieces[:, None] * self.piece + np.arange(self.piece)).ravel()
        return self._rng(epoch, window).permutation(items[items < self.size])

    def _rng(self, *number: int) -> np.random.Generator:
        return np.random.default_rng(random.Random(f"{self.seed}/{number}").getrandbits(64))


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
