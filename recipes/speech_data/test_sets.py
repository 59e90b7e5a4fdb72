"""The test sets, by rule: folders of `NAME.wav` with `NAME.txt`, as `esdcodec evaluate` reads them.

| folder | what |
| --- | --- |
| `test/unseen` | the synthetic voices that aren't trained on, 16 sentences each |
| `test/real` | recorded voices that aren't trained on, up to 12 recordings each; English ones with text |
| `test/quiet` | both at -40 dBFS |
| `test/telephone` | both through 8 kHz and 300 to 3,400 Hz |
| `test/known` | 40 recordings of Asterisk's English prompts, as every model so far was scored on |
"""

import gzip
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import sources
import voices
from packages import debian
from sources import SAMPLE_RATE, Source
from synthesis import Synthesiser

from esdcodec.audio import Waveform, read, write
from esdcodec.dataset.make_shards import Utterance

PER_SYNTHETIC_VOICE, PER_REAL_VOICE = 16, 12
SECONDS = (2.5, 9.0)  # of a recording; longer ones are cut
PIECE_SECONDS = 6.0
QUIET_DBFS = -40.0
PROMPTS = Source(
    "asterisk-core-sounds-en-g722",
    "af_allison",
    "en",
    "CC-BY-SA-3.0",
    r"Files: \*\s+Copyright: 2003-2010, Allison Smith",
    "Allison Smith",
    "*.g722",
)
PROMPT_TEXTS = "asterisk-core-sounds-en"
N_PROMPTS = 40


def unseen(synthesiser: Synthesiser) -> Iterator[Utterance]:
    for voice in voices.TEST:
        yield from synthesiser.test(voice, PER_SYNTHETIC_VOICE)


def real(packages: Path) -> Iterator[Utterance]:
    """Of each source every n-th piece, in the order of paths, so that at most `PER_REAL_VOICE` are left."""
    for source in sources.TEST:
        pieces = [piece for path, waveform in sources.recordings(source, packages) for piece in _pieces(path, waveform)]
        count = min(PER_REAL_VOICE, len(pieces))
        for i in range(count):
            name, waveform = pieces[i * len(pieces) // count]
            yield Utterance(f"{source.speaker}_{i:02d}_{name}", waveform, SAMPLE_RATE, source.speaker, source.language)


def _pieces(path: Path, waveform: Waveform) -> list[tuple[str, Waveform]]:
    """A recording, or what a long one is cut into, where it's long enough."""
    low, high = (round(seconds * SAMPLE_RATE) for seconds in SECONDS)
    if len(waveform) <= high:
        return [(path.stem, waveform)] if len(waveform) >= low else []
    size = round(PIECE_SECONDS * SAMPLE_RATE)
    return [(f"{path.stem}-{i}", waveform[i * size : (i + 1) * size]) for i in range(len(waveform) // size)]


def quiet(waveform: Waveform) -> Waveform:
    return waveform * np.float32(10 ** (QUIET_DBFS / 20) / np.sqrt(np.mean(waveform**2)))


def known(packages: Path) -> Iterator[Utterance]:
    """Recordings of 2.5 to 9 s with a text, sorted by path, every n-th so that 40 are left."""
    low, high = (seconds * SAMPLE_RATE for seconds in SECONDS)
    folder = debian(PROMPTS.package, packages) / "usr/share/asterisk/sounds/en_US_f_Allison"
    texts = _texts(debian(PROMPT_TEXTS, packages) / f"usr/share/doc/{PROMPT_TEXTS}/core-sounds-en.txt.gz")
    candidates = []
    for path, waveform in sources.recordings(PROMPTS, packages):
        text = texts.get(str(path.relative_to(folder).with_suffix("")), "")
        if low <= len(waveform) <= high and text and not text.startswith("["):
            candidates.append(Utterance(f"en-{path.stem}", waveform, SAMPLE_RATE, PROMPTS.speaker, "en", text))
    for i in range(N_PROMPTS):
        yield candidates[i * len(candidates) // N_PROMPTS]


def _texts(path: Path) -> dict[str, str]:
    """The package's list of what is said: lines of `name: text`, a semicolon before comments."""
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    pairs = (line.split(":", 1) for line in lines if ":" in line and not line.startswith(";"))
    return {name.strip(): text.strip() for name, text in pairs}


def write_folder(utterances: Iterable[Utterance], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for utterance in utterances:
        write(folder / f"{utterance.key}.wav", utterance.waveform, utterance.sample_rate)
        if utterance.text:
            (folder / f"{utterance.key}.txt").write_text(utterance.text + "\n")


def write_changed(originals: Iterable[Path], change: Callable[[Waveform], Waveform], folder: Path) -> None:
    """The same recordings and texts, changed."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in originals:
        waveform, rate = read(path)
        write(folder / path.name, change(waveform), rate)
        text = path.with_suffix(".txt")
        if text.exists():
            (folder / text.name).write_text(text.read_text())
