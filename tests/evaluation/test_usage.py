"""Usage of codebooks."""

import pytest
import torch

from esdcodec.evaluation.usage import CodebookUsage


class TestUsage:
    def test_against_the_definitions(self):
        usage = CodebookUsage((4, 8))
        usage.add(torch.tensor([[[0, 0, 1, 1], [7, 7, 7, 7]]]))
        assert usage.frames == 4
        assert usage.used() == [0.5, 0.125]
        assert usage.entropy() == pytest.approx([1.0, 0.0])
        assert usage.perplexity() == pytest.approx([2.0, 1.0])

    def test_pieces_add_up(self):
        codes = torch.randint(0, 8, (3, 2, 50))
        whole, parts = CodebookUsage((8, 8)), CodebookUsage((8, 8))
        whole.add(codes)
        for part in codes.split(7, dim=2):
            parts.add(part)
        assert torch.equal(whole.counts, parts.counts)
        assert all(0 < entropy <= 3 for entropy in whole.entropy())
