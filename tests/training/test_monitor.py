"""What a run shows of itself."""

from typing import ClassVar

import pytest
import torch
from accelerate import Accelerator

from esdcodec.training import monitor
from esdcodec.training.codec_task import CodecTask, health_warnings
from esdcodec.training.monitor import LogWindow, progress_line, starvation


class TestMonitor:
    VALUES: ClassVar = {
        "perplexity/semantic": 50.0, "discriminator/real": 0.6, "discriminator/fake": 0.4, "data/wait": 0.01,
        "speed/steps_per_second": 2.0, "speed/audio_seconds_per_second": 20.0, "data/skipped": 0, "loss/total": 12.34,
    }  # fmt: skip

    @pytest.mark.parametrize(
        ("changed", "warning"),
        [
            ({}, None),
            ({"perplexity/semantic": 1.5}, "semantic codebook collapse"),
            ({"discriminator/real": 0.99, "discriminator/fake": 0.01}, "discriminator dominance"),
            ({"data/wait": 0.5}, "data starvation: 50 %"),
        ],
    )
    def test_what_is_wrong_with_a_run_is_named(self, changed, warning):
        values = {**self.VALUES, **changed}
        found = [*health_warnings(values, semantic_entries=256, frames=1000), *starvation(values)]
        assert len(found) == (warning is not None)
        assert warning is None or warning in found[0]

    def test_codes_tell_nothing_while_the_quantizers_are_passed_by(self):
        assert not health_warnings({**self.VALUES, "perplexity/semantic": 1.5}, semantic_entries=256, frames=None)

    def test_a_line_that_a_person_can_read(self):
        line = progress_line(1500, 6000, {**self.VALUES, "data/skipped": 3}, CodecTask.shown)
        assert line.startswith("step 1,500 of 6,000 (25 %)  loss 12.3")
        assert line.endswith("2 steps/s  20 s audio/s  wait 1 %  skipped 3  38 min left")


def test_what_happens_while_a_window_is_paused_has_no_part_in_its_speed(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(monitor.time, "perf_counter", lambda: clock[0])
    window = LogWindow(torch.device("cpu"))
    clock[0] += 10
    with window.paused():
        assert window.stopped
        clock[0] += 1000  # a validation
    window.steps = 5
    window.add({"loss": torch.tensor(1.0)})
    assert not window.stopped
    assert window.summary(Accelerator(cpu=True))["speed/steps_per_second"] == 0.5
