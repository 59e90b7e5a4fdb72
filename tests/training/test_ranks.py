"""Two processes of one run: the main one decides, and what one cannot do stops both."""

import json

import pytest
import torch

from tests.training.runs import in_process, on_two, train


@pytest.mark.slow
class TestTwoRanks:
    @pytest.fixture
    def run(self, shards, tmp_path):
        """A run of two ranks that was to end at step 2, and how it goes on."""
        base = in_process(shards, tmp_path, 4)
        on_two(*base, "trainer.max_steps=2")
        return tmp_path, base

    def status(self, folder):
        return json.loads((folder / "status.json").read_text())

    def test_the_main_process_says_from_which_checkpoint_all_go_on(self, run):
        folder, base = run
        output = on_two(*base, FAULT="old listing")
        assert output.count("both ranks hold the same, 0 steps skipped") == 2
        state = json.loads((folder / "checkpoint-00000004/trainer.json").read_text())
        assert state["position"] == (4 + 2) * 2 * 2  # four steps and two batches, on two ranks, of two segments

    def test_the_main_process_alone_copies_writes_and_makes_and_compares_checksums(self, run):
        folder, base = run
        output = on_two(*base, FAULT="main alone")
        assert output.count("both ranks hold the same, 0 steps skipped") == 2
        state = json.loads((folder / "checkpoint-00000004/trainer.json").read_text())
        assert {name for name in state["files"] if "random" in name} == {f"random_states_{i}.pkl" for i in (0, 1)}

    def test_one_process_goes_on_from_where_two_were(self, run):
        _, base = run
        trainer = train(*base, "trainer.max_steps=3")
        assert trainer.run.progress.position == (2 * 2 + 2 + 1) * 2  # two batches are for the codebooks

    def test_the_configuration_wins_on_all_ranks(self, run):
        folder, base = run
        rates = [f"trainer.generator.{name}=3e-4" for name in ("lr", "final_lr")]
        output = on_two(*base, "trainer.max_steps=3", "trainer.generator.warmup_steps=0", *rates)
        assert output.count("both ranks hold the same, 0 steps skipped") == 2
        saved = torch.load(folder / "checkpoint-00000003/optimizer.bin", weights_only=False)
        assert saved["param_groups"][0]["lr"] == 3e-4

    def test_streamed_shards_that_are_gone_stop_both(self, shards, tmp_path):
        there = sorted(shards.parent.glob("*.tar"))[:2]
        streams = ",".join(f'"pipe:cat {shard}"' for shard in (*there, *(f"{there[0]}.{i}" for i in range(6))))
        options = (*in_process(shards, tmp_path, 40), f"data.train=[{streams}]", "data.validation=null")
        output = on_two(*options, "data.shuffle_buffer=2", "trainer.log_every=1", ok=False, FAULT="no retries")
        assert "shards could not be" in output
        assert "TooMuchIsBroken" in self.status(tmp_path)["cause"]

    def test_ranks_that_hold_other_weights_are_stopped_before_the_first_step(self, shards, tmp_path):
        output = on_two(*in_process(shards, tmp_path, 2), ok=False, FAULT="other weights")
        assert "ranks 1 hold other weights than rank 0" in output
        assert not list(tmp_path.glob("checkpoint-*"))

    def test_a_rank_that_cannot_read_it_stops_all(self, run):
        folder, base = run
        output = on_two(*base, ok=False, FAULT="unreadable")
        assert "cannot be loaded (rank 1: stale file handle)" in output
        assert not list(folder.glob("checkpoint-00000003"))
        assert self.status(folder)["status"] == "failed"

    def test_a_failure_is_told_with_its_rank_and_cause(self, run):
        folder, base = run
        on_two(*base, ok=False, FAULT="crash", STEP="3")
        status = self.status(folder)
        assert (status["status"], status["step"], status["rank"]) == ("failed", 3, 1)
        assert "the disk of rank 1 is gone" in status["cause"]

    def test_a_rank_that_is_waited_for_in_vain_stops_all_after_the_timeout(self, shards, tmp_path):
        on_two(*in_process(shards, tmp_path, 2), "trainer.process_timeout=15", ok=False, FAULT="asleep")
        assert self.status(tmp_path)["rank"] == 0
        assert "imed out" in self.status(tmp_path)["cause"]

    def test_told_to_stop_none_leaves_before_all_is_written(self, run):
        """The launcher ends the others as soon as one is gone."""
        folder, base = run
        before = (folder / "export/model.safetensors").read_bytes()
        on_two(*base, ok=False, FAULT="told to stop", STEP="2")
        assert self.status(folder) == {"status": "interrupted", "step": 3}
        assert (folder / "export/model.safetensors").read_bytes() != before
