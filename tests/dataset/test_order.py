"""Laws of the order of a corpus."""

import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esdcodec.dataset.order import BLOCK, Mix, Order, Permutation

COUNTS = st.lists(st.integers(0, 30), min_size=1, max_size=12).filter(any)


def everything(counts) -> set[tuple[int, int]]:
    return {(shard, item) for shard, n in enumerate(counts) for item in range(n)}


@given(COUNTS, st.integers(0, 100), st.integers(0, 3))
@settings(deadline=None)
def test_every_epoch_holds_every_item_once(counts, window, seed):
    order = Order(counts, window=window, seed=seed)
    for epoch in range(2):
        found = [order[epoch * order.size + i] for i in range(order.size)]
        assert {e for e, _, _ in found} == {epoch}
        assert len(found) == len({(s, i) for _, s, i in found})
        assert {(s, i) for _, s, i in found} == everything(counts)


def test_every_epoch_and_every_seed_has_its_own_order():
    def epoch(seed, number):
        order = Order([20] * 10, window=50, seed=seed)
        return [order[number * 200 + i][1:] for i in range(200)]

    assert epoch(0, 0) == epoch(0, 0)
    assert len({tuple(epoch(seed, number)) for seed in range(2) for number in range(3)}) == 6


def test_a_window_takes_a_piece_of_each_of_many_shards():
    order = Order([100] * 1000, window=1000, seed=0, together=250)
    window = [order[i][1:] for i in range(1000)]
    assert Counter(shard for shard, _ in window) == {shard: 4 for shard, _ in window}
    assert len({shard for shard, _ in window}) == 250
    assert len({shard for shard, _ in window[:100]}) > 70  # and they are mixed
    for shard in {shard for shard, _ in window}:
        items = sorted(item for s, item in window if s == shard)
        assert any(sorted((item - i) % 100 for item in items) == [0, 1, 2, 3] for i in items)  # one after the other


def test_a_group_holds_a_window():
    order = Order([100] * 1000, window=50_000, seed=0, together=10)
    assert len({order[i][1] for i in range(0, 50_000, 7)}) == 500


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 17, 64, 1000, 5000])
def test_a_permutation_maps_all_numbers_to_all(n):
    permutation = Permutation(n, seed=0)
    assert sorted(permutation[i] for i in range(n)) == list(range(n))


def test_permutations_are_as_random_as_drawn_ones():
    n = 4000
    values = np.array([[Permutation(n, seed)[i] for i in range(0, n, 4)] for seed in range(4)])
    assert np.abs(np.corrcoef([*values, np.arange(0, n, 4)]) - np.eye(5)).max() < 0.12  # 4 / sqrt(1000)
    assert np.abs(np.diff(values)).mean() == pytest.approx(n / 3, rel=0.1)
    assert len(np.unique(values[0] * 10 // n, return_counts=True)[1]) == 10
    small = Counter(tuple(Permutation(3, seed)[i] for i in range(3)) for seed in range(600))
    assert len(small) == 6
    assert min(small.values()) > 50


def test_without_a_window_all_is_as_it_lies():
    order = Order([2, 0, 3], window=0, seed=0)
    assert [order[i] for i in range(7)] == [
        (0, 0, 0), (0, 0, 1), (0, 2, 0), (0, 2, 1), (0, 2, 2), (1, 0, 0), (1, 0, 1),
    ]  # fmt: skip


def test_any_position_can_be_asked_for_at_once():
    order = Order([7, 3, 9], window=5, seed=1)
    straight = [order[i] for i in range(60)]
    again = pickle.loads(pickle.dumps(order))
    assert [again[i] for i in reversed(range(60))] == straight[::-1]


class TestMix:
    @pytest.mark.parametrize("weights", [[1, 1], [3, 1], [1, 2, 7], [0.001, 1]])
    def test_shares_are_the_weights(self, weights):
        mix = Mix(weights, seed=0)
        taken = Counter(mix[i][0] for i in range(3 * BLOCK))
        for corpus, weight in enumerate(weights):
            assert abs(taken[corpus] - 3 * BLOCK * weight / sum(weights)) <= 3

    def test_each_corpus_is_read_on_without_a_gap(self):
        mix = Mix([2, 1, 1], seed=0)
        turns: dict[int, list[int]] = {0: [], 1: [], 2: []}
        for position in range(2500):
            corpus, turn = mix[position]
            turns[corpus].append(turn)
        assert all(taken == list(range(len(taken))) for taken in turns.values())

    def test_they_alternate(self):
        assert len({Mix([1, 1], seed=0)[i][0] for i in range(20)}) == 2
