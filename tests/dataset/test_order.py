"""Laws of the order of a corpus."""

import pickle
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esdcodec.dataset.order import BLOCK, PIECE, Mix, Order


@given(st.integers(1, 300), st.integers(0, 400), st.integers(0, 3))
@settings(deadline=None)
def test_every_epoch_holds_every_item_once(size, window, seed):
    order = Order(size, window=window, seed=seed)
    for epoch in range(2):
        found = [order[epoch * size + i] for i in range(size)]
        assert {e for e, _ in found} == {epoch}
        assert sorted(item for _, item in found) == list(range(size))


def test_every_epoch_and_every_seed_has_its_own_order():
    def epoch(seed, number):
        order = Order(200, window=50, seed=seed)
        return [order[number * 200 + i][1] for i in range(200)]

    assert epoch(0, 0) == epoch(0, 0)
    assert len({tuple(epoch(seed, number)) for seed in range(2) for number in range(3)}) == 6


def test_a_window_has_parts_of_as_many_shards_as_it_can():
    """Of shards of 3,000, 20,000 neighbours would be 7; a step of 64 processes of 12 would see those alone."""
    order = Order(10_000 * 3000, window=20_000, seed=0)
    items = [order[i][1] for i in range(20_000)]
    assert len({item // 3000 for item in items}) > 300
    assert len({item // 3000 for item in items[: 64 * 12]}) > 250
    assert len({item // PIECE for item in items}) <= 20_000 // PIECE + 1  # and what lies together is read together


def test_without_a_window_all_is_as_it_lies():
    order = Order(5, window=0, seed=0)
    assert [order[i] for i in range(7)] == [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1)]


def test_any_place_can_be_asked_for_at_once():
    order = Order(19, window=5, seed=1)
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
        for place in range(2500):
            corpus, turn = mix[place]
            turns[corpus].append(turn)
        assert all(taken == list(range(len(taken))) for taken in turns.values())

    def test_they_alternate(self):
        assert len({Mix([1, 1], seed=0)[i][0] for i in range(20)}) == 2
