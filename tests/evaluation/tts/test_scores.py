"""What voices are compared with, and how ends are counted."""

import numpy as np
import pytest

from esdcodec.evaluation.summary import share
from esdcodec.evaluation.tts.ladder import Spoken
from esdcodec.evaluation.tts.scores import VoicePrints, missed_ends
from esdcodec.evaluation.tts.sentences import ListedSentence
from tests.conftest import write_speech


def spectrum(waveform: np.ndarray) -> np.ndarray:
    found = np.abs(np.fft.rfft(waveform, 4000))
    return found / np.linalg.norm(found)


@pytest.fixture
def said(tmp_path):
    def spoken(name: str, voice: str, seed: int) -> Spoken:
        file = write_speech(tmp_path / f"{name}.wav", 0.2, seed=seed)
        return Spoken(ListedSentence(name, "Words.", voice, None, file), "other", file)

    return spoken


class TestVoicePrints:
    def test_the_right_voice_is_compared_with_the_others(self, said):
        prints = VoicePrints(spectrum)
        every = [said(f"{voice}{i}", voice, seed) for seed, voice in enumerate(("anna", "ben")) for i in range(2)]
        for each in every:
            prints.add_recording(each.sentence)
        scores = prints.scores(every[0])
        assert scores["speaker"] == pytest.approx(1)
        assert scores["others"] < 0.9
        assert scores["nearest"] == 1
        stranger = Spoken(every[0].sentence, "other", every[3].file)
        assert prints.scores(stranger)["nearest"] == 0

    def test_a_sentence_is_not_compared_with_its_own_recording(self, said):
        prints = VoicePrints(spectrum)
        only = said("a", "anna", 0)
        prints.add_recording(only.sentence)
        assert prints.scores(only) == {}  # there is nothing else of her
        prints.add_prompt(only.sentence, np.ones(2400, np.float32))
        assert prints.scores(only)["speaker"] < 0.9


class TestMissedEnds:
    def test_all_that_did_not_end_are_counted(self, said):
        each = said("a", "anna", 0)
        stops = ["end"] * 7 + ["length", "loop", None]  # of the last it is not known
        count, rate = missed_ends(Spoken(each.sentence, "text", each.file, stop) for stop in stops)
        assert (count, rate.n_files) == (2, 9)
        assert rate.low < 2 / 9 < rate.high

    def test_of_files_alone_nothing_is_known(self, said):
        assert missed_ends([said("a", "anna", 0)]) is None

    def test_none_of_many_leaves_an_interval(self):
        assert share(0, 300).low == pytest.approx(0)
        assert share(0, 300).high == pytest.approx(0.01264, abs=1e-5)
        assert share(0, 30).high > share(0, 300).high
        assert share(300, 300).low == pytest.approx(1 - share(0, 300).high)
