"""A language model is trained on text and codes by the machinery of the codec's training."""

import json

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

pytest.importorskip("transformers")

from esdcodec.model_tts.autoregressive import make_language_model
from esdcodec.model_tts.decoding import DecodingSettings
from esdcodec.model_tts.sequence import SpeechVocabulary
from esdcodec.model_tts.text import ByteText
from esdcodec.model_tts.text_to_codes import CodecMismatchError, TextToCodes
from esdcodec.training.checkpoint import CheckpointError
from esdcodec.training.settings import ConfigurationError
from tests.model_tts.tiny import SIZES
from tests.token_corpora import spoken_items, write_tokens
from tests.training.runs import scalars
from tests.training.tts.corpus import assert_gradient_checkpoints_change_nothing, items, weights, write_corpus


def same(left, right) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


LONG = ("trainer.max_steps=80", "trainer.optimizer.lr=4e-3", "trainer.optimizer.weight_decay=0")


def test_a_tiny_corpus_is_learnt_and_its_export_repeats_it(train, tokens, codec, tmp_path):
    train(*LONG, "trainer.checkpoint_every=80", "trainer.validate_every=80", "data.voice_share=0")
    logged = scalars(tmp_path / "run")
    assert logged["loss/total"][-1] < 0.1 < logged["loss/total"][0]
    assert logged["accuracy"][-1] > 0.99
    assert logged["validation/loss"][-1] < 0.1
    assert logged["validation/accuracy"][-1] > 0.99
    assert {"loss/end", "validation/end", "lr/language_model", "data/hours", "data/epoch"} <= set(logged)
    exported = TextToCodes.load(tmp_path / "run/export", codec.fingerprint)
    said = {metadata["text"]: codes[0].tolist() for codes, metadata in items().values()}
    results = exported(list(said), None, DecodingSettings(temperature=0, loop_window=0))
    assert [result.codes.tolist() for result in results] == list(said.values())
    assert {result.stop for result in results} == {"end"}
    for text, codes in said.items():
        assert exported.expected_codes(exported.front_end.ids(text)) == pytest.approx(len(codes), abs=0.01)


def test_a_run_that_goes_on_ends_where_it_would_have_ended(train, codec, tmp_path):
    settings = ("trainer.max_steps=6", "trainer.checkpoint_every=2", "trainer.ema_decay=0.9", "data.batch_size=4")
    train(*settings, folder=tmp_path / "straight")
    for steps in (2, 4, 6):
        train(*settings, f"trainer.max_steps={steps}", "trainer.optimizer.decay_steps=6", folder=tmp_path / "parts")
    train(*settings, "trainer.optimizer.decay_steps=6", folder=tmp_path / "again")
    assert same(weights(tmp_path / "parts", 6), weights(tmp_path / "straight", 6))
    assert same(weights(tmp_path / "again", 6), weights(tmp_path / "straight", 6))
    state = json.loads((tmp_path / "parts/checkpoint-00000006/trainer.json").read_text())
    assert state["position"] == 24
    frames = sum(codes.shape[1] for codes, _ in items().values())
    assert state["audio_seconds"] == pytest.approx(2 * frames / codec.frame_rate)  # two epochs


@pytest.fixture
def new_accelerator():
    """One process has one precision."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("new_accelerator")
@pytest.mark.parametrize(
    "setting",
    [
        "trainer.mixed_precision=bf16",
        "model.language_model.tie_word_embeddings=true",
        "trainer.gradient_accumulation=2",
    ],
)
def test_other_ways_to_train_learn_as_well(train, tmp_path, setting):
    train(setting, "trainer.max_steps=12", "trainer.checkpoint_every=6", "trainer.optimizer.lr=4e-3")
    losses = scalars(tmp_path / "run")["loss/total"]
    assert losses[-1] < losses[0] - 0.1
    train(setting, "trainer.max_steps=13", "trainer.optimizer.lr=4e-3")  # what was saved is loaded


def test_gradient_checkpoints_change_nothing(train, tmp_path):
    assert_gradient_checkpoints_change_nothing(train, tmp_path)


def test_other_utterances_are_other_data(train, codec, tmp_path):
    folder = write_corpus(tmp_path / "tokens", codec.fingerprint.hex())
    train(f"machine.tokens={folder}")
    write_tokens(folder, "more", spoken_items(range(20, 22)), fingerprint=codec.fingerprint.hex())
    with pytest.raises(CheckpointError, match="the utterances in the shards differ"):
        train(f"machine.tokens={folder}", "trainer.max_steps=3")
    train(f"machine.tokens={folder}", "trainer.max_steps=3", "trainer.resume=new_data")


class TestCodec:
    """Codes mean what their codec means by them."""

    def test_tokens_of_another_codec_are_refused(self, train, tmp_path):
        write_tokens(tmp_path / "other", "a", spoken_items(range(6)), fingerprint="cd" * 32)
        with pytest.raises(CodecMismatchError, match=r"other is of the codec .* Set model.codec to .* \(tiny\)"):
            train(f"machine.tokens={tmp_path}/other")

    def test_an_export_goes_on_with_the_same_codec_alone(self, train, codec, tmp_path):
        first = train()
        export = tmp_path / "run/export"
        second = train(f"trainer.init={export}", folder=tmp_path / "second")
        assert second.task.tokens == first.task.tokens
        config = json.loads((export / "config.json").read_text())
        config["esdcodec"]["fingerprint"] = "cd" * 32
        (export / "config.json").write_text(json.dumps(config))
        with pytest.raises(CodecMismatchError, match="the same codes mean other sounds"):
            train(f"trainer.init={export}", folder=tmp_path / "third")

    def test_an_export_of_another_text_is_refused(self, train, tmp_path):
        train()
        text = "model.text.kind=phonemes", "model.text.language=en-us"
        with pytest.raises(ConfigurationError, match=r"reads 256 tokens of bytes, model\.text makes 229 of phonemes"):
            train(f"trainer.init={tmp_path}/run/export", *text, folder=tmp_path / "second")

    def test_a_run_does_not_go_on_with_another_codec(self, train, codec, tmp_path, monkeypatch):
        train()
        state = tmp_path / "run/checkpoint-00000002/trainer.json"
        content = json.loads(state.read_text())
        content["networks"]["codec_fingerprint"] = "cd" * 32
        state.write_text(json.dumps(content))
        with pytest.raises(CheckpointError, match="differs in codec_fingerprint"):
            train("trainer.max_steps=3")

    def test_codes_begin_where_the_codec_has_them(self, train, codec):
        network = beginning(train, "trainer.init=null")
        weight = network.get_input_embeddings().weight.detach()[260:]
        codebook = codec.semantic_quantizer.effective_codebook().detach()
        ratio = torch.pdist(weight) / torch.pdist(codebook)
        assert ratio.std() < 1e-3 * ratio.mean()


def beginning(train, *overrides):
    """The language model of a run before its first step, as nearly as a learning rate can make it."""
    return train(
        *overrides, "trainer.optimizer.lr=1e-12", "trainer.optimizer.final_lr=0"
    ).task.learner.unwrapped.language_model


def test_a_text_model_is_where_it_may_begin(train, tmp_path):
    """With its own tokenizer, whose text keeps its tokens."""

    folder = tmp_path / "text"
    make_language_model({**SIZES, "max_position_embeddings": 2048}, SpeechVocabulary(256, 4)).save_pretrained(folder)
    ByteText().tokenizer().save_pretrained(folder)
    before = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    network = beginning(train, f"trainer.init={folder}", "model.text.kind=tokenizer", f"model.text.path={folder}")
    after = network.get_input_embeddings().weight.detach()
    torch.testing.assert_close(after[:256], before[:256], rtol=0, atol=1e-6)
    assert len(after) == 256 + 4 + 256


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["task=speech"], "task='speech' must be one of codec, tts_ar, tts_nar"),
        (["model.text.kind=letters"], "model.text: .*kind='letters' is not known"),
        (["model.text.language=en"], "model.text: .*bytes"),
        (["model.language_model.hidden=3"], "model.language_model: hidden: a llama has no such setting"),
        (["model.language_model.max_position_embeddings=99"], "data.max_sequence=2048 is more than"),
        (["data.voice_frames=[9, 3]"], "data.voice_frames"),
        (["data.max_tokens=0"], "data.max_tokens=0 must be at least 1"),
        (["trainer.optimizer.muon_lr=0.1"], "optimizer.muon_lr=0.1 must be null here"),
        (["trainer.ema_decay=2"], "trainer.ema_decay=2.0 must be between 0 and 1"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_be_run_is_named(train, overrides, words):
    with pytest.raises(ConfigurationError, match=words):
        train(*(f"+{o}" if o.startswith("model.language_model.hidden=") else o for o in overrides))
