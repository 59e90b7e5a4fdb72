"""Whole runs: what they learn, log, keep and export, on one process and on two."""

import json

import pytest
import torch
from safetensors.torch import load_file

import esdcodec
from esdcodec.dataset.make_shards import Utterance, write_shards
from esdcodec.weights import WeightsError
from tests.conftest import PATIENCE, speech
from tests.training.runs import SMALL, equal, events, launch, on_two, scalars, start, train, weights


@pytest.mark.slow
def test_the_documented_command_with_everything_in_it(shards, w2v_bert, tmp_path):
    """The command of the training guide, with w2v-BERT and discriminators; only the networks are small."""
    output = launch(
        "--cpu",
        "--num_processes=1",
        "train.py",
        "--config-name=esdcodec_train",
        "model=tiny",
        f"machine.shards={shards}",
        f"machine.w2v_bert={w2v_bert}",
        f"+model.teacher={{path: {w2v_bert}, statistics: {w2v_bert}/stats.pt, layer: 2, pool: 2}}",
        "data.num_workers=1",
        "data.shuffle_window=4",
        "data.segment_speech.segment_length=48000",  # longer than the utterances: the rest is masked
        "trainer.batch_size=3",
        "trainer.max_steps=3",
        "trainer.log_every=1",
        f"trainer.output_dir={tmp_path}",
    )
    assert "step 3 of 3 (100 %)" in output
    terms = {
        "mel", "condition_mel", "condition_magnitude", "feature_matching", "adversarial", "distillation",
        "acoustic_commitment", "acoustic_codebook", "semantic_commitment",
    }  # fmt: skip
    logged = scalars(tmp_path)
    assert {f"{kind}/{term}" for term in terms for kind in ("loss", "weighted")} <= set(logged)
    for name in terms - {"semantic_commitment"}:
        assert all(w / r == pytest.approx(logged["weighted/mel"][0] / logged["loss/mel"][0] / 15 * weight, rel=1e-4)
                   for w, r in zip(logged[f"weighted/{name}"], logged[f"loss/{name}"])
                   for weight in [WEIGHTS[name]])  # fmt: skip
    assert {
        "loss/total", "discriminator/loss", "discriminator/real", "discriminator/fake", "grad_norm/codec",
        "grad_norm/discriminator", "lr/codec", "lr/discriminator", "usage/semantic", "perplexity/semantic",
        "usage/acoustic_3", "perplexity/acoustic_3", "data/hours", "data/wait", "data/skipped",
        "speed/steps_per_second", "speed/audio_seconds_per_second", "skipped_steps",
    } <= set(logged)  # fmt: skip
    assert logged["data/hours"][-1] == pytest.approx(3 * 3 * 2 / 3600)
    codec = esdcodec.load(tmp_path / "export", device="cpu")
    assert codec.decode(codec.encode(speech(0.5), n_quantizers=3)).shape == (1, 1, 12480)


WEIGHTS = {
    "mel": 15, "condition_mel": 15, "condition_magnitude": 15, "feature_matching": 2, "adversarial": 1,
    "distillation": 45, "acoustic_commitment": 0.25, "acoustic_codebook": 1,
}  # fmt: skip


@pytest.mark.slow
def test_the_smoke_configuration_runs_as_it_says(shards, tmp_path):
    command = ("--cpu", "--num_processes=1", "train.py", "--config-name=esdcodec_smoke", f"machine.shards={shards}")
    launch(*command, f"trainer.output_dir={tmp_path}")
    assert json.loads((tmp_path / "status.json").read_text()) == {"status": "finished", "step": 2}
    found = events(tmp_path).Tags()
    shown = {f"samples/0_{name}" for name in ("input", "1_codebooks", "3_codebooks", "4_codebooks", "subband")}
    assert shown <= set(found["audio"])
    assert {f"{name}_spectrogram" for name in shown} <= set(found["images"])
    validated = {f"validation/{m}_{n}" for m in ("mel", "stoi", "si_sdr") for n in (1, 3, 4)}
    assert validated | {"validation/usage_semantic", "validation/usage_acoustic"} <= set(found["scalars"])
    written = json.loads((tmp_path / "environment.json").read_text())
    assert written["packages"]["torch"] == torch.__version__.split("+")[0]
    assert written["git"] is None or len(written["git"].removesuffix("-dirty")) == 40
    assert (tmp_path / "config.yaml").exists()
    assert "step 2 of 2" in (tmp_path / "train.log").read_text()


LONG = (
    "model.discriminator=null",
    "trainer.checkpoint_every=20",
    "trainer.validate_every=20",
    "trainer.sample_every=100",
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
    train(f"machine.shards={shards}", f"trainer.output_dir={folder}", *LONG, "trainer.max_steps=40")
    return folder


@pytest.mark.slow
class TestRun:
    def test_losses_fall(self, trained):
        logged = scalars(trained)
        mel = logged["loss/mel"]
        assert sum(mel[-5:]) < 0.8 * sum(mel[:5])
        assert logged["validation/mel_4"][-1] < logged["validation/mel_4"][0]

    def test_the_export_is_the_last_checkpoint(self, trained):
        assert json.loads((trained / "checkpoint-00000040/trainer.json").read_text())["step"] == 40
        (stored,) = weights(trained, 40)
        exported = load_file(trained / "export/model.safetensors")
        assert all(torch.equal(exported[name], tensor) for name, tensor in stored.items())

    def test_the_same_seed_gives_the_same_weights(self, trained, shards, tmp_path):
        train(f"machine.shards={shards}", f"trainer.output_dir={tmp_path}", *LONG, "trainer.max_steps=20")
        assert equal(weights(tmp_path, 20), weights(trained, 20))


def test_missing_shards_stop_before_anything_is_built(tmp_path):
    options = ("model.teacher={path: nowhere, statistics: null, layer: 1, pool: 2}",)  # would fail later
    with pytest.raises(FileNotFoundError, match=f"no shard at {tmp_path}/nothing.list"):
        train(f"machine.shards={tmp_path}/nothing.list", f"trainer.output_dir={tmp_path}/run", *options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.mixed_precision=fp16", "float16"),
        ("trainer.tracker=comet_ml", "package is not installed"),
        ("trainer.freeze=[coder]", "the codec has no part 'coder', but encoder"),
    ],
)
def test_settings_that_cannot_be(shards, tmp_path, override, message):
    start_options = (f"machine.shards={shards}", f"trainer.output_dir={tmp_path}", override)
    process = start(*start_options)  # accelerate's state of this process has its precision already
    output = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 2
    assert message in output
    assert "Traceback" not in output


@pytest.mark.slow
class TestManyProcesses:
    OPTIONS = (
        "trainer.semantic_only_probability=0.5", "trainer.max_steps=4", "trainer.checkpoint_every=4", SMALL,
        "trainer.validate_every=100", "trainer.sample_every=100",
    )  # fmt: skip

    def test_both_hold_the_same_parameters_of_both_networks_also_after_a_step_not_finite_on_one(self, shards, tmp_path):
        options = (f"machine.shards={shards}", f"trainer.output_dir={tmp_path}", *self.OPTIONS)
        fit = ("trainer.continuous_steps=1", "trainer.fit_batches=2")
        output = on_two(*options, *fit, FAULT="not finite", STEP="2")
        assert output.count("both ranks hold the same, 1 steps skipped") == 2
        assert "was skipped on all ranks" in output

    def test_two_and_accumulation_are_one_with_the_joined_batch(self, shards, tmp_path):
        """Within rounding, the one loss that is no mean over items left out."""
        options = (f"machine.shards={shards}", *self.OPTIONS, "trainer.loss_weights.condition_magnitude=0")
        train(*options, f"trainer.output_dir={tmp_path}/joined", "trainer.batch_size=4")
        halves = ("trainer.batch_size=2", "trainer.gradient_accumulation=2")
        train(*options, f"trainer.output_dir={tmp_path}/accumulated", *halves)
        on_two(*options, f"trainer.output_dir={tmp_path}/ranks", "trainer.batch_size=2")
        for other in ("accumulated", "ranks"):
            for joined, parted in zip(weights(tmp_path / "joined", 4), weights(tmp_path / other, 4)):
                differences = torch.cat([(parted[name] - tensor).abs().flatten() for name, tensor in joined.items()])
                # a step moves each weight by about 1e-3; a few gradients near zero may change sign by rounding
                assert differences.mean() < 1e-5

    def test_masked_frames_weigh_the_same_whichever_rank_has_them(self, w2v_bert, tmp_path):
        """The distillation is a mean over the frames of all ranks, also where one has shorter utterances."""
        waveforms = (speech(2.0 if i % 3 else 0.4, seed=i)[0, 0].numpy() for i in range(8))
        utterances = (Utterance(f"u{i}", w, 24000, "s", "en") for i, w in enumerate(waveforms))
        write_shards(utterances, tmp_path / "shards", per_shard=8)
        options = (
            f"machine.shards={tmp_path}/shards", *self.OPTIONS, "trainer.loss_weights.condition_magnitude=0",
            "data.segment_speech.segment_length=48000", "model.discriminator=null",
            f"+model.teacher={{path: {w2v_bert}, statistics: {w2v_bert}/stats.pt, layer: 2, pool: 2}}",
        )  # fmt: skip
        train(*options, f"trainer.output_dir={tmp_path}/joined", "trainer.batch_size=4")
        on_two(*options, f"trainer.output_dir={tmp_path}/ranks", "trainer.batch_size=2")
        joined, parted = (scalars(tmp_path / name)["loss/distillation"] for name in ("joined", "ranks"))
        assert parted == pytest.approx(joined, rel=1e-3)

    def test_a_line_of_the_log_is_written_once(self, shards, tmp_path):
        options = (f"machine.shards={shards}", f"trainer.output_dir={tmp_path}", "model.discriminator=null")
        launch("--multi_gpu", "--num_processes=2", "train.py", "--config-name=esdcodec_smoke", *options)
        lines = [line.split("] - ")[-1] for line in (tmp_path / "train.log").read_text().splitlines()]
        assert any("utterances" in line for line in lines)
        assert [line for line in set(lines) if lines.count(line) > 1] == []


class TestOptions:
    def run(self, shards, folder, *overrides):
        train(f"machine.shards={shards}", f"trainer.output_dir={folder}", SMALL, "trainer.sample_every=100", *overrides)
        return folder

    def test_a_moving_average_is_what_is_exported(self, shards, tmp_path):
        every = ("trainer.max_steps=3", "trainer.checkpoint_every=1", "trainer.keep_checkpoints=3")
        self.run(shards, tmp_path, "trainer.ema_decay=0.9", *every, "trainer.validate_every=3")
        average = weights(tmp_path, 1)[0]
        for step in (2, 3):
            new = weights(tmp_path, step)[0]
            average = {name: 0.9 * average[name] + 0.1 * new[name] for name in average}
        exported = load_file(tmp_path / "export/model.safetensors")
        for name, tensor in average.items():
            torch.testing.assert_close(exported[name], tensor)
        assert not equal(weights(tmp_path, 3)[:1], [exported])

    def test_what_is_frozen_stays_and_so_do_its_codes(self, shards, tmp_path):
        frozen = ("encoder", "semantic_quantizer", "semantic_decoder", "acoustic_quantizer")
        each = ("trainer.max_steps=2", "trainer.checkpoint_every=1", f"trainer.freeze=[{','.join(frozen)}]")
        self.run(shards, tmp_path, *each)
        first, second = (weights(tmp_path, step)[0] for step in (1, 2))
        changed = {name for name in first if not torch.equal(first[name], second[name])}
        assert {name.split(".")[0] for name in changed} == {"condition_network", "decoder"}

    def test_each_network_may_have_a_clipping_norm_of_its_own(self, shards, tmp_path):
        trainer = train(
            f"machine.shards={shards}", f"trainer.output_dir={tmp_path}", SMALL, "trainer.max_steps=1",
            "trainer.discriminator.clip_grad_norm=1e-3",
        )  # fmt: skip
        norms = []
        for learner in trainer.task.learners:
            for parameter in learner.network.parameters():
                parameter.grad = torch.ones_like(parameter)
            trainer._clip(learner)
            norms.append(torch.stack([p.grad.norm() for p in learner.network.parameters()]).norm().item())
        assert norms == pytest.approx([1, 1e-3], rel=1e-3)

    def test_discriminators_start_when_they_are_told(self, shards, tmp_path):
        every = ("trainer.max_steps=3", "trainer.checkpoint_every=1", "trainer.discriminator_start=2")
        self.run(shards, tmp_path, *every, "trainer.validate_every=3")
        first, second, third = (weights(tmp_path, step)[1] for step in (1, 2, 3))
        assert equal([first], [second])
        assert not equal([second], [third])
        assert len(scalars(tmp_path)["discriminator/loss"]) == 1
        assert len(scalars(tmp_path)["loss/mel"]) == 3

    def test_fine_tuning_starts_from_a_model_and_its_discriminators(self, shards, tmp_path):
        first = self.run(shards, tmp_path / "first", "model.codec.latent_dim=16")
        still = [f"trainer.{n}.{rate}=1e-12" for n in ("generator", "discriminator") for rate in ("lr", "final_lr")]
        init = (f"trainer.init={first}/export", f"trainer.init_discriminator={first}/export")
        second = self.run(shards, tmp_path / "second", *init, *still)
        for before, after in zip(weights(first, 2), weights(second, 2)):
            assert all(torch.allclose(before[name], after[name], atol=1e-9) for name in before)
        assert esdcodec.load(second / "export", device="cpu").config["latent_dim"] == 16
        fresh = self.run(shards, tmp_path / "third", init[0], *still)
        assert not equal(weights(first, 2)[1:], weights(fresh, 2)[1:])

    def test_discriminators_of_other_sizes_or_none_are_refused(self, shards, tmp_path):
        first = self.run(shards, tmp_path / "first")
        with pytest.raises(WeightsError, match=r"does not fit model\.discriminator"):
            train(
                f"machine.shards={shards}", f"trainer.output_dir={tmp_path}/b",
                f"trainer.init_discriminator={first}/checkpoint-00000002",
            )  # fmt: skip
        with pytest.raises(WeightsError, match="holds no discriminators"):
            self.run(shards, tmp_path / "c", f"trainer.init_discriminator={tmp_path}")

    def test_the_last_checkpoints_and_the_best_are_kept(self, shards, tmp_path):
        each = ("trainer.max_steps=5", "trainer.checkpoint_every=1", "trainer.validate_every=1")
        growing = ("trainer.keep_checkpoints=2", "trainer.generator.lr=0.05", "trainer.generator.final_lr=0.05")
        self.run(shards, tmp_path, *each, *growing)
        scores = scalars(tmp_path)["validation/mel_3"]
        best = 1 + scores.index(min(scores))
        kept = sorted(int(p.name[-8:]) for p in tmp_path.glob("checkpoint-*"))
        assert kept == sorted({best, 4, 5})
        exported = load_file(tmp_path / "export_best/model.safetensors")
        assert equal([exported], weights(tmp_path, best)[:1])
