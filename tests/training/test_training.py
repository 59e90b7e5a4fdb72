"""`accelerate launch train.py`, run as a user runs it, on synthetic shards."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import speech
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import esdcodec
from esdcodec.dataset.make_shards import Utterance, write_shards

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_shards(
        (Utterance(f"u{i}", speech(1.5, seed=i)[0, 0].numpy(), 24000, "s", "en") for i in range(8)), folder, per_shard=2
    )
    return folder / "shard.list"


def launch(*overrides: object, config: str = "esdcodec_smoke", ok: bool = True) -> str:
    launcher = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes=1", "--num_machines=1")
    options = ("--mixed_precision=no", "--dynamo_backend=no")
    return run(*launcher, *options, "train.py", f"--config-name={config}", *overrides, ok=ok)


def run(*command: object, ok: bool = True) -> str:
    result = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, check=False, cwd=ROOT, env=ENVIRONMENT
    )
    assert (result.returncode == 0) == ok, result.stdout + result.stderr
    return result.stdout + result.stderr


def scalars(folder: Path) -> dict[str, list[float]]:
    events = EventAccumulator(str(folder / "tensorboard/esdcodec"))
    events.Reload()
    return {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.slow
def test_the_documented_command_with_everything_in_it(shards, w2v_bert, tmp_path):
    """The command of the training guide, with w2v-BERT and discriminators; only the networks are small."""
    output = launch(
        "model=tiny",
        f"machine.shards={shards}",
        f"machine.w2v_bert={w2v_bert}",
        f"+model.teacher={{path: {w2v_bert}, statistics: {w2v_bert}/stats.pt, layer: 2, pool: 2}}",
        "data.num_workers=1",
        "data.shuffle_buffer=4",
        "data.segment_speech.segment_length=19200",
        "trainer.batch_size=3",
        "trainer.max_steps=3",
        "trainer.log_every=1",
        f"trainer.output_dir={tmp_path}",
        config="esdcodec_train",
    )
    assert "step 3 of 3" in output
    logged = scalars(tmp_path)
    terms = {
        "mel", "condition_mel", "condition_magnitude", "feature_matching", "adversarial", "distillation",
        "acoustic_commitment", "acoustic_codebook", "semantic_commitment", "total",
    }  # fmt: skip
    assert {f"loss/{term}" for term in terms} <= set(logged)
    assert {"discriminator/loss", "discriminator/real", "discriminator/fake", "grad_norm/discriminator"} <= set(logged)
    codec = esdcodec.load(tmp_path / "export", device="cpu")
    assert codec.decode(codec.encode(speech(0.5), n_quantizers=3)).shape == (1, 1, 12480)
    assert (tmp_path / "config.yaml").exists()


LONG = (
    "model.discriminator=null",
    "trainer.checkpoint_every=20",
    "trainer.validate_every=10",
    "trainer.continuous_steps=5",
    "trainer.fit_batches=2",
    "trainer.batch_size=4",
    "trainer.generator.lr=0.05",
    "trainer.generator.warmup_steps=1000",
)


@pytest.fixture(scope="module")
def trained(shards, tmp_path_factory):
    """40 steps in one go."""
    folder = tmp_path_factory.mktemp("run")
    launch(f"machine.shards={shards}", f"trainer.output_dir={folder}", *LONG, "trainer.max_steps=40")
    return folder


@pytest.mark.slow
class TestRun:
    def test_losses_fall(self, trained):
        logged = scalars(trained)
        mel = logged["loss/mel"]
        assert sum(mel[-5:]) < 0.8 * sum(mel[:5])
        assert logged["validation/mel_4"][-1] < logged["validation/mel_4"][0]

    def test_checkpoints_and_export(self, trained):
        checkpoints = sorted(p.name for p in trained.glob("checkpoint-*"))
        assert checkpoints == ["checkpoint-00000020", "checkpoint-00000040"]
        assert json.loads((trained / checkpoints[-1] / "trainer.json").read_text())["step"] == 40
        exported = load_file(trained / "export/model.safetensors")
        stored = load_file(trained / checkpoints[-1] / "model.safetensors")
        assert all(torch.equal(exported[name], tensor) for name, tensor in stored.items())

    def test_the_same_seed_gives_the_same_weights(self, trained, shards, tmp_path):
        launch(f"machine.shards={shards}", f"trainer.output_dir={tmp_path}", *LONG, "trainer.max_steps=20")
        again = load_file(tmp_path / "checkpoint-00000020/model.safetensors")
        first = load_file(trained / "checkpoint-00000020/model.safetensors")
        assert all(torch.equal(first[name], tensor) for name, tensor in again.items())

    def test_resume_goes_on_where_it_stopped(self, trained, shards):
        """Weights, step, schedule and the optimizer's moments: all are those of step 40, and move on by one step."""
        options = (f"machine.shards={shards}", f"trainer.output_dir={trained}", *LONG)
        before = trained / "checkpoint-00000040"
        output = launch(*options, "trainer.max_steps=41")
        assert "resumed from" in output
        assert "step 41 of 41" in output
        assert "step 40 of" not in output
        after = trained / "checkpoint-00000041"
        weights = [load_file(folder / "model.safetensors") for folder in (before, after)]
        moved = max((weights[1][name] - tensor).abs().max().item() for name, tensor in weights[0].items())
        assert 0 < moved < 1e-2  # one step of about the learning rate, not a new start
        states = [torch.load(folder / "optimizer.bin")["state"] for folder in (before, after)]
        assert {int(state["step"]) for state in states[0].values()} == {40}
        assert {int(state["step"]) for state in states[1].values()} == {41}
        for i, state in states[0].items():  # v ← 0.9 v + 0.1 g² from the old v, not from 0
            assert (states[1][i]["exp_avg_sq"] >= 0.89 * state["exp_avg_sq"]).all()
        assert scalars(trained)["lr"][-2:] == pytest.approx([0.00205, 0.0021])

    def test_a_damaged_or_foreign_checkpoint_stops_the_run(self, shards, tmp_path):
        launch(f"machine.shards={shards}", f"trainer.output_dir={tmp_path}", "model.discriminator=null")
        resume = (f"machine.shards={shards}", f"trainer.output_dir={tmp_path}", "model.discriminator=null")
        output = launch(*resume, "trainer.max_steps=3", "model.codec.latent_dim=16", ok=False)
        assert "holds another model (it differs in latent_dim)" in output
        weights = tmp_path / "checkpoint-00000002/model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
        output = launch(*resume, "trainer.max_steps=3", ok=False)
        assert "cannot be loaded" in output
        assert not (tmp_path / "checkpoint-00000003").exists()


def test_missing_shards_stop_before_anything_is_built(tmp_path):
    options = ("model.teacher={path: nowhere, statistics: null, layer: 1, pool: 2}",)  # would fail later
    output = launch(f"machine.shards={tmp_path}/nothing.list", f"trainer.output_dir={tmp_path}/run", *options, ok=False)
    assert f"FileNotFoundError: no shard at {tmp_path}/nothing.list" in output
    assert not list((tmp_path / "run").glob("checkpoint-*"))


@pytest.mark.slow
def test_two_processes_hold_the_same_parameters_of_both_networks(shards, tmp_path):
    args = (f"machine.shards={shards}", f"trainer.output_dir={tmp_path}", "trainer.semantic_only_probability=0.5")
    fit = ("trainer.continuous_steps=1", "trainer.fit_batches=2")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    output = run(*launcher, "tests/training/two_ranks.py", *args, *fit, "trainer.max_steps=4")
    assert output.count("both ranks hold the same") == 2


@pytest.mark.slow
def test_accumulated_batches_are_one_large_batch(shards, tmp_path):
    """Equal within rounding, with what is drawn for each item and the one loss that is no mean over items left out."""
    options = (
        f"machine.shards={shards}",
        "trainer.semantic_only_probability=1",
        "trainer.loss_weights.condition_magnitude=0",
    )
    weights = []
    for name, sizes in {"joined": (4, 1), "accumulated": (2, 2)}.items():
        folder = tmp_path / name
        size, accumulation = f"trainer.batch_size={sizes[0]}", f"trainer.gradient_accumulation={sizes[1]}"
        launch(*options, size, accumulation, f"trainer.output_dir={folder}")
        weights.append([load_file(folder / "checkpoint-00000002" / f"model{n}.safetensors") for n in ("", "_1")])
    for joined, accumulated in zip(*weights):
        differences = torch.cat([(accumulated[name] - tensor).abs().flatten() for name, tensor in joined.items()])
        # a step moves each weight by about 1e-3; a few gradients near zero may change sign by rounding
        assert differences.mean() < 1e-5
