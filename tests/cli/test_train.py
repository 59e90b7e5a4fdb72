"""`esdcodec train`, `python train.py` and `accelerate launch -m esdcodec.train` are one command."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from esdcodec.cli import train
from esdcodec.cli.main import main
from esdcodec.training import tasks
from esdcodec.training.checkpoint import CheckpointError, NotSaved
from tests.training.runs import ENVIRONMENT, ROOT, SMALL, launch


def answer(capsys, *arguments: object) -> tuple[int, str]:
    """Exit code of `esdcodec train …`, and what it prints."""
    code = main(["train", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out + printed.err


@pytest.fixture(autouse=True)
def same_arguments(monkeypatch):
    """Hydra reads those of the process."""
    monkeypatch.setattr(sys, "argv", ["esdcodec"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["machine.shards=/nothing.list"], "no shard at /nothing.list"),
        (["data.train=[{shards: /nothing.list, weight: 1}]"], "no shard at /nothing.list"),
        (["--config-name=nothing"], "Known are esdcodec_finetune, "),
        (
            ["data=nothing"],
            "Could not find 'data/nothing' Available options in 'data': codes debian_speech emilia tokens",
        ),
        (["trainer.nothing=1"], "Could not override 'trainer.nothing'"),
        (["trainer.freeze=[a"], "[a"),
        (["trainer.init=???"], "trainer.init has no value: give it one, trainer.init=VALUE"),
        (["machine.runs=${nothing}"], "nothing"),
        (["--config-dir=/nothing"], "/nothing"),
    ],
    ids=["shards", "shards of a mix", "name", "group", "key", "syntax", "no value", "interpolation", "folder"],
)
def test_what_is_wrong_with_the_configuration_is_one_line(capsys, tmp_path, arguments, words):
    code, text = answer(capsys, f"trainer.output_dir={tmp_path}/run", *arguments)
    assert code == 2
    assert text.startswith("esdcodec: ")
    assert words in text
    assert text.count("\n") == 1


@pytest.mark.parametrize("missing", ["path", "statistics"])
def test_a_teacher_that_is_not_there_is_one_line(capsys, shards, w2v_bert, tmp_path, missing):
    teacher = {"path": w2v_bert, "statistics": w2v_bert / "stats.pt", missing: tmp_path / "nothing"}
    setting = f"+model.teacher={{path: {teacher['path']}, statistics: {teacher['statistics']}, layer: 2, pool: 2}}"
    options = (f"machine.shards={shards}", f"trainer.output_dir={tmp_path}/run", setting)
    code, text = answer(capsys, "--config-name=esdcodec_smoke", *options)
    assert code == 2, text
    assert str(tmp_path / "nothing") in text
    assert "Traceback" not in text


@pytest.mark.parametrize(("error", "expected"), [(NotSaved, 1), (FloatingPointError, 1), (CheckpointError, 2)])
def test_what_ends_a_run_is_one_line(monkeypatch, capsys, tmp_path, error, expected):
    def end():
        raise error("step 5 could not be saved")

    monkeypatch.setattr(tasks, "make_trainer", lambda config: SimpleNamespace(train=end))
    options = ("--config-name=esdcodec_smoke", f"machine.shards={tmp_path}", f"trainer.output_dir={tmp_path}")
    code, text = answer(capsys, *options)
    assert (code, text) == (expected, "esdcodec: step 5 could not be saved\n")


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch, tmp_path):
    def broken(config):
        raise KeyError("ours")

    monkeypatch.setattr(train, "_train", broken)
    with pytest.raises(KeyError, match="ours"):
        main(["train", f"trainer.output_dir={tmp_path}"])


def test_without_the_extra_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(train, "NEEDED", ("hydra", "no_such_package"))
    assert answer(capsys) == (2, 'esdcodec: training needs no_such_package: pip install "esdcodec[train]"\n')


@pytest.mark.slow
@pytest.mark.parametrize("command", [["-m", "esdcodec.cli", "train"], ["-m", "esdcodec.train"]])
def test_all_ways_to_start_it_train(shards, tmp_path, command):
    """`train.py` is started so by many tests of the training."""
    options = ("--config-name=esdcodec_smoke", f"machine.shards={shards}", f"trainer.output_dir={tmp_path}", SMALL)
    if command == ["-m", "esdcodec.train"]:
        launch("--cpu", "--num_processes=1", *command, *options)
    else:
        arguments = [sys.executable, *command, *options]
        result = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=ROOT, env=ENVIRONMENT)
        assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads((tmp_path / "status.json").read_text()) == {"status": "finished", "step": 2}
    assert "step 2 of 2" in (tmp_path / "train.log").read_text()
