"""Codes as tokens of a language model, and back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esdcodec.dataset.patterns import (
    Vocabulary,
    delay,
    flatten,
    from_semantic_first,
    semantic_first,
    undelay,
    unflatten,
)

SIZES = (64, 16, 16, 16)


@st.composite
def any_codes(draw):
    batch = draw(st.sampled_from([(), (1,), (2, 3)]))
    n, n_frames = draw(st.integers(1, len(SIZES))), draw(st.integers(0, 9))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    rows = [torch.randint(size, (*batch, n_frames), generator=generator) for size in SIZES[:n]]
    return torch.stack(rows, dim=-2)


@settings(max_examples=50, deadline=None)
@given(any_codes())
def test_every_pattern_has_an_exact_inverse(codes):
    n = codes.shape[-2]
    vocabulary = Vocabulary(SIZES, n_text=100, special=("start", "end"))
    assert unflatten(flatten(codes), n).equal(codes)
    assert from_semantic_first(semantic_first(codes), n).equal(codes)
    assert undelay(delay(codes, -1)).equal(codes)
    assert undelay(delay(codes, -1, [2] * n), [2] * n).equal(codes)
    assert vocabulary.codes(vocabulary.tokens(codes)).equal(codes)
    assert from_semantic_first(semantic_first(vocabulary.tokens(codes)), n).equal(vocabulary.tokens(codes))


CODES = torch.tensor([[1, 2, 3], [4, 5, 6]])


def test_flattened_codes_go_frame_by_frame():
    assert flatten(CODES).tolist() == [1, 4, 2, 5, 3, 6]


def test_semantic_codes_come_first():
    assert semantic_first(CODES).tolist() == [1, 2, 3, 4, 5, 6]


def test_a_delayed_codebook_waits_for_the_lower_ones():
    assert delay(CODES, -1).tolist() == [[1, 2, 3, -1], [-1, 4, 5, 6]]


class TestVocabulary:
    def test_text_special_tokens_and_codebooks_share_no_token(self):
        vocabulary = Vocabulary(SIZES, n_text=100, special=("start", "end"))
        codes = [torch.arange(size) + vocabulary.offsets[k] for k, size in enumerate(SIZES)]
        tokens = [*range(100), *vocabulary.special_ids.values(), *torch.cat(codes).tolist()]
        assert tokens == list(range(vocabulary.size))

    def test_tokens_that_are_no_codes_of_their_codebook_come_back_as_padding(self):
        vocabulary = Vocabulary((4, 2), n_text=3, special=("end",))
        assert vocabulary.codes(torch.tensor([[3, 4, 8], [3, 8, 4]])).tolist() == [[-1, 0, -1], [-1, 0, -1]]

    def test_padding_is_refused(self):
        with pytest.raises(ValueError, match="cut off padding"):
            Vocabulary((4,)).tokens(torch.tensor([[1, -1]]))

    def test_more_codebooks_than_it_has_are_refused(self):
        with pytest.raises(ValueError, match="has 1"):
            Vocabulary((4,)).tokens(torch.zeros(2, 3, dtype=torch.long))

    @pytest.mark.parametrize("settings", [{"codebook_sizes": ()}, {"codebook_sizes": (4,), "special": ("a", "a")}])
    def test_nonsense_is_refused(self, settings):
        with pytest.raises(ValueError, match=r"vocabulary|different names"):
            Vocabulary(**settings)


@pytest.mark.parametrize("inverse", [unflatten, from_semantic_first])
def test_a_cut_frame_is_refused(inverse):
    with pytest.raises(ValueError, match="no whole frames"):
        inverse(torch.zeros(7, dtype=torch.long), 2)


def test_delays_of_the_wrong_number_are_refused():
    with pytest.raises(ValueError, match="one for each codebook"):
        delay(CODES, -1, [0])
    with pytest.raises(ValueError, match="fewer than the longest delay"):
        undelay(torch.zeros(2, 2), [0, 3])
