"""Checkpoints are copies that are written beside the training, whole or not at all."""

import json
import os
import threading
from concurrent.futures import wait
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from esdcodec.processes import Interrupted
from esdcodec.training import checkpoint
from esdcodec.training.background import Background
from esdcodec.training.checkpoint import NotSaved
from esdcodec.training.run import Run
from esdcodec.training.state import TrainingState, gather_random_states, host_copy, restore
from esdcodec.training.task import Task
from esdcodec.training.trainer import Trainer
from tests.conftest import PATIENCE
from tests.training.runs import equal, in_process, train, weights


class TestBackground:
    def test_work_goes_on_beside_the_caller_and_the_next_waits_for_it(self):
        background, go, done = Background(), threading.Event(), []
        background.start(lambda: (go.wait(PATIENCE), done.append(1)))
        background.check()  # is no wait
        assert not done
        go.set()
        background.start(lambda: done.append(2))
        background.wait()
        assert done == [1, 2]

    @pytest.mark.parametrize("ask", [Background.wait, lambda background: background.start(lambda: None)])
    def test_what_it_raises_is_raised_once(self, ask):
        background = Background()
        background.start(lambda: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            ask(background)
        background.wait()
        background.check()

    def test_a_check_raises_what_is_known(self):
        background = Background()
        background.start(lambda: 1 // 0)
        wait([background._running])
        with pytest.raises(ZeroDivisionError):
            background.check()


RANDOM = "others/random_states_0.pkl/torch_manual_seed"


class TestState:
    def trained(self, network: nn.Module, seed: int = 0) -> tuple[Accelerator, nn.Module, torch.optim.Optimizer]:
        accelerator = Accelerator(cpu=True)
        optimizer = torch.optim.AdamW(network.parameters())
        wrapped, optimizer = accelerator.prepare(network, optimizer)
        torch.manual_seed(seed)
        self.step(wrapped, optimizer)
        return accelerator, wrapped, optimizer

    def step(self, network, optimizer):
        network(torch.randn(2, 3)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    def take(self, accelerator, reuse=None):
        return TrainingState.take(accelerator, gather_random_states(accelerator), reuse)

    def test_a_copy_stays_while_the_training_goes_on(self):
        accelerator, network, optimizer = self.trained(nn.Linear(3, 3))
        taken = self.take(accelerator)
        again = self.take(accelerator)
        for _ in range(2):
            self.step(network, optimizer)
        assert _tensors(taken).keys() == _tensors(again).keys()
        assert all(torch.equal(t, _tensors(again)[name]) for name, t in _tensors(taken).items())
        later = _tensors(self.take(accelerator))
        assert not any(torch.equal(t, later[name]) for name, t in _tensors(taken).items() if t.dim() > 1)

    def test_the_memory_of_one_serves_the_next(self):
        accelerator, network, optimizer = self.trained(nn.Linear(3, 3))
        taken = self.take(accelerator)
        places = {name: t.data_ptr() for name, t in _tensors(taken).items()}
        self.step(network, optimizer)
        again = {name: t.data_ptr() for name, t in _tensors(self.take(accelerator, reuse=taken)).items()}
        assert {name for name in places if places[name] != again[name]} == {RANDOM}
        assert torch.equal(taken.networks["model.safetensors"]["weight"], network.weight)

    def test_tensors_of_another_shape_get_memory_of_their_own(self):
        before = host_copy({"a": torch.zeros(3), "b": torch.zeros(2)})
        copy = host_copy({"a": torch.ones(4), "b": torch.ones(2, dtype=torch.int64), "c": [torch.ones(1)]}, before)
        assert copy["a"].tolist() == [1] * 4
        assert copy["b"].dtype == torch.int64
        assert copy["c"][0].item() == 1

    @pytest.mark.parametrize("wrap", [lambda network: network, lambda n: torch.compile(n, backend="eager")])
    def test_what_is_read_back_is_what_was_written_whatever_wraps_the_network(self, tmp_path, wrap):
        accelerator, *_ = self.trained(wrap(nn.Linear(3, 3)))
        taken = self.take(accelerator)
        taken.write(tmp_path)
        expected = torch.rand(3)
        other, *_ = self.trained(nn.Linear(3, 3), seed=1)
        restore(other, tmp_path)
        assert torch.equal(torch.rand(3), expected)
        read = self.take(other)
        assert all(torch.equal(t, _tensors(read)[name]) for name, t in _tensors(taken).items() if name != RANDOM)

    def test_a_rank_more_than_before_keeps_its_random_numbers(self, tmp_path):
        accelerator, *_ = self.trained(nn.Linear(3, 3))
        TrainingState.take(accelerator, []).write(tmp_path)
        restore(accelerator, tmp_path)
        assert not list(tmp_path.glob("random*"))


def _tensors(state: TrainingState) -> dict[str, torch.Tensor]:
    found = {}

    def walk(name, value):
        if isinstance(value, torch.Tensor):
            found[name] = value
        elif isinstance(value, dict):
            for key, each in value.items():
                walk(f"{name}/{key}", each)

    walk("networks", state.networks)
    walk("others", state.others)
    return found


def test_an_export_that_is_written_later_is_of_the_networks_as_they_were(tmp_path):
    class Saved(Task):
        weights = "before"

        def export(self, folder):
            (folder / "inner").mkdir(parents=True)
            (folder / "inner/weights").write_text(self.weights)

    task = Saved()
    write_before = task.export_later()
    task.weights = "after"
    write_before(tmp_path)
    assert (tmp_path / "inner/weights").read_text() == "before"


OPERATIONS = ((os, "replace"), (os, "fsync"), (os, "rename"), (torch, "save"), (checkpoint.shutil, "rmtree"))


def write(folder: Path, step: int, *, keep: int = 2) -> None:
    state = TrainingState(
        {"model.safetensors": {"w": torch.full((4,), float(step))}}, {"optimizer.bin": {"step": step}}
    )
    checkpoint.write(folder, state, {"step": step, "networks": {}, "score": None}, keep=keep)


def test_killed_at_any_operation_each_checkpoint_is_whole(tmp_path):
    """A process that is gone before its n-th operation on files stands for SIGKILL."""
    ended = False
    for n in range(100):
        folder = tmp_path / str(n)
        for step in (1, 2):
            write(folder, step)
        child = os.fork()
        if not child:
            _leave_at(n)
            write(folder, 2)  # over one that is there
            write(folder, 3)
            os._exit(0)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        found = checkpoint.every(folder)
        assert len(found) >= 1
        for each in found:
            checkpoint._verify(each, {})
        checkpoint.remove_partial(folder)
        assert set(folder.iterdir()) == set(found)
        if ended:
            break
    assert ended
    assert [path.name[-1] for path in found] == ["2", "3"]
    assert n > 15


def _leave_at(n: int) -> None:
    """Let this process end before its n-th operation."""
    left = [n]

    def counted(operation):
        def call(*args, **kwargs):
            if not left[0]:
                os._exit(9)
            left[0] -= 1
            return operation(*args, **kwargs)

        return call

    for module, name in OPERATIONS:
        setattr(module, name, counted(getattr(module, name)))


class TestBesideTheTraining:
    @pytest.fixture
    def after_step_2(self, monkeypatch):
        """Checkpoint 1 is written when step 2 was taken."""
        taken, write, take_step = threading.Event(), checkpoint.write, Trainer.take_step

        def spied_step(trainer, batches):
            try:
                return take_step(trainer, batches)
            finally:
                if trainer.run.progress.step == 1:
                    taken.set()

        def late_write(folder, training, state, *, keep):
            if state["step"] == 1:
                assert taken.wait(PATIENCE), "the training waits for a checkpoint"
            return write(folder, training, state, keep=keep)

        monkeypatch.setattr(Trainer, "take_step", spied_step)
        return lambda: monkeypatch.setattr(checkpoint, "write", late_write)

    def test_training_goes_on_and_what_is_written_is_what_it_was_at_its_step(self, shards, tmp_path, after_step_2):
        train(*in_process(shards, tmp_path / "straight", 2))
        after_step_2()
        train(*in_process(shards, tmp_path / "beside", 2))
        for step in (1, 2):
            assert equal(weights(tmp_path / "beside", step), weights(tmp_path / "straight", step))
        assert _status(tmp_path / "beside") == {"status": "finished", "step": 2}

    def test_a_run_that_goes_on_writes_the_bytes_of_one_that_did_not_end(self, shards, tmp_path):
        train(*in_process(shards, tmp_path / "straight", 2))
        for steps in (1, 2):
            train(*in_process(shards, tmp_path / "in two", steps), "trainer.validate_every=2")
        straight, in_two = (_state(tmp_path / name, 2)["files"] for name in ("straight", "in two"))
        assert in_two == straight  # sizes and checksums: random numbers too

    def test_an_error_waits_for_the_checkpoint(self, shards, tmp_path, after_step_2, monkeypatch):
        after_step_2()
        monkeypatch.setattr(Trainer, "_log", lambda trainer: 1 // (2 - trainer.run.progress.step))
        with pytest.raises(ZeroDivisionError):
            train(*in_process(shards, tmp_path, 4), "trainer.log_every=1")
        checkpoint._verify(tmp_path / "checkpoint-00000001", _state(tmp_path, 1)["networks"])
        assert _status(tmp_path)["status"] == "failed"

    def test_an_error_of_the_writer_stops_the_run_with_its_cause(self, shards, tmp_path, monkeypatch):
        monkeypatch.setattr(checkpoint, "write", lambda *_, **__: {}["what"])
        with pytest.raises(KeyError, match="what"):
            train(*in_process(shards, tmp_path, 500), "trainer.checkpoint_every=2")
        status = _status(tmp_path)
        assert (status["status"], status["cause"]) == ("failed", "KeyError('what')")
        assert status["step"] < 500

    def test_a_run_whose_last_checkpoint_is_not_there_has_failed(self, shards, tmp_path, monkeypatch):
        self.full_disk(monkeypatch)
        with pytest.raises(NotSaved, match=r"step 2 could not be saved \(no room\): make room in"):
            train(*in_process(shards, tmp_path, 2))
        assert _status(tmp_path)["status"] == "failed"
        monkeypatch.undo()
        train(*in_process(shards, tmp_path, 2))
        assert _status(tmp_path) == {"status": "finished", "step": 2}

    def test_told_to_stop_with_a_full_disk_it_says_from_where_it_goes_on(self, shards, tmp_path, monkeypatch, caplog):
        train(*in_process(shards, tmp_path, 1))
        self.full_disk(monkeypatch)
        monkeypatch.setattr(Run, "check", lambda run: setattr(run.interruption, "received", True))
        with pytest.raises(Interrupted):
            train(*in_process(shards, tmp_path, 9))
        message = caplog.records[-1].getMessage()
        assert "stopped by a signal: step 3 could not be saved (no room)" in message
        assert message.endswith("goes on from " + str(tmp_path / "checkpoint-00000001"))
        assert _status(tmp_path) == {"status": "interrupted", "step": 3}

    def full_disk(self, monkeypatch):
        def write(folder, training, state, *, keep):
            raise OSError("no room")

        monkeypatch.setattr(checkpoint, "write", write)


def _status(folder: Path) -> dict:
    return json.loads((folder / "status.json").read_text())


def _state(folder: Path, step: int) -> dict:
    return json.loads((folder / f"checkpoint-{step:08d}" / checkpoint.STATE_FILE).read_text())
