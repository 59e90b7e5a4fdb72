"""Two exports and voices become one folder; what does not fit together is refused."""

import json
import sys

import pytest
import torch

import esdcodec
from esdcodec.infer.tts import folder as folders
from esdcodec.model_tts.text_to_codes import CodecMismatchError
from esdcodec.tts import SpeechModelError, SpeechSettings, VoiceError, bundle_tts, load_tts
from esdcodec.weights import ModelNotFoundError
from tests.conftest import make_tiny_codec
from tests.speech_models import save_parts


def test_the_folder_has_all_that_speech_needs(tts_folder, tts, codec):
    assert {path.name for path in tts_folder.iterdir()} == {
        "config.json", "text_to_codes", "acoustic", "voices", "codec"
    }  # fmt: skip
    assert tts.voices == ("he", "she")
    assert tts.default_voice == "she"
    assert tts.codec.fingerprint == codec.fingerprint


def test_settings_and_words_about_it_go_with_it(model, parts, tmp_path):
    settings = SpeechSettings().changed(temperature=0.5, guidance=2.0, seed=7, pause=0.1)
    bundle_tts(tmp_path / "tts", **parts, codec=model, settings=settings, about="CC0", dtype="float16")
    tts = load_tts(tmp_path / "tts", device="cpu")
    assert (tts.settings, tts.about, tts.voices) == (settings, "CC0", ())
    assert tts("A few words.").stop == "end"  # without a voice


def test_half_precision_halves_the_files(model, parts, tmp_path, tts_folder):
    bundle_tts(tmp_path / "tts", **parts, codec=model, dtype="float16")
    for name in ("text_to_codes", "acoustic"):
        half, whole = (each / name / "model.safetensors" for each in (tmp_path / "tts", tts_folder))
        assert half.stat().st_size < 0.6 * whole.stat().st_size


def test_parts_of_another_codec_are_refused(parts, voice, tmp_path, tts_folder):
    other = make_tiny_codec(seed=1)
    with pytest.raises(CodecMismatchError, match="the same codes mean other sounds"):
        bundle_tts(tmp_path / "tts", **parts, codec=other)
    with pytest.raises(VoiceError, match="is of the codec 'tiny'"):
        bundle_tts(tmp_path / "tts", **save_parts(tmp_path, other), codec=other, voices=[voice])
    assert not (tmp_path / "tts").exists()
    with pytest.raises(CodecMismatchError, match="Give the codec"):
        load_tts(tts_folder, codec=other)


def test_voices_are_told_apart_by_their_names(model, parts, voice, tmp_path):
    with pytest.raises(SpeechModelError, match="two voices are called she"):
        bundle_tts(tmp_path / "tts", **parts, codec=model, voices=[voice, voice])
    with pytest.raises(SpeechModelError, match="default_voice='he' is none of the voices: she"):
        bundle_tts(tmp_path / "tts", **parts, codec=model, voices=[voice], default_voice="he")


def test_only_a_model_is_replaced(model, parts, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("mine")
    with pytest.raises(SpeechModelError):
        bundle_tts(tmp_path / "precious", **parts, codec=model)
    assert (tmp_path / "precious/file").read_text() == "mine"
    for about in ("first", "second"):
        bundle_tts(tmp_path / "tts", **parts, codec=model, about=about)
    assert load_tts(tmp_path / "tts", device="cpu").about == "second"
    assert not list(tmp_path.glob(".partial*"))


def test_a_model_that_is_not_there_is_refused_with_the_way_to_one(monkeypatch, tmp_path):
    monkeypatch.setitem(folders.BUNDLED, "25hz_nano_tts", tmp_path / "nothing")
    with pytest.raises(ModelNotFoundError, match=r"does not come with this version .* train one \(docs/tts.md"):
        esdcodec.load_tts()
    with pytest.raises(ModelNotFoundError, match="is no model that speaks: give the folder that"):
        esdcodec.load_tts(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": "esdcodec-tts-9"}', '{"format": "esdcodec-tts-1", "x": 1}']
)
def test_another_configuration_is_refused(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(SpeechModelError, match=r"config\.json: no model that speaks, of this version"):
        load_tts(tmp_path)


def test_wrong_settings_in_it_are_refused(tts_folder, tmp_path):
    config = json.loads((tts_folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"settings": {"decoding": {"warmth": 1}}}))
    with pytest.raises(SpeechModelError, match="warmth"):
        load_tts(tmp_path)


def test_a_codec_of_ones_own_is_taken(tts_folder, codec):
    assert load_tts(tts_folder, codec=codec).codec is codec


def test_public_names():
    assert esdcodec.load_tts is load_tts
    assert esdcodec.tts.Voice is esdcodec.tts.__dict__["Voice"]
    assert torch.is_tensor(esdcodec.tts.Speech(torch.zeros(3), 24000, ("end",)).audio)


@pytest.mark.parametrize("package", ["transformers", "sentencex"])
def test_without_the_extra_it_says_how_to_get_it(package, tts_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf'needs {package}: `pip install "esdcodec\[tts\]"`'):
        load_tts(tts_folder, device="cpu")("A few words.")
