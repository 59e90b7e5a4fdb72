"""The network that adds acoustic codes is trained by the machinery of the codec's training."""

import json

import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip("transformers")

from esdcodec.model_tts.acoustic_folder import load_acoustic
from esdcodec.model_tts.acoustic_generation import AcousticSettings, acoustic_codes
from esdcodec.model_tts.text_to_codes import CodecMismatchError
from esdcodec.training.settings import ConfigurationError
from esdcodec.weights import WeightsError
from tests.token_corpora import spoken_items, write_tokens
from tests.training.runs import finish, on_two, scalars, start
from tests.training.tts.corpus import assert_gradient_checkpoints_change_nothing, items, weights

SMOKE = "esdcodec_tts_nar_smoke"


def test_a_tiny_corpus_is_learnt_and_its_export_repeats_it(train, codec, tmp_path):
    """Its acoustic codes are below 64, as a small codec's are."""
    train(
        "trainer.max_steps=150", "trainer.optimizer.lr=1e-2", "trainer.optimizer.weight_decay=0", "data.voice_share=0",
        "trainer.checkpoint_every=150", "trainer.validate_every=150",
    )  # fmt: skip
    logged = scalars(tmp_path / "run")
    assert logged["loss/total"][-1] < 0.2 < logged["loss/total"][0]
    assert logged["validation/accuracy"][-1] > 0.95
    model = load_acoustic(tmp_path / "run/export", codec.fingerprint)
    right = total = 0
    for codes, _ in items().values():
        found = acoustic_codes(model, torch.from_numpy(codes[0]), None, AcousticSettings(temperature=0))
        right, total = right + int((found.numpy() == codes).sum()), total + codes.size
    assert right > 0.95 * total


def test_a_run_that_goes_on_ends_where_it_would_have_ended(train, tmp_path):
    settings = ("trainer.checkpoint_every=2", "trainer.ema_decay=0.9", "trainer.optimizer.decay_steps=4")
    train(*settings, "trainer.max_steps=4", folder=tmp_path / "straight")
    for steps in (2, 4):
        train(*settings, f"trainer.max_steps={steps}", folder=tmp_path / "parts")
    left, right = (weights(tmp_path / name, 4) for name in ("parts", "straight"))
    assert all(torch.equal(left[name], right[name]) for name in right)


def test_gradient_checkpoints_change_nothing(train, tmp_path):
    assert_gradient_checkpoints_change_nothing(train, tmp_path)


def test_codes_of_another_codec_are_refused(train, codec, tmp_path):
    write_tokens(tmp_path / "other", "a", spoken_items(range(6)), fingerprint="cd" * 32)
    with pytest.raises(CodecMismatchError, match="other is of the codec"):
        train(f"machine.tokens={tmp_path}/other")
    train()
    export = tmp_path / "run/export"
    with pytest.raises(CodecMismatchError, match="Load the codec tiny, or train on its codes"):
        load_acoustic(export, bytes(32))
    train(f"trainer.init={export}", folder=tmp_path / "second")
    with pytest.raises(ConfigurationError, match=r"trainer.init=.* is .*'blocks': 2.* model.network .*'blocks': 1"):
        train(f"trainer.init={export}", "model.network.blocks=1", folder=tmp_path / "third")
    about = json.loads((export / "config.json").read_text())
    (export / "config.json").write_text(json.dumps({**about, "fingerprint": "cd" * 32}))
    with pytest.raises(CodecMismatchError, match="the same codes mean other sounds"):
        train(f"trainer.init={export}", folder=tmp_path / "fourth")


@pytest.mark.parametrize("damage", ["config", "format", "weights"])
def test_a_folder_of_something_else_is_refused(train, codec, tmp_path, damage):
    train()
    export = tmp_path / "run/export"
    if damage == "config":
        (export / "config.json").unlink()
    elif damage == "format":
        (export / "config.json").write_text('{"format": "other"}')
    else:
        save_file({"a": torch.zeros(1)}, export / "model.safetensors")
    with pytest.raises(WeightsError, match=r"give a training's export|do not fit config.json"):
        load_acoustic(export, codec.fingerprint)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.n_quantizers=1", r"model.n_quantizers=1 must be at least 2"),
        ("model.n_quantizers=9", "model.n_quantizers=9, but tiny has 6"),
        ("model.network.heads=3", "model.network: dim=32 must be a multiple of"),
        ("data.segment_frames=0", "data.segment_frames=0 must be at least 1"),
    ],
)
def test_what_cannot_be_run_is_named(train, override, words):
    with pytest.raises(ConfigurationError, match=words):
        train(override)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(model, tokens, tmp_path):
    settings = [
        f"machine.tokens={tokens}", f"model.codec={model}", "trainer.max_steps=4", "trainer.checkpoint_every=4",
        "trainer.validate_every=100", "data.max_frames=100000",
    ]  # fmt: skip
    one, two = tmp_path / "one", tmp_path / "two"
    finish(start(*settings, "data.batch_size=6", f"trainer.output_dir={one}", config=SMOKE))
    on_two(*settings, "data.batch_size=3", f"trainer.output_dir={two}", CONFIG=SMOKE)
    left, right = weights(two, 4), weights(one, 4)
    for name in right:
        torch.testing.assert_close(left[name], right[name], rtol=1e-3, atol=1e-4, msg=name)
    assert scalars(two)["loss/total"] == pytest.approx(scalars(one)["loss/total"], rel=1e-4)
