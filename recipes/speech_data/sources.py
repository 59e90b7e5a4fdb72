"""Recorded speech in Debian's archive: which may be trained on, and which may only test.

Trained on is what asks for no more than that its authors be named, so that weights can be given to everybody. Sources
under GPL or ShareAlike terms test only. A source names a phrase of its licence file: were that file another one some
day, the recipe stops.
"""

import hashlib
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from packages import debian

from esdcodec.audio import Waveform, resample
from esdcodec.dataset.make_shards import Utterance

SAMPLE_RATE = 24000
UTTERANCE_SECONDS, PAUSE_SECONDS = 8.0, 0.15  # short recordings are joined to utterances
HEADERLESS = {".gsm": ("GSM610", 8000), ".alaw": ("ALAW", 8000), ".raw": ("PCM_16", 8000)}
SILENT = 0.01  # peak of a recording that has nothing in it
FILES_AT_ONCE = 50  # that one ffmpeg decodes


@dataclass(frozen=True)
class Source:
    """Recordings of one speaker in a Debian package."""

    package: str
    speaker: str  # its second letter is the sex, as in the synthetic voices' names
    language: str
    licence: str
    licence_phrase: str  # a regular expression that the licence file must match, over several lines
    credit: str
    pattern: str  # of the paths below the package's root, for `Path.rglob`
    only: str = ""  # regular expression that must match in the path
    headerless_rate: int | None = None  # where it isn't 8 kHz

    def paths(self, root: Path) -> list[Path]:
        """Its recordings, sorted, without those that another one repeats."""
        seen: set[bytes] = set()
        paths = []
        for path in sorted(path for path in root.rglob(self.pattern) if path.is_file()):
            digest = hashlib.sha256(path.read_bytes()).digest()
            if re.search(self.only, str(path.relative_to(root))) and "silence" not in path.parts and digest not in seen:
                seen.add(digest)
                paths.append(path)
        return paths


CARLO = r"Files: it-\*\s+Copyright: 2012 Carlo Flora.*?License: CC-BY-3.0"
MAXIM = r"Files: ru-\*\s+Copyright: 2010, Maxim.*?License: CC-BY-3.0"
JUNE = r"Files: fr-\*\s+Copyright: 2006-2008, June Wallack\s+License: CC-BY-SA-3.0"
ARMELLE = r"Armelle Desjardins.*?Redistribution and use, with or without modification, are permitted"
CHU_LO = r"Files: \*/5\.ogg\s+Copyright:.*?License: CC-BY-3"
CMU = r"Copyright: 1995-2014 Carnegie Mellon University.*?License: BSD-2"
ROWE = r"raw/\*.*?Copyright 2007-2019 David Rowe\s+License: LGPL-2.1"
GPL = r"GNU General Public License"
FISH = "GPL-2, the Fish Fillets authors"

TRAIN = (
    Source("asterisk-core-sounds-it-g722", "im_carlo", "it", "CC-BY-3.0", CARLO, "Carlo Flora", "*.g722"),
    Source("asterisk-core-sounds-ru-g722", "rf_ivrvoice", "ru", "CC-BY-3.0", MAXIM, "Maxim Topal", "*.g722"),
    Source("asterisk-prompt-fr-armelle", "ff_armelle", "fr", "BSD-like", ARMELLE, "Armelle Desjardins", "*.gsm"),
    Source("gcin-voice", "zf_chulo", "zh", "CC-BY-3.0", CHU_LO, "Chu Lo and ChionMeilin", "5.ogg"),
)  # fmt: skip
TEST = (
    Source("pocketsphinx-testdata", "xm_librivox", "en", "BSD-2", CMU, "a LibriVox reader, CMU", "*.wav", "librivox"),
    Source("pocketsphinx-testdata", "xm_cmu", "en", "BSD-2", CMU, "CMU", "*.raw", "test/data/\\w+.raw", 16000),
    Source("codec2-examples", "xm_ve9qrp", "en", "LGPL-2.1", ROWE, "David Rowe", "ve9qrp.raw"),
    Source("codec2-examples", "xm_hams", "en", "LGPL-2.1", ROWE, "David Rowe", "*.raw", "cq_ref|g3plx|kristoff|vk5qi"),
    Source("codec2-examples", "xm_rowe", "en", "LGPL-2.1", ROWE, "David Rowe", "*.raw", "/(hts1|mmt1)[.]"),
    Source("codec2-examples", "xf_rowe", "en", "LGPL-2.1", ROWE, "David Rowe", "*", "/(hts2.raw|speech_orig_16k.wav)$"),
    Source("fillets-ng-data-cs", "cm_big", "cs", "GPL-2", GPL, FISH, "*.ogg", "-v-"),
    Source("fillets-ng-data-cs", "cf_small", "cs", "GPL-2", GPL, FISH, "*.ogg", "-m-"),
    Source("fillets-ng-data-nl", "nm_big", "nl", "GPL-2", GPL, FISH, "*.ogg", "-v-"),
    Source("fillets-ng-data-nl", "nf_small", "nl", "GPL-2", GPL, FISH, "*.ogg", "-m-"),
    Source("asterisk-core-sounds-fr-g722", "ff_june", "fr", "CC-BY-SA-3.0", JUNE, "June Wallack", "*.g722"),
    Source("asterisk-prompt-es-co", "ef_july", "es", "GPL-2", GPL, "July E. Jiménez", "*.gsm"),
)  # fmt: skip


def check_licence(source: Source, root: Path) -> str:
    """SHA-256 of the source's licence file, which says what is expected of it."""
    path = root / "usr/share/doc" / source.package / "copyright"
    content = path.read_bytes()
    if not re.search(source.licence_phrase, content.decode("utf-8", "replace"), re.DOTALL):
        raise ValueError(f"{path} doesn't say that {source.credit}'s recordings are under {source.licence}: read it")
    return hashlib.sha256(content).hexdigest()


def recordings(source: Source, packages: Path) -> Iterator[tuple[Path, Waveform]]:
    """Path and waveform ``[T]`` at 24 kHz of each recording of a source that isn't silent."""
    paths = source.paths(debian(source.package, packages))
    for start in range(0, len(paths), FILES_AT_ONCE):
        some = paths[start : start + FILES_AT_ONCE]
        waveforms = _read_g722(some) if source.pattern == "*.g722" else [_read(path, source) for path in some]
        for path, (waveform, rate) in zip(some, waveforms):
            if np.abs(waveform).max(initial=0) > SILENT:
                yield path, resample(waveform, rate, SAMPLE_RATE)


def utterances(source: Source, packages: Path) -> Iterator[Utterance]:
    """Recordings joined, with short pauses, to utterances of about `UTTERANCE_SECONDS`."""
    pause = np.zeros(int(PAUSE_SECONDS * SAMPLE_RATE), np.float32)
    parts: list[Waveform] = []
    count = 0

    def joined() -> Utterance:
        key = f"{source.speaker}_{count:04d}"
        return Utterance(key, np.concatenate(parts), SAMPLE_RATE, source.speaker, source.language)

    for _, waveform in recordings(source, packages):
        parts += [waveform, pause]
        if sum(map(len, parts)) >= UTTERANCE_SECONDS * SAMPLE_RATE:
            yield joined()
            parts.clear()
            count += 1
    if parts:
        yield joined()


def _read(path: Path, source: Source) -> tuple[Waveform, int]:
    if path.suffix not in HEADERLESS:
        return _samples(path)
    subtype, rate = HEADERLESS[path.suffix]
    rate = source.headerless_rate or rate
    return _samples(path, samplerate=rate, channels=1, format="RAW", subtype=subtype)


def _samples(path: Path, **form: Any) -> tuple[Waveform, int]:
    """As `esdcodec.audio.read`, which refuses files without samples: some packages have such."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True, **form)
    return samples.mean(1), rate


def _read_g722(paths: list[Path]) -> list[tuple[Waveform, int]]:
    """Headerless G.722 files, 16 kHz: all by one process, since starting it is what takes time."""
    with tempfile.TemporaryDirectory() as folder:
        written = [Path(folder) / f"{i}.wav" for i in range(len(paths))]
        inputs = [word for path in paths for word in ("-f", "g722", "-i", path)]
        outputs = [word for i, path in enumerate(written) for word in ("-map", str(i), "-ac", "1", path)]
        subprocess.run(["ffmpeg", "-v", "error", *inputs, *outputs], check=True)
        return [_samples(path) for path in written]
