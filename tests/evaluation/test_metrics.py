"""Laws of the metrics: scores are the packages' own, and what cannot be scored is no number."""

import math
import sys

import numpy as np
import pytest

from esdcodec.audio import resample
from esdcodec.evaluation.metrics import METRICS, MissingPackage, load_metric, metric_version, si_sdr
from esdcodec.evaluation.pair import NotScorable, Pair
from esdcodec.evaluation.words import Recogniser, plain
from tests.conftest import speech


@pytest.fixture(scope="module")
def pair():
    reference = speech(2.0)[0, 0].numpy()
    noise = np.random.default_rng(0).standard_normal(len(reference)).astype(np.float32)
    return Pair(reference, reference + 0.02 * noise, 24000)


class TestMetrics:
    def test_stoi(self, pair):
        pystoi = pytest.importorskip("pystoi")
        scores = load_metric("stoi")(pair)
        assert scores["stoi"] == pytest.approx(pystoi.stoi(pair.reference, pair.estimate, 24000))
        assert scores["estoi"] == pytest.approx(pystoi.stoi(pair.reference, pair.estimate, 24000, extended=True))

    def test_pesq(self, pair):
        pesq = pytest.importorskip("pesq")
        scores = load_metric("pesq")(pair)
        for column, rate, mode in (("pesq_wb", 16000, "wb"), ("pesq_nb", 8000, "nb")):
            signals = [resample(w, 24000, rate) for w in (pair.reference, pair.estimate)]
            assert scores[column] == pytest.approx(pesq.pesq(rate, *signals, mode))

    def test_pesq_of_silence_is_no_number(self):
        pytest.importorskip("pesq")
        silence = np.zeros(24000, np.float32)
        assert math.isnan(load_metric("pesq")(Pair(silence, silence, 24000))["pesq_wb"])

    def test_distillmos(self, pair):
        torch = pytest.importorskip("torch")
        distillmos = pytest.importorskip("distillmos")
        estimate = torch.from_numpy(resample(pair.estimate, 24000, 16000))[None]
        with torch.no_grad():
            expected = distillmos.ConvTransformerSQAModel().eval()(estimate).item()
        assert load_metric("distillmos")(pair)["distillmos"] == pytest.approx(expected, abs=1e-4)

    def test_words_are_counted_after_plain_writing(self):
        assert plain("Hello, World! It's  5.") == "hello world it's 5"

    @pytest.mark.parametrize("name", METRICS)
    def test_columns_are_those_it_says_and_a_copy_is_perfect(self, pair, name):
        try:
            scorer = load_metric(name)
        except MissingPackage as error:
            pytest.skip(str(error))
        same = scorer(Pair(pair.reference, pair.reference, 24000))
        assert tuple(same) == METRICS[name].columns
        best = {
            "mel": 0,
            "stft": 0,
            "stoi": 1,
            "estoi": 1,
            "speaker": 1,
            "word_errors": 0,
            "f0_cents": 0,
            "voicing_f1": 1,
        }
        for column, value in best.items():
            assert column not in same or same[column] == pytest.approx(value, abs=1e-3)
        noisy = scorer(pair)
        for column in ("stoi", "estoi", "pesq_wb", "pesq_nb", "visqol", "si_sdr", "speaker"):
            assert column not in same or noisy[column] < same[column]

    def test_a_missing_package_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pesq", None)
        with pytest.raises(MissingPackage, match=r"pesq needs pesq .*pip install"):
            load_metric("pesq")

    @pytest.mark.parametrize("name", ["spectral", "stoi", "pesq", "visqol"])
    @pytest.mark.parametrize("what", ["silent", "decoded to silence", "25 ms"])
    def test_what_cannot_be_compared_is_no_number(self, pair, name, what):
        try:
            scorer = load_metric(name)
        except MissingPackage as error:
            pytest.skip(str(error))
        silence = np.zeros_like(pair.reference)
        signals = {
            "silent": (silence, silence),
            "decoded to silence": (pair.reference, silence),
            "25 ms": (pair.reference[:600], pair.reference[:600]),
        }
        column = {"spectral": "si_sdr", "stoi": "stoi", "pesq": "pesq_wb", "visqol": "visqol"}[name]
        if name == "stoi" and what != "25 ms":
            pytest.skip("it is defined")
        try:
            score = scorer(Pair(*signals[what], 24000))[column]
        except NotScorable:
            score = math.nan
        assert math.isnan(score)

    def test_the_ratio_to_silence_is_not_defined(self, pair):
        silence = np.zeros_like(pair.reference)
        assert math.isnan(si_sdr(pair.estimate, silence))
        assert math.isnan(si_sdr(silence, pair.reference))

    def test_a_version_names_what_computes_the_scores(self):
        assert metric_version("spectral") == "2"
        assert metric_version("visqol").startswith("1, visqol-python ")
        assert "ai-edge-litert" in metric_version("visqol")  # it changes the scores where it is installed


class FakeWhisper:
    """Hears what it is told, in the language that it is asked for."""

    def __init__(self, heard="", languages=("en", "fr", "ja"), detected="fr"):
        self.heard, self.detected, self.asked = heard, detected, []
        self.multilingual, self.languages = len(languages) > 1, frozenset(languages)

    language_of = Recogniser.language_of

    @property
    def model(self):
        return self

    def detect_language(self, waveform):
        return self.detected, 0.9, []

    def transcribe(self, waveform, language):
        self.asked.append(language)
        return self.heard


class TestWords:
    @pytest.fixture
    def score(self, monkeypatch):
        pytest.importorskip("jiwer")
        from esdcodec.evaluation import words

        def score(recogniser, text=None, language=None):
            monkeypatch.setattr(words, "Recogniser", lambda: recogniser)
            return words.load_words()(Pair(np.ones(2400, np.float32), np.ones(2400, np.float32), 24000, text, language))

        return score

    def test_the_language_is_that_of_the_recording(self, score):
        whisper = FakeWhisper("le chat")
        assert score(whisper, "le chat noir", "fr-FR")["word_errors"] == 1
        assert whisper.asked == ["fr"]

    def test_a_language_that_nobody_told_is_detected(self, score):
        whisper = FakeWhisper("le chat", detected="fr")
        score(whisper, "le chat")
        assert whisper.asked == ["fr"]

    def test_a_recogniser_of_english_hears_english(self, score):
        whisper = FakeWhisper("hello", languages=("en",))
        assert score(whisper, "Hello!")["word_errors"] == 0
        assert whisper.asked == ["en"]

    @pytest.mark.parametrize(("languages", "language"), [(("en",), "fr"), (("en", "fr"), "tlh")])
    def test_a_language_that_it_does_not_know_is_said(self, score, languages, language):
        with pytest.raises(NotScorable, match=rf"language is '{language}'.*ESDCODEC_ASR"):
            score(FakeWhisper("hello", languages), "bonjour", language)

    @pytest.mark.parametrize("text", ["", "...", " – "])
    def test_a_text_without_words_is_not_scored(self, score, text):
        with pytest.raises(NotScorable, match="no words"):
            score(FakeWhisper("hello", languages=("en",)), text)

    def test_a_language_without_spaces_has_letters_alone(self, score):
        scores = score(FakeWhisper("猫が 好き"), "猫が好き。", "ja")
        assert math.isnan(scores["word_errors"])
        assert (scores["letter_errors"], scores["letters"]) == (0, 4)

    def test_marks_on_letters_are_part_of_a_word(self):
        assert plain("हिन्दी, में!") == "हिन्दी में"
        assert plain("don’t") == "don't"
