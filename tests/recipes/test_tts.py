"""recipes/tts, without the synthesiser: which sentences are read, and from shards to a model that speaks."""

import random
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers")
pytest.importorskip("sentencex")

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes/tts"))

import make_voice
import texts
import voice_corpus

import esdcodec
from esdcodec.cli.main import main
from esdcodec.dataset.make_shards import Utterance
from tests.conftest import speech
from tests.training.runs import on_one_thread

NOVELS = [f"Sentence number {i} of a novel." for i in range(200)]


def test_a_sentence_is_in_one_part_and_what_codecs_are_tested_on_is_not_trained_on():
    parts = {sentence: voice_corpus.part(sentence) for sentence in NOVELS}
    assert set(parts.values()) == {"train", "validation", "test"}
    for sentence, part in parts.items():
        assert (part == "test") == (texts.split(sentence) == "test")
        assert (part == "validation") == (zlib.crc32(sentence.encode()) % texts.TEST_SHARE == 1)


def test_the_same_seed_draws_the_same_sentences_of_their_part_alone():
    for part in ("train", "validation", "test"):
        drawn, again = (list(voice_corpus.draw_sentences(NOVELS, part, 30, random.Random("anna/0"))) for _ in range(2))
        assert drawn == again
        assert {voice_corpus.part(sentence) for sentence in drawn} == {part}
        assert any(sentence not in NOVELS for sentence in drawn)  # of a template


def test_voices_that_test_codecs_are_refused(tmp_path):
    with pytest.raises(ValueError, match="af_alloy, am_onyx: these voices test what was never heard"):
        voice_corpus.make_corpus(tmp_path, ["af_alloy", "am_onyx", "af_heart"], 1.0, 1)


def utterances(voice: str, seed: int):
    for i in range(3):
        yield Utterance(f"{voice}_{i}", speech(3.2, seed=seed + i)[0, 0].numpy(), 24000, voice, "en", f"Words {i}.")


@pytest.mark.slow
def test_from_shards_to_a_model_that_speaks(model, tmp_path, monkeypatch):
    """By the commands that the recipe prints, with networks as small as they go."""

    def run(*words: object) -> None:
        monkeypatch.setattr(sys, "argv", ["esdcodec"])
        with on_one_thread():
            assert main([str(word) for word in words]) == 0

    monkeypatch.setattr(make_voice.Recipe, "_esdcodec", staticmethod(run))
    for part in ("train", "validation"):
        (tmp_path / "data" / part).mkdir(parents=True)
        for seed, voice in enumerate(("anna", "ben")):
            shard = tmp_path / "data" / part / f"{voice}-0000.tar"
            voice_corpus.prepare.write_shard(utterances(voice, 10 * seed), shard)
    recipe = make_voice.Recipe(
        tmp_path, model, ("anna", "ben"), config="esdcodec_tts_{}_smoke",
        settings={"ar": ["trainer.tracker=null"], "nar": ["trainer.tracker=null", "model.n_quantizers=6"]},
    )  # fmt: skip
    for stage in ("tokens", "ar", "nar", "model"):
        recipe.run(stage)
    tts = esdcodec.load_tts(recipe.model, device="cpu")
    assert tts.voices == ("anna", "ben")
    assert tts.voice("ben").consent == "agreed"
    assert np.isfinite(tts("Yes.", voice="ben", seed=1).audio.numpy()).all()
