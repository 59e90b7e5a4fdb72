"""Scores of a validation."""

import numpy as np
import pystoi
import pytest
import torch
from accelerate import Accelerator

from esdcodec.dataset.batch import Batch
from esdcodec.evaluation.metrics import si_sdr, stoi
from esdcodec.training import validation
from esdcodec.training.validation import validate
from tests.conftest import speech


def test_processes_give_the_scores_that_this_one_gives(tiny_codec, monkeypatch):
    audio = torch.cat([speech(1.5, seed=i) for i in range(3)])
    batches = [Batch(audio, ["a", "b", "c"]), Batch(audio[:1], ["d"]), Batch(audio[:0], [])]
    monkeypatch.setattr(validation, "PENDING", 2)
    alone = validate(tiny_codec, batches, Accelerator(cpu=True))
    monkeypatch.setattr(pystoi, "stoi", lambda *_, **__: 1 / 0)  # here; other processes have their own
    assert validate(tiny_codec, batches, Accelerator(cpu=True), n_processes=2) == alone
    assert 0 < alone.values["stoi_6"] < 1


class TestScores:
    def test_si_sdr(self):
        rng = np.random.default_rng(0)
        reference, noise = rng.standard_normal((2, 10000)).astype(np.float32)
        noise -= reference * (noise @ reference) / (reference @ reference)
        scaled = noise * np.linalg.norm(reference) / np.linalg.norm(noise)
        assert si_sdr(0.3 * (reference + 0.1 * scaled), reference) == pytest.approx(20, abs=0.1)
        assert si_sdr(5 * reference, reference) > 60

    def test_stoi_is_that_of_its_package(self):
        reference = speech(2.0)[0, 0].numpy()
        noisy = reference + 0.1 * np.random.default_rng(0).standard_normal(len(reference)).astype(np.float32)
        assert stoi(noisy, reference, 24000) == pytest.approx(pystoi.stoi(reference, noisy, 24000))
        assert stoi(noisy[:2000], reference[:2000], 24000) is None
