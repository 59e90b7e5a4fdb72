"""Words, quality and voices of what was said, and how many sentences did not end."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...audio import Waveform, resample
from ..evaluate import Coding
from ..metrics import Scorer, load_metric, load_voice_encoder, metric_version
from ..pair import NotScorable, Pair
from ..reference import SAMPLE_RATE, content_hash, read_audio, text_hash
from ..store import Key, ScoreRow, ScoreStore
from ..summary import Estimate, FileScores, share
from .ladder import Spoken
from .sentences import ListedSentence

METRICS = ("words", "distillmos", "speaker")


class SpeechScorer:
    """Scores of spoken sentences.

    Args:
        metrics: some of `METRICS`.
        store: has the scores that were computed before, and takes new ones.
        language: of all sentences; None: as the recogniser finds it.

    Raises:
        MissingPackage: a metric's package is not installed.
    """

    def __init__(self, metrics: Sequence[str], store: ScoreStore, language: str | None = None) -> None:
        unknown = sorted(set(metrics) - set(METRICS))
        if unknown:
            raise ValueError(f"no metric of speech from text is called {', '.join(unknown)}: {', '.join(METRICS)}")
        self.store, self.language = store, language
        self.scorers: dict[str, Scorer] = {name: load_metric(name) for name in metrics if name != "speaker"}
        self.embed = load_voice_encoder() if "speaker" in metrics else None

    def __call__(self, spoken: Spoken) -> FileScores:
        waveform, problems = read_audio(spoken.file)
        coding = Coding(len(waveform) / SAMPLE_RATE, "", decode_seconds=spoken.seconds, problems=problems)
        found: dict[str, float] = {}
        notes: dict[str, str] = {}
        for metric in self.scorers:
            row = self._row(metric, spoken, waveform)
            found |= {name: np.nan if value is None else value for name, value in row.values.items()}
            if row.note is not None:
                notes[metric] = row.note
        return FileScores(spoken.sentence.name, spoken.system, found, coding, spoken.sentence.voice or "", notes)

    def _row(self, metric: str, spoken: Spoken, waveform: Waveform) -> ScoreRow:
        text = spoken.sentence.text
        content = text_hash(content_hash(spoken.file), text)
        key = Key(spoken.system, spoken.sentence.name, content, metric, metric_version(metric))
        if key not in self.store.rows:
            pair = Pair(waveform, waveform, SAMPLE_RATE, text, self.language)
            try:
                row = ScoreRow(key, spoken.system, dict(self.scorers[metric](pair)))
            except NotScorable as error:
                row = ScoreRow(key, spoken.system, {}, str(error))
            self.store.add([row])
        return self.store.rows[key]


# ---- voices ----------------------------------------------------------------------------------------------------------


@dataclass
class VoicePrints:
    """What each voice sounds like: the mean of its recordings, or else its prompt.

    Args:
        embed: a waveform ``[T]`` at 16 kHz as a vector of length 1.
    """

    embed: Callable[[Waveform], np.ndarray]
    recordings: dict[str, dict[str, np.ndarray]] = field(default_factory=lambda: defaultdict(dict))  # voice -> sentence
    prompts: dict[str, np.ndarray] = field(default_factory=dict)

    def add_recording(self, sentence: ListedSentence) -> None:
        assert sentence.recording is not None
        self.recordings[sentence.voice or ""][sentence.name] = self.of(read_audio(sentence.recording)[0])

    def add_prompt(self, sentence: ListedSentence, prompt: Waveform) -> None:
        self.prompts[sentence.voice or ""] = self.of(prompt)

    def of(self, waveform: Waveform) -> np.ndarray:
        return self.embed(resample(waveform, SAMPLE_RATE, 16000))

    def scores(self, spoken: Spoken) -> dict[str, float]:
        """Similarity to the right voice and to the others, and whether the right one is the nearest.

        The recording of the sentence itself is not compared with.
        """
        embedding = self.of(read_audio(spoken.file)[0])
        own = spoken.sentence.voice or ""
        found = {
            voice: float(embedding @ known)
            for voice in {*self.recordings, *self.prompts}
            if (known := self._print(voice, without=spoken.sentence.name)) is not None
        }
        if own not in found:
            return {}
        others = [similarity for voice, similarity in found.items() if voice != own]
        scores = {"speaker": found[own]}
        return scores | ({"others": float(np.mean(others)), "nearest": found[own] > max(others)} if others else {})

    def _print(self, voice: str, without: str) -> np.ndarray | None:
        known = [each for name, each in self.recordings.get(voice, {}).items() if name != without]
        if not known:
            return self.prompts.get(voice)
        mean: np.ndarray = np.mean(known, axis=0)
        return mean / np.linalg.norm(mean)


# ---- ends ------------------------------------------------------------------------------------------------------------


def missed_ends(spoken: Iterable[Spoken]) -> tuple[int, Estimate] | None:
    """How many sentences did not end by themselves, and their share; None where it is known of none."""
    known = [each.stop != "end" for each in spoken if each.stop is not None]
    return (sum(known), share(sum(known), len(known))) if known else None
