"""What is exported: a plain folder for `transformers`, and what this package makes of it."""

import json

import pytest
import torch

pytest.importorskip("transformers")

from transformers import AutoModelForCausalLM, AutoTokenizer

from esdcodec.model_tts.autoregressive import make_language_model
from esdcodec.model_tts.decoding import DecodingSettings
from esdcodec.model_tts.text import ByteText, TokenizerText
from esdcodec.model_tts.text_to_codes import CodecMismatchError, SpeechTokens, TextToCodes
from tests.model_tts.tiny import CODEBOOK, SIZES, TEXTS, corpus, examples, fitted, language_model

FINGERPRINT = bytes(range(32))
TOKENS = SpeechTokens(
    codec="tiny", fingerprint=FINGERPRINT.hex(), frame_rate=25.0, codebook_size=CODEBOOK, n_text=ByteText.n_tokens,
    text=ByteText().config, codes_per_text=10.0, codes_per_text_token=1.0,
)  # fmt: skip
GREEDY = DecodingSettings(temperature=0)


@pytest.fixture(scope="module")
def trained():
    return TextToCodes(fitted(examples(voiced=False))[0], TOKENS)


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    trained.save(folder)
    return folder


def test_what_was_saved_is_loaded_and_says_the_same(trained, folder):
    loaded = TextToCodes.load(folder, FINGERPRINT)
    assert loaded.tokens == TOKENS
    for text, said, result, again in zip(TEXTS, corpus(), loaded(TEXTS, None, GREEDY), trained(TEXTS, None, GREEDY)):
        assert result.codes.tolist() == again.codes.tolist() == said.codes.tolist(), text
        assert result.stop == "end"


@pytest.mark.parametrize("settings", [GREEDY, DecodingSettings(temperature=1.5, seed=4)], ids=["greedy", "drawn"])
def test_streamed_codes_are_those_of_a_call(trained, settings):
    for text, result in zip(TEXTS, trained(TEXTS, None, settings)):
        stream = trained.stream(text, None, settings)
        assert stream.stop is None
        assert list(stream) == result.codes.tolist()
        assert stream.stop == result.stop


def test_plain_transformers_generate_the_same_codes(folder):
    """As its documentation does it, with nothing of this package."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    first = json.loads((folder / "config.json").read_text())["esdcodec"]["first_code"]
    for text, said in zip(TEXTS, corpus()):
        inputs = tokenizer(f"<|tts_text|>{text}<|tts_codes|>", add_special_tokens=False, return_tensors="pt")
        output = model.generate(inputs.input_ids, do_sample=False, max_new_tokens=60)[0, inputs.input_ids.shape[1] :]
        assert output[-1] == tokenizer.eos_token_id
        assert (output[:-1] - first).tolist() == said.codes.tolist()
        assert tokenizer.decode(output[:2]) == "".join(f"<|code_{code}|>" for code in said.codes[:2].tolist())


def test_special_tokens_are_named_in_the_configuration(folder):
    config, tokenizer = json.loads((folder / "config.json").read_text()), AutoTokenizer.from_pretrained(folder)
    for name, token in config["esdcodec"]["special_ids"].items():
        assert tokenizer.convert_tokens_to_ids(f"<|tts_{name}|>") == token
    assert config["eos_token_id"] == tokenizer.eos_token_id == config["esdcodec"]["special_ids"]["end"]
    assert tokenizer.pad_token_id == config["esdcodec"]["special_ids"]["padding"]
    assert len(tokenizer) == config["vocab_size"]


def test_the_codec_of_another_fingerprint_is_refused(folder):
    with pytest.raises(CodecMismatchError, match=r"the same codes mean other sounds. Load the codec tiny"):
        TextToCodes.load(folder, bytes(32))


def test_any_other_language_model_is_refused(tmp_path):
    language_model().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="none of text to codes: give a training's export"):
        TextToCodes.load(tmp_path, FINGERPRINT)


def test_the_tokenizer_of_a_text_model_goes_with_its_export(bpe, tmp_path):
    front_end = TokenizerText(bpe)
    tokens = SpeechTokens(**{**vars(TOKENS), "n_text": front_end.n_tokens, "text": front_end.config})
    TextToCodes(make_language_model(SIZES, tokens.vocabulary), tokens).save(tmp_path / "one")
    loaded = TextToCodes.load(tmp_path / "one", FINGERPRINT)
    text = "plain words <|code_3|>"
    assert loaded.front_end.ids(text) == front_end.ids(text)
    loaded.save(tmp_path / "two")  # as a run does that goes on from an export
    again = TextToCodes.load(tmp_path / "two", FINGERPRINT)
    assert (again.front_end.ids(text), len(again.tokenizer())) == (front_end.ids(text), tokens.vocabulary.size)


class TestExpectedLength:
    def test_it_follows_the_corpus_or_the_voice(self, trained):
        text = trained.front_end.ids("ten letter")
        assert trained.expected_codes(text) == pytest.approx(20.0)
        assert trained.expected_codes(text, trained.voice("abcd", torch.zeros(21))) == pytest.approx(30.0)
        assert trained.expected_codes(text, trained.voice("abcd", torch.zeros(99))) == pytest.approx(40.0)

    def test_a_text_is_given_with_its_voice(self, trained):
        voice = trained.voice(TEXTS[1], corpus()[1].codes)
        one, both = trained(["speech"], voice, GREEDY)[0], trained(["speech", "no"], voice, GREEDY)
        assert both[0].codes.tolist() == one.codes.tolist()
        assert trained(["speech"], None, GREEDY)[0].codes.tolist() != one.codes.tolist()
        with pytest.raises(ValueError, match="1 voices for 2 texts"):
            trained(["a", "b"], [voice], GREEDY)

    @pytest.mark.parametrize(("text", "words"), [("  ", "holds nothing to say"), ("long " * 200, "split the text")])
    def test_a_text_that_cannot_be_said_is_refused(self, trained, text, words):
        with pytest.raises(ValueError, match=words):
            trained([text])
