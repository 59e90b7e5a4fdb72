"""Statistics of a teacher's states over a corpus."""

import pytest
import torch

from esdcodec.training import teacher_statistics
from esdcodec.training.teacher import FeatureExtraction, W2vBert, read_statistics
from tests.conftest import speech


class TestStatistics:
    def test_of_a_corpus_are_those_of_its_frames_and_are_read_back(self, w2v_bert, shards, tmp_path, monkeypatch):
        file = tmp_path / "stats.pt"
        command = ("x", str(w2v_bert), str(shards), str(file), "--layer", "2", "--hours", str(8 * 1.5 / 3600))
        monkeypatch.setattr(
            "sys.argv", [*command, "--segment-seconds", "1.5", "--batch-size", "1", "--num-workers", "0"]
        )
        monkeypatch.setattr(teacher_statistics, "best_device", lambda: torch.device("cpu"))
        teacher_statistics.main()
        assert set(torch.load(file)) == {"mean", "var"}
        mean, var = read_statistics(file, 32)

        extract, teacher = FeatureExtraction(str(w2v_bert), 24000), W2vBert(str(w2v_bert), layer=2)
        waveforms = [[speech(1.5, seed=i)[0, 0].numpy()] for i in range(8)]  # those of the shards, each once
        states = torch.cat([teacher.states(**extract(waveform))[0] for waveform in waveforms])
        torch.testing.assert_close(mean, states.mean(0), rtol=0.02, atol=0.02)
        torch.testing.assert_close(var, states.var(0, unbiased=False), rtol=0.05, atol=0.02)

    def test_masked_frames_do_not_count(self):
        moments = teacher_statistics.Moments(3)
        vectors = torch.randn(100, 3) * 5 + 100
        for part in vectors.split(7):
            moments.add(part)
        mean, var = moments.mean_and_variance()
        torch.testing.assert_close(mean, vectors.mean(0))
        torch.testing.assert_close(var, vectors.var(0, unbiased=False), rtol=1e-4, atol=1e-4)

    def test_of_nothing_are_an_error(self):
        with pytest.raises(ValueError, match="no frame was seen"):
            teacher_statistics.Moments(3).mean_and_variance()
