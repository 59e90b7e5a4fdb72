"""recipes/nano on synthetic shards: all stages, from an empty folder to a codec, whatever happens on the way."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import esdcodec
from esdcodec.dataset.filters import Filters
from esdcodec.dataset.make_shards import Utterance, write_shards
from esdcodec.dataset.skip_counts import SkipCounts
from tests.conftest import PATIENCE, speech
from tests.corpora import add, broken_members

ROOT = Path(__file__).parents[2]
STAGES = ("teacher", "condition", "encoder", "quantizers", "lower", "upper", "decoder", "polish")
TINY = [
    "model.codec.encoder_dim=4", "model.codec.semantic_codebook_size=64", "model.codec.semantic_codebook_dim=8",
    "model.codec.semantic_dim=16", "model.codec.semantic_hidden=16", "model.codec.semantic_blocks=1",
    "model.codec.acoustic_codebooks=3", "model.codec.acoustic_codebook_size=16", "model.codec.acoustic_codebook_dim=4",
    "model.codec.condition_dim=16", "model.codec.condition_hidden=16", "model.codec.condition_blocks=1",
    "model.codec.decoder_dim=32", "model.discriminator={periods: [2], period_channels: [2], windows: []}",
    "discriminator_below.periods=[2]", "discriminator_below.period_channels=[2]",
    "discriminator_below.spectrograms={64: 16}", "discriminator_below.spectrogram_channels=[2, 2, 2, 2]",
    "discriminator_fine.spectrograms={64: 16}", "discriminator_fine.spectrogram_channels=[2, 2, 2, 2]",
    "trainer.mixed_precision='no'", "trainer.tracker=null", "trainer.log_every=1", "trainer.validate_every=2",
    "trainer.checkpoint_every=1", "stages.quantizers.options.acoustic_start=1",
    "stages.quantizers.options.renew_every=2", "stages.quantizers.options.fit_batches=2",
    "stages.quantizers.options.spread_batches=2", "stages.quantizers.options.renew_batches=1",
    *(f"stages.{name}.{key}" for name in STAGES for key in ("steps=4", "batch_size=2", "n_validation=2")),
    *(f"stages.{name}.n_frames=20" for name in STAGES),
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, n in (("train", 4), ("validation", 2)):
        waveforms = (speech(1.5, seed=i)[0, 0].numpy() for i in range(n))
        utterances = (Utterance(f"{name}{i}", w, 24000, "s", "en") for i, w in enumerate(waveforms))
        write_shards(utterances, folder, name=name, per_shard=2)
    return folder


def start(data: Path, output: Path, *settings: str) -> subprocess.Popen:
    command = [sys.executable, "recipes/nano/train.py", str(data), "--output", str(output), *TINY, *settings]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env=environment
    )


def finish(process: subprocess.Popen, code: int = 0) -> str:
    output = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == code, output
    return output


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Path:
    """A run that nothing happens to."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "log").write_text(finish(start(data, folder)))
    return folder


def handed_on(folder: Path) -> dict[str, dict[str, str]]:
    """Checksums of what each stage hands on."""
    return {name: json.loads((folder / name / "finished.json").read_text())["handed_on"] for name in STAGES}


@pytest.mark.slow
class TestRun:
    def test_the_codec_of_an_empty_folder_loads_and_codes(self, trained):
        codec = esdcodec.load(trained / "codec", device="cpu")
        codes = codec.encode(speech(0.5), n_quantizers=3)
        assert codec.decode(codes).shape == (1, 1, codes.shape[-1] * 960)

    def test_each_stage_trains_its_parts_and_leaves_the_others(self, trained):
        parts = {
            "condition": {"condition_network"},
            "encoder": {"encoder"},
            "quantizers": {"encoder", "semantic_quantizer", "semantic_decoder", "acoustic_quantizer"},
            "lower": {"decoder"},
            "upper": {"decoder"},
            "decoder": {"decoder"},
            "polish": {"decoder"},
        }
        weights = {name: load_file(trained / name / "export/model.safetensors") for name in STAGES}
        for before, name in pairwise(STAGES):
            old, new = weights[before], weights[name]
            assert {key.split(".")[0] for key in new if not torch.equal(old[key], new[key])} == parts[name], name
        assert torch.equal(
            weights["upper"]["decoder.stages.0.upsample.bias"], weights["lower"]["decoder.stages.0.upsample.bias"]
        )

    def test_the_codebooks_leave_to_each_other_what_they_shall(self, trained, recipe):
        import analysis

        weights = load_file(trained / "codec/model.safetensors")
        says = weights["semantic_quantizer.projection.weight"].abs().sum(1) > 0
        assert says.nonzero()[:, 0].tolist() == [*range(analysis.PHASE.start), *range(*analysis.HEARD.indices(224))]
        codec = esdcodec.load(trained / "codec", device="cpu")
        latent = codec.acoustic_quantizer(torch.randn(1, 224, 50), torch.tensor([3])).latent
        assert (latent.abs().sum((0, 2)) > 0).nonzero()[:, 0].tolist() == list(range(analysis.DIM))

    def test_the_condition_network_does_not_listen_to_the_teacher(self, trained, recipe):
        import analysis

        weights = load_file(trained / "codec/model.safetensors")
        assert not weights["condition_network.conv_in.weight"][:, analysis.HEARD].any()

    def test_all_says_that_it_is_finished(self, trained):
        for name in ("analysis", *STAGES):
            assert json.loads((trained / name / "status.json").read_text())["status"] == "finished"

    def test_a_second_run_skips_what_is_finished(self, data, trained, tmp_path):
        folder = Path(shutil.copytree(trained, tmp_path / "run"))
        shutil.rmtree(folder / "polish")
        output = finish(start(data, folder))
        assert all(f"stage {name}: finished before" in output for name in STAGES[:-1])
        assert handed_on(folder) == handed_on(trained)

    def test_a_finished_stage_is_not_taken_for_one_with_other_settings(self, data, trained):
        output = finish(start(data, trained, "stages.upper.steps=5"), code=2)
        assert "upper was finished otherwise (stage.steps differ): remove it" in output


@pytest.mark.slow
def test_killed_anywhere_it_ends_where_it_would_have_ended(data, trained, tmp_path):
    moments = (
        "analysis/latents/train/train-000000.npy",
        "encoder/checkpoint-00000002",  # in the middle of a stage
        "quantizers/checkpoint-00000001",  # before the acoustic codebooks are fitted
        "quantizers/finished.json",  # between stages
        "decoder/checkpoint-00000004",  # before the end is written down
    )
    for moment in moments:
        process = start(data, tmp_path)
        end = time.monotonic() + PATIENCE
        while not (tmp_path / moment).exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert (tmp_path / moment).exists()
        assert not (tmp_path / "codec").exists()
    finish(start(data, tmp_path))
    assert handed_on(tmp_path) == handed_on(trained)
    weights = [load_file(folder / "codec/model.safetensors") for folder in (tmp_path, trained)]
    assert all(torch.equal(weights[0][name], tensor) for name, tensor in weights[1].items())


# ---- in this process -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recipe():
    """The recipe's train.py in this process, under a name that is free; its other modules can be imported then."""
    folder = ROOT / "recipes/nano"
    sys.path.insert(0, str(folder))
    specification = importlib.util.spec_from_file_location("train_nano", folder / "train.py")
    module = sys.modules["train_nano"] = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    yield module
    sys.path.remove(str(folder))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("stages.encoder.step=4", "stages.encoder.step is no setting: did you mean stages.encoder.steps?"),
        ("stages.encoder.steps=0", "stages.encoder.steps=0 must be at least 1"),
        ("stages.lower.loss_weights.mell=1", "stages.lower.loss_weights must name mel, phase"),
        ("stages.encoder.options.warm_up=1", "stages.encoder.options must name nothing, not warm_up"),
        ("stages.lower.networks.below.lr=-1", "stages.lower.networks.below.lr=-1.0 must be positive"),
        ("model.codec.latent_dim=80", "model.codec must have a latent_dim of 224"),
        ("model.codec.acoustic_codebooks=-1", "model.codec: "),
        ("model.discriminator.period=[2]", "model.discriminator.period is no setting: did you mean"),
        ("data.damaged_share=2", "data.damaged_share=2.0 must be from 0 to 1"),
        ("trainer.log_every=0", "trainer.log_every=0 must be at least 1"),
        ("trainer={", "trainer={ cannot be read"),
    ],
)
def test_settings_that_cannot_be_are_told_in_a_line(recipe, setting, message, tmp_path, caplog):
    assert recipe.main([str(tmp_path), "--output", str(tmp_path / "run"), setting]) == 2
    assert message in caplog.text
    assert not (tmp_path / "run").exists()


LENGTHS = [30, 3, 20]  # frames of the recordings in each shard


@pytest.fixture
def segments(recipe, tmp_path):
    """Makes batches of recordings in which every sample says which frame it is of."""
    import recordings
    from analysis import DIM, PITCH
    from data import Frames, Segments

    arrays = recordings.Arrays(tmp_path, "train", ["a", "b"])
    for i, name in enumerate(arrays.names):
        index = np.arange(sum(LENGTHS), dtype=np.int16) + 100 * i
        arrays.write(recordings.AUDIO, name, np.repeat(index, 960))
        arrays.write(recordings.LENGTHS, name, np.array(LENGTHS))
        latents = np.zeros((sum(LENGTHS), DIM), np.float16)
        latents[:30, PITCH.start] = 2.0  # 62 Hz
        arrays.write(recordings.LATENTS, name, latents)
        arrays.write("made/frame", name, index[:, None])
        arrays.write("made/half", name, np.repeat(index, 2)[:, None])

    def make(damage=None, **settings):
        data = recordings.DataSettings(
            **{
                "filters": Filters(), "max_broken_share": 0.0, "dither": 0.0, "new_voices": 0, "damaged_share": 0.5,
                "low_repeats": 1,
            } | settings
        )  # fmt: skip
        frames = {"frame": Frames("made/frame"), "half": Frames("made/half")}
        return Segments(arrays, frames, data, n_frames=10, batch_size=4, seed=[1], damage=damage)

    return make


class TestSegments:
    def test_what_was_measured_belongs_to_the_audio(self, segments):
        batch = segments()[0]
        audio = (batch.audio * 32768).view(4, 10, 960)
        assert torch.equal(audio, batch.features["frame"].float().transpose(1, 2).expand(4, 10, 960))
        assert torch.equal(batch.features["half"][:, 0, ::2], batch.features["frame"][:, 0])

    def test_an_epoch_has_of_each_recording_as_much_as_it_is_long(self, segments):
        made = segments()
        assert made.epoch_size == 2 * (3 + 2)
        firsts = [int(key.split("/")[1]) for p in range(0, 20, 4) for key in made[p].keys]
        assert sum(first < 30 for first in firsts) == 2 * 6
        assert all(first <= 20 or first >= 33 for first in firsts)

    def test_low_voices_are_drawn_more_often(self, segments):
        made = segments(low_repeats=3)
        assert made.epoch_size == 2 * (3 * 3 + 2)
        firsts = [int(key.split("/")[1]) for p in range(0, 44, 4) for key in made[p].keys]
        assert sum(first < 30 for first in firsts) == 2 * 2 * 9

    def test_a_batch_is_that_of_its_position(self, segments):
        third = list(islice(segments(dither=0.1).batches(0), 3))[2]
        again = next(segments(dither=0.1).batches(8))
        assert third.keys == again.keys
        assert torch.equal(third.audio, again.audio)

    def test_damage_is_heard_now_and_then_and_leaves_the_audio(self, segments):
        made = segments(damage=lambda waveform, random: 0 * waveform)
        batches = [made[p] for p in range(0, 80, 4)]
        silent = torch.cat([(batch.features["damaged"] == 0).all(-1) for batch in batches]).float().mean()
        assert 0.3 < silent < 0.7
        assert torch.equal(batches[0].audio, segments()[0].audio)


def test_new_voices_are_measured_as_they_are(recipe, data, tmp_path):
    from recordings import LENGTHS, DataSettings, read_shards

    settings = DataSettings(
        filters=Filters(), max_broken_share=0.0, dither=0.0, new_voices=1, damaged_share=0.0, low_repeats=1
    )
    arrays = read_shards(
        tmp_path, "validation", data / "validation.list", settings, lambda w, random: w[: len(w) // 2], 0
    )
    assert arrays.names == ["validation-000000", "validation-000000.voice1"]
    assert [arrays.read(LENGTHS, name).tolist() for name in arrays.names] == [[38, 38], [19, 19]]


def test_what_cannot_be_used_is_counted(recipe, tmp_path):
    from recordings import recordings

    members, reasons = broken_members()
    skip_counts = SkipCounts()
    found = list(recordings(str(add(tmp_path / "x.tar", members)), Filters(min_sample_rate=16000), skip_counts))
    assert [key for key, _ in found] == ["good"]
    assert skip_counts.reasons() == Counter(reasons.values())


def test_quiet_speech_has_the_pitch_of_loud_speech(recipe):
    import analysis

    time = np.arange(30 * analysis.HOP) / analysis.RATE
    voice = 0.05 * sum(np.cos(2 * np.pi * k * 110 * time) / k for k in range(1, 20)).astype(np.float32)
    loud, quiet = (analysis.analysis(gain * voice).astype(np.float32)[8:-8, analysis.PITCH] for gain in (1, 0.025))
    assert quiet.max() > 0.5
    np.testing.assert_allclose(quiet, loud, atol=0.1)


@pytest.mark.parametrize("hertz", [80.0, 123.4, 300.0])
def test_a_steady_voice_has_its_pitch_and_its_phase(recipe, hertz):
    import analysis

    time = (np.arange(48 * 960) + 0.5) / 24000
    voice = 0.05 * sum(np.cos(2 * np.pi * k * hertz * time) / k for k in range(1, 20)).astype(np.float32)
    frames = analysis.analysis(voice).astype(np.float32)[8:-8]
    position, (cosine, sine) = frames[:, analysis.PITCH], frames[:, analysis.PHASE].T
    semitones = (position * np.arange(analysis.N_PITCHES)).sum(1) / position.sum(1)
    expected = (1200 * np.log2(hertz / 10) - analysis.SEMITONES[0]) / 100
    assert np.abs(semitones - expected).max() < 0.5
    centre = (np.arange(48)[8:-8] + 0.5) / 25
    error = np.angle((cosine + 1j * sine) * np.exp(-2j * np.pi * hertz * centre))
    assert np.abs(error).max() < 0.5
