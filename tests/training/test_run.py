"""Runs that are killed, told to stop, given damaged checkpoints, a full disk, or losses that are not finite."""

import json
import random
import resource
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from esdcodec.dataset.loader import TrainingBatches
from esdcodec.processes import EXIT_CODE
from esdcodec.training import setup
from esdcodec.training.checkpoint import CheckpointError
from esdcodec.training.codec_task import CodecTask
from esdcodec.training.run import Run
from esdcodec.training.trainer import Trainer
from tests.training.runs import (
    STEPS,
    compose_values,
    equal,
    finish,
    in_process,
    options,
    scalars,
    start,
    train,
    wait_for,
    weights,
)


@pytest.fixture(scope="module")
def straight(shards, tmp_path_factory) -> Path:
    """A run that nothing happens to."""
    folder = tmp_path_factory.mktemp("straight")
    finish(start(*options(shards, folder)))
    return folder


def same_end(folder: Path, straight: Path) -> bool:
    """Weights of both networks, both optimizers and the average, bit by bit."""
    names = ("optimizer.bin", "optimizer_1.bin", "custom_checkpoint_2.pkl")
    states = [
        [torch.load(f / f"checkpoint-{STEPS:08d}" / name, weights_only=False) for name in names]
        for f in (folder, straight)
    ]
    return equal(weights(folder, STEPS), weights(straight, STEPS)) and _equal(*states)


def _equal(left, right) -> bool:
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_equal(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    return left == right


@pytest.mark.slow
def test_killed_anywhere_it_ends_where_it_would_have_ended(shards, straight, tmp_path):
    """SIGKILL at random moments and during saves, until it is done."""
    rng = random.Random(time.time_ns())
    kills = {"during a save": 0, "anywhere": 0}

    def new(before):
        return set(tmp_path.glob("checkpoint-*")) - before

    while True:
        process = start(*options(shards, tmp_path))
        seen = set(tmp_path.glob("checkpoint-*"))
        enough = sum(kills.values()) >= 4
        if not enough and sum(kills.values()) % 2 == 0:
            wait_for(lambda before=seen: any(p.suffix == ".partial" for p in new(before)), process)
            kind = "during a save"
        elif not enough:
            wait_for(lambda before=seen: new(before), process)
            time.sleep(rng.uniform(0, 0.5))
            kind = "anywhere"
        else:
            finish(process)
            break
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills[kind] += 1
        process.communicate()
        if process.returncode == 0:  # done before it was killed, as happens on a busy machine: once more
            shutil.rmtree(tmp_path)
            tmp_path.mkdir()
            kills = dict.fromkeys(kills, 0)
    assert kills["during a save"] >= 2
    assert kills["anywhere"] >= 1
    assert same_end(tmp_path, straight)
    assert not list(tmp_path.glob("*.partial"))
    assert scalars(tmp_path)["loss/mel"] == scalars(straight)["loss/mel"]  # the curves have no piece twice


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_told_to_stop_it_saves_and_says_so(shards, straight, tmp_path, number):
    rare = [o for o in options(shards, tmp_path) if "checkpoint_every" not in o] + ["trainer.checkpoint_every=100"]
    process = start(*rare)
    wait_for(lambda: "step 2 of" in _log(tmp_path), process)
    process.send_signal(number)
    output = finish(process, EXIT_CODE)
    assert "stopped by a signal: saved at step" in output
    assert json.loads((tmp_path / "status.json").read_text())["status"] == "interrupted"
    assert len(list(tmp_path.glob("checkpoint-*"))) == 1
    output = finish(start(*rare))
    assert "resumed from" in output
    assert json.loads((tmp_path / "status.json").read_text()) == {"status": "finished", "step": STEPS}
    assert same_end(tmp_path, straight)


def _log(folder: Path) -> str:
    return (folder / "train.log").read_text() if (folder / "train.log").exists() else ""


@pytest.mark.slow
def test_a_full_disk_does_not_end_a_run(shards, straight, tmp_path):
    """Files that may not grow stand for a disk without room."""
    finish(start(*options(shards, tmp_path, steps=3)))
    before = {p: p.read_bytes() for p in tmp_path.glob("checkpoint-*/*")}

    def no_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    output = finish(start(*options(shards, tmp_path, steps=5), preexec_fn=no_room), 1)
    assert output.count("CHECKPOINT NOT WRITTEN") == 2
    assert "step 5 of 5" in output
    assert "step 5 could not be saved" in output.strip().splitlines()[-1]  # what was trained is lost
    assert {p: p.read_bytes() for p in tmp_path.glob("checkpoint-*/*")} == before
    finish(start(*options(shards, tmp_path)))
    assert same_end(tmp_path, straight)


@pytest.fixture(scope="module")
def finished(shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    train(*in_process(shards, folder, 3))
    return folder


class TestResume:
    @pytest.fixture
    def run(self, finished, shards, tmp_path):
        shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
        return tmp_path, in_process(shards, tmp_path, 3)

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda c: (c / "model.safetensors").write_bytes(b"short"), "damaged .model.safetensors is missing or"),
            (lambda c: _flip_a_bit(c / "optimizer.bin"), "damaged .optimizer.bin"),
            (lambda c: (c / "custom_checkpoint_0.pkl").unlink(), "damaged .custom_checkpoint_0.pkl"),
            (lambda c: (c / "trainer.json").write_text("{"), "is no whole checkpoint"),
            (lambda c: (c / "trainer.json").write_text('{"format": "of tomorrow"}'), "has format 'of tomorrow'"),
        ],
        ids=["cut", "one bit", "missing", "no state", "another format"],
    )  # fmt: skip
    def test_a_damaged_checkpoint_is_refused(self, run, damage, message):
        folder, base = run
        damage(folder / "checkpoint-00000003")
        with pytest.raises(CheckpointError, match=message):
            train(*base, "trainer.max_steps=4")
        assert not (folder / "checkpoint-00000004").exists()

    def test_what_the_message_says_helps(self, run):
        folder, base = run
        shutil.rmtree(folder / "checkpoint-00000003")
        trainer = train(*base)
        assert trainer.run.progress.step == 3
        assert (folder / "checkpoint-00000003").exists()

    @pytest.mark.parametrize(
        ("other", "named"),
        [
            ("model.codec.latent_dim=16", "codec.latent_dim"),
            ("model.discriminator=null", "discriminator"),
            ("model.discriminator.resolution_channels=4", "discriminator.resolution_channels"),
            ("trainer.ema_decay=null", "ema"),
        ],
    )
    def test_a_foreign_checkpoint_is_refused(self, run, other, named):
        folder, base = run
        with pytest.raises(CheckpointError, match=rf"holds another model \(it differs in {named}\)"):
            train(*base, "trainer.max_steps=4", other)
        assert not (folder / "checkpoint-00000004").exists()

    def test_the_configuration_wins_for_all_that_is_no_state(self, run, caplog):
        folder, base = run
        before = torch.load(folder / "checkpoint-00000003/optimizer.bin", weights_only=False)["state"]
        new = {"lr": 3e-4, "muon_lr": 0.002, "weight_decay": 0.3, "final_lr": 3e-4, "warmup_steps": 0}
        with caplog.at_level("INFO"):
            trainer = train(
                *base, "trainer.max_steps=4", "trainer.generator.betas=[0.5,0.6]",
                *(f"trainer.generator.{name}={value}" for name, value in new.items()),
            )  # fmt: skip
        others, directions = trainer.task.learners[0].optimizer.param_groups
        assert (others["lr"], others["betas"], others["weight_decay"]) == (3e-4, (0.5, 0.6), 0.3)
        assert directions["lr"] == 0.002
        assert trainer.task.learners[0].schedule.get_last_lr() == [3e-4, 0.002]
        state = torch.load(folder / "checkpoint-00000004/optimizer.bin", weights_only=False)["state"]
        assert all(state[i]["step"] == before[i]["step"] + 1 for i in state if "exp_avg" in state[i])
        told = [r.getMessage() for r in caplog.records if "set differently" in r.getMessage()]
        assert any("trainer.generator.lr=0.0003 (it was 0.001)" in line for line in told)
        assert not any("trainer.generator.decay_steps" in line for line in told)

    @pytest.mark.parametrize(
        ("other", "named"),
        [
            ("trainer.seed=1", "trainer.seed"),
            ("data.segment_speech.segment_length=4800", "data.segment_speech.segment_length"),
            ("data.filters.min_duration=0.5", "data.filters.min_duration"),
            ("data.train=[{shards: SHARDS, weight: 1}]", "data.train"),
        ],
    )
    def test_other_data_is_refused_unless_told(self, run, shards, other, named):
        folder, base = run
        other = other.replace("SHARDS", str(shards))
        with pytest.raises(CheckpointError, match=rf"{named} differ.*trainer\.resume=new_data"):
            train(*base, "trainer.max_steps=4", other)
        assert not (folder / "checkpoint-00000004").exists()
        trainer = train(*base, "trainer.max_steps=4", other, "trainer.resume=new_data")
        assert trainer.run.progress.position == 2  # one step from the beginning
        again = train(*base, "trainer.max_steps=5", other, "trainer.resume=new_data")
        assert again.run.progress.position == 4  # which is no other data any more

    def test_other_utterances_in_the_same_list_are_other_data(self, shards, tmp_path):
        listed = tmp_path / "data.list"
        first, *others = sorted(shards.parent.glob("*.tar"))
        listed.write_text(f"{first}\n")
        base = [*in_process(listed, tmp_path / "run", 1), "data.validation=null"]
        train(*base)
        listed.write_text("\n".join(map(str, (first, *others))))
        with pytest.raises(CheckpointError, match=r"the utterances in the shards differ.*trainer\.resume=new_data"):
            train(*base, "trainer.max_steps=2")
        train(*base, "trainer.max_steps=2", "trainer.resume=new_data")
        copy = shutil.copytree(shards.parent, tmp_path / "elsewhere")  # the same, in another place
        listed.write_text("\n".join(str(copy / shard.name) for shard in (first, *others)))
        assert train(*base, "trainer.max_steps=3").run.progress.step == 3

    def test_other_batches_and_workers_are_no_other_data(self, run):
        _, base = run
        trainer = train(*base, "trainer.max_steps=4", "trainer.batch_size=1", "data.max_broken_share=0.5")
        assert trainer.run.progress.position == (3 + 2) * 2 + 1

    def test_accumulation_begins_with_the_step(self, run, monkeypatch):
        _, base = run
        synced = []
        backward = CodecTask.backward

        def spied(task, *arguments):
            synced.append(task.accelerator.sync_gradients)
            return backward(task, *arguments)

        monkeypatch.setattr(CodecTask, "backward", spied)
        train(*base, "trainer.max_steps=5", "trainer.gradient_accumulation=2")
        assert synced == [False, True] * 2

    def test_sizes_with_numbers_as_keys_are_found_again(self, shards, tmp_path):
        spectrograms = "+model.discriminator.spectrograms={256: 64}"
        small = "+model.discriminator.spectrogram_channels=[2,2,2,2]"
        base = (*in_process(shards, tmp_path, 1), spectrograms, small)
        train(*base)
        assert train(*base, "trainer.max_steps=2").run.progress.step == 2

    def test_killed_before_the_last_export_it_exports(self, run):
        folder, options = run
        exported = load_file(folder / "export/model.safetensors")
        shutil.rmtree(folder / "export")
        train(*options)
        assert equal([load_file(folder / "export/model.safetensors")], [exported])

    def test_what_a_checkpoint_tells_of_its_run(self, run):
        state = json.loads((run[0] / "checkpoint-00000003/trainer.json").read_text())
        assert state["position"] == (3 + 2) * 2  # three steps and two batches to fit the codebooks to, of two segments
        assert state["config"]["trainer"]["ema_decay"] == 0.9
        assert set(state["environment"]) == {"command", "git", "python", "platform", "packages"}


def _flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


class TestBetweenSteps:
    def test_validation_samples_and_saving_are_no_part_of_the_speed(self, shards, tmp_path, monkeypatch):
        stopped = []
        save = Run.save

        def spied(run, export, status):
            stopped.append(trainers[0].window.stopped)
            save(run, export, status)

        trainers = []
        monkeypatch.setattr(Trainer, "_validate", lambda self: stopped.append(self.window.stopped))
        monkeypatch.setattr(Run, "save", spied)
        monkeypatch.setattr(Trainer, "train", lambda self, train=Trainer.train: trainers.append(self) or train(self))
        train(*in_process(shards, tmp_path, 4))
        assert stopped == [True] * (1 + 4)  # one validation and four checkpoints

    def test_a_loader_that_is_too_slow_is_named_with_what_helps(self, shards, tmp_path, monkeypatch, caplog):
        read = TrainingBatches.batches

        def slowly(batches, position):
            for batch in read(batches, position):
                time.sleep(1)
                yield batch

        monkeypatch.setattr(TrainingBatches, "batches", slowly)
        train(*in_process(shards, tmp_path, 2), "data.validation=null")
        (told,) = {r.getMessage().split(":")[0] for r in caplog.records if "Raise data.num_workers" in r.getMessage()}
        assert told.removeprefix("[RANK 0] ") == "data starvation"  # newer versions of Accelerate write the rank

    def test_weights_and_biases_know_one_run_over_restarts(self, shards, tmp_path, monkeypatch):
        started = []

        def init_trackers(accelerator, name, init_kwargs):
            started.append(init_kwargs["wandb"])

        monkeypatch.setattr(Accelerator, "init_trackers", init_trackers)
        settings = setup.check(compose_values(*in_process(shards, tmp_path, 2))).trainer
        for folder in ("a", "a", "b"):
            (tmp_path / folder).mkdir(exist_ok=True)
            told = replace(settings, output_dir=str(tmp_path / folder))
            object.__setattr__(told, "tracker", "wandb")  # which is not installed
            Run(told, Accelerator(cpu=True), {})._start_trackers()
        assert started[0]["id"] == started[1]["id"] != started[2]["id"]
        assert started[0]["resume"] == "allow"
