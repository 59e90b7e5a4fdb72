"""What `status.json` says of runs that did not come to their first step, or left before their last."""

import json
import shutil
import signal

import pytest

from esdcodec.processes import EXIT_CODE, PREEMPTION, Interrupted
from esdcodec.training import setup
from tests.training.runs import finish, in_process, on_two, start, train


@pytest.fixture(scope="module")
def finished(shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    train(*in_process(shards, folder, 3))
    return folder


def status_of(folder):
    return json.loads((folder / "status.json").read_text())


class TestBeforeTheFirstStep:
    def test_what_fails_before_the_first_step_leaves_no_old_status(self, finished, shards, tmp_path):
        shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
        for other, cause in (("machine.shards=nowhere", "FileNotFoundError"), ("trainer.log_every=0", "log_every=0")):
            (tmp_path / "status.json").write_text('{"status": "interrupted", "step": 3}')
            with pytest.raises((OSError, ValueError)):
                train(*in_process(shards, tmp_path, 4), other)
            status = status_of(tmp_path)
            assert (status["status"], status["rank"]) == ("failed", 0)
            assert cause in status["cause"]

    def test_nor_does_it_from_the_command_line(self, finished, shards, tmp_path):
        shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
        (tmp_path / "status.json").write_text('{"status": "interrupted", "step": 3}')
        output = finish(start(*in_process(shards, tmp_path, 4), "trainer.log_every=0"), 2)
        assert output.strip().splitlines()[-1].startswith("esdcodec: trainer.log_every=0 must be at least 1")
        status = status_of(tmp_path)
        assert status["status"] == "failed"

    def test_what_cannot_be_run_leaves_no_folder(self, shards, tmp_path):
        with pytest.raises(ValueError, match="log_every"):
            train(*in_process(shards, tmp_path / "run", 4), "trainer.log_every=0")
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize("number", PREEMPTION)
    def test_told_to_stop_it_ends_at_once_and_says_so(self, finished, shards, tmp_path, monkeypatch, number):
        shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
        handler = signal.getsignal(number)
        monkeypatch.setattr(setup, "make_networks", lambda *_: signal.raise_signal(number))
        with pytest.raises(Interrupted) as left:
            train(*in_process(shards, tmp_path, 4))
        assert left.value.code == EXIT_CODE
        assert status_of(tmp_path) == {"status": "interrupted", "step": None}
        assert signal.getsignal(number) is handler

    @pytest.mark.slow
    def test_told_to_stop_while_the_others_wait_for_it_no_rank_calls_it_a_failure(self, shards, tmp_path):
        on_two(*in_process(shards, tmp_path, 4), ok=False, FAULT="told to stop at the start")
        assert status_of(tmp_path) == {"status": "interrupted", "step": None}
