"""All sentences of a list, as a model and other systems say them, and the table of their scores."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...audio import EXTENSIONS
from ..reference import read_audio
from ..report import plain_summary, table, write_csv
from ..summary import Estimate, FileScores, summarise
from .ladder import Ladder, Spoken
from .scores import SpeechScorer, VoicePrints, missed_ends
from .sentences import ListedSentence


@dataclass
class SpeechReport:
    """The scores of spoken sentences."""

    results: list[FileScores]
    ends: dict[str, tuple[int, Estimate]]  # system -> how many sentences did not end, and their share
    failures: list[str] = field(default_factory=list)  # what could not be said or read, with the reason

    def text(self) -> str:
        """The table with 95 % intervals, and the ends."""
        parts = [table(summarise(self.results), intervals=True)] * bool(self.results)
        parts += [
            f"missed ends of {system}: {count} of {rate.n_files} sentences, "
            f"{100 * rate.value:.1f} % ({100 * rate.low:.1f} to {100 * rate.high:.1f} %)"
            for system, (count, rate) in self.ends.items()
        ]
        return "\n\n".join(parts)

    def write(self, folder: Path) -> None:
        """Write `scores.csv`, `summary.md` and `summary.json`; intervals are of 95 %."""
        write_csv(self.results, folder / "scores.csv")
        (folder / "summary.md").write_text(self.text() + "\n", encoding="utf-8")
        systems: dict[str, dict[str, Any]] = plain_summary(summarise(self.results))
        for system, (_, rate) in self.ends.items():
            systems.setdefault(system, {})["missed_ends"] = vars(rate)
        (folder / "summary.json").write_text(json.dumps({"systems": systems}, indent=1), encoding="utf-8")


def evaluate_speech(
    sentences: Sequence[ListedSentence], scorer: SpeechScorer, ladder: Ladder | None, folders: Mapping[str, Path]
) -> SpeechReport:
    """Let a model say the sentences, and score this and what others said.

    Args:
        ladder: of the model; None: only others are scored.
        folders: name of a system -> folder of its files, called as the sentences.
    """
    failures: list[str] = []
    prints = None if scorer.embed is None else voice_prints(sentences, scorer, ladder)
    spoken, results = [], []
    for each in _all_spoken(sentences, ladder, folders, failures):
        spoken.append(each)
        try:
            found = scorer(each)
        except (OSError, ValueError) as error:
            failures.append(f"{each.system} on {each.sentence.name}: {error}")
            continue
        results.append(found)
        if prints is not None:
            found.scores.update(prints.scores(each))
    return SpeechReport(results, _ends(spoken), failures)


def voice_prints(sentences: Sequence[ListedSentence], scorer: SpeechScorer, ladder: Ladder | None) -> VoicePrints:
    """What the voices of the list sound like."""
    assert scorer.embed is not None
    prints = VoicePrints(scorer.embed)
    for sentence in sentences:
        if sentence.recording is not None:
            prints.add_recording(sentence)
        if (sentence.voice or "") in prints.prompts:
            continue
        if sentence.voice is not None and sentence.voice_text is not None:
            prints.add_prompt(sentence, read_audio(Path(sentence.voice))[0])
        elif ladder is not None:
            with suppress(OSError, ValueError):  # no such voice: that is told where the sentence is said
                if (prompt := ladder.prompt(sentence)) is not None:
                    prints.add_prompt(sentence, prompt)
    return prints


def _all_spoken(
    sentences: Sequence[ListedSentence], ladder: Ladder | None, folders: Mapping[str, Path], failures: list[str]
) -> Iterator[Spoken]:
    """System after system within a sentence; what fails is left out and named."""
    for sentence in sentences:
        if ladder is not None:
            try:
                yield from ladder.rungs(sentence)
            except (OSError, ValueError) as error:
                failures.append(f"{sentence.name}: {error}")
        elif sentence.recording is not None:
            yield Spoken.original(sentence)
        for system, folder in folders.items():
            files = sorted(path for path in folder.glob(f"{sentence.name}.*") if path.suffix.lower() in EXTENSIONS)
            if files:
                yield Spoken(sentence, system, files[0])
            else:
                failures.append(f"{system} on {sentence.name}: there is no {folder / sentence.name}.wav")


def _ends(spoken: Sequence[Spoken]) -> dict[str, tuple[int, Estimate]]:
    systems = dict.fromkeys(each.system for each in spoken)
    found = {system: missed_ends(each for each in spoken if each.system == system) for system in systems}
    return {system: ends for system, ends in found.items() if ends is not None}
