"""Turn the recorded speech in Debian's archive into Emilia-format shards: train, validation and a test set.

    python recipes/debian_speech/prepare.py data/debian_speech

needs `apt-get` (the packages are downloaded and unpacked below the output folder, nothing is installed), `dpkg-deb`
and `ffmpeg`. See README.md beside this file for what it writes and under which licences.
"""

import argparse
import gzip
import hashlib
import json
import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from esdcodec.audio import Waveform, read, resample, write
from esdcodec.dataset.make_shards import Utterance, write_shards

SAMPLE_RATE = 24000


@dataclass(frozen=True)
class Source:
    """A Debian package with speech in it."""

    package: str
    licence: str
    credit: str
    folder: str  # below the package's root; {language} folders or one speaker
    language: str | None = None  # None: the first folder below `folder` is the language


TRAIN = [
    Source(
        "asterisk-core-sounds-es-g722",
        "CC-BY-SA-3.0",
        "Allison Smith",
        "usr/share/asterisk/sounds/es_MX_f_Allison",
        "es",
    ),
    Source(
        "asterisk-core-sounds-fr-g722", "CC-BY-SA-3.0", "June Wallack", "usr/share/asterisk/sounds/fr_CA_f_June", "fr"
    ),
    Source("asterisk-core-sounds-it-g722", "CC-BY-3.0", "Carlo Flora", "usr/share/asterisk/sounds/it_IT_m_Carlo", "it"),
    Source(
        "asterisk-core-sounds-ru-g722", "CC-BY-3.0", "Maxim Topal", "usr/share/asterisk/sounds/ru_RU_f_IvrvoiceRU", "ru"
    ),
    Source("klettres-data", "GPL-2+", "the KLettres authors", "usr/share/klettres"),
    Source("ktuberling-data", "GPL-2+", "the KTuberling authors", "usr/share/ktuberling/sounds"),
]
TEST = Source(
    "asterisk-core-sounds-en-g722", "CC-BY-SA-3.0", "Allison Smith", "usr/share/asterisk/sounds/en_US_f_Allison", "en"
)
TEST_TEXTS = "asterisk-core-sounds-en"
TEST_FILES, TEST_SECONDS = 40, (2.5, 9.0)
VALIDATION_SHARE = 0.03
UTTERANCE_SECONDS = 8.0  # recordings of one speaker are joined until they are this long
PAUSE_SECONDS = 0.15
NOISE_FLOOR = 2e-4  # standard deviation


def unpack(package: str, folder: Path) -> Path:
    """Download a package, unpack it below `folder` and return its root."""
    root = folder / package
    if not root.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"{package}_*.deb"):
            old.unlink()
        subprocess.run(["apt-get", "download", package], cwd=folder, check=True)
        (archive,) = folder.glob(f"{package}_*.deb")
        partial = folder / f"{package}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        subprocess.run(["dpkg-deb", "-x", archive, partial], check=True)
        partial.rename(root)
        archive.unlink()
    return root


def read_g722(path: Path) -> Waveform:
    """A headerless G.722 file, 16 kHz, as ``[T]``."""
    command = ["ffmpeg", "-v", "error", "-f", "g722", "-i", str(path), "-f", "f32le", "-ac", "1", "-ar", "16000", "-"]
    return np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, dtype=np.float32)


def recordings(source: Source, root: Path) -> Iterator[tuple[str, Path, Waveform]]:
    """(speaker, path, waveform at 24 kHz) of every distinct recording of a source, sorted by speaker and path."""
    folder = root / source.folder
    seen = set()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".g722", ".ogg", ".wav")):
        digest = hashlib.sha256(path.read_bytes()).digest()
        if "silence" in path.parts or digest in seen:  # some languages share recordings
            continue
        seen.add(digest)
        relative = path.relative_to(folder)
        language = source.language or relative.parts[0]
        waveform = (
            resample(read_g722(path), 16000, SAMPLE_RATE) if path.suffix == ".g722" else read(path, SAMPLE_RATE)[0]
        )
        if np.abs(waveform).max(initial=0) > 0.01:
            yield f"{source.package.split('-')[0]}-{language}", path, waveform


def utterances(source: Source, root: Path) -> Iterator[Utterance]:
    """Recordings of one speaker joined, with short pauses, to utterances of about `UTTERANCE_SECONDS`.

    All get a noise floor of -74 dB: pauses, and what lies above 8 kHz where the recording ends there, would be digital
    silence, which any discriminator tells from what a network makes, and which rules a logarithmic distance.
    """
    random = np.random.default_rng(0)
    pause = np.zeros(int(PAUSE_SECONDS * SAMPLE_RATE), np.float32)
    parts: list[Waveform] = []
    current, count = "", 0

    def flush() -> Iterator[Utterance]:
        if parts:
            language = source.language or current.split("-", 1)[1]
            waveform = np.concatenate(parts)
            waveform = waveform + NOISE_FLOOR * random.standard_normal(len(waveform), np.float32)
            yield Utterance(f"{current}-{count:05d}".replace(".", "_"), waveform, SAMPLE_RATE, current, language)
            parts.clear()

    for speaker, _, waveform in recordings(source, root):
        if speaker != current or sum(map(len, parts)) >= UTTERANCE_SECONDS * SAMPLE_RATE:
            yield from flush()
            count = count + 1 if speaker == current else 0
            current = speaker
        parts += [waveform, pause]
    yield from flush()


def test_set(root: Path, texts: dict[str, str]) -> list[Utterance]:
    """The fixed rule: recordings of 2.5 to 9 s with a text, sorted by path, every n-th so that 40 are left."""
    low, high = (seconds * SAMPLE_RATE for seconds in TEST_SECONDS)
    candidates = []
    for speaker, path, waveform in recordings(TEST, root):
        text = texts.get(str(path.relative_to(root / TEST.folder).with_suffix("")), "")
        if low <= len(waveform) <= high and text and not text.startswith("["):
            candidates.append(Utterance(f"en-{path.stem}", waveform, SAMPLE_RATE, speaker, "en", text))
    return [candidates[i * len(candidates) // TEST_FILES] for i in range(TEST_FILES)]


def read_texts(path: Path) -> dict[str, str]:
    """The package's list of what is said: lines of `name: text`, a semicolon before comments."""
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    pairs = (line.split(":", 1) for line in lines if ":" in line and not line.startswith(";"))
    return {name.strip(): text.strip() for name, text in pairs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    output: Path = parser.parse_args().output
    packages = output / "packages"

    train: list[Utterance] = []
    for source in TRAIN:
        train += utterances(source, unpack(source.package, packages))
    random.Random(0).shuffle(train)
    n_validation = round(VALIDATION_SHARE * len(train))
    texts = read_texts(unpack(TEST_TEXTS, packages) / f"usr/share/doc/{TEST_TEXTS}/core-sounds-en.txt.gz")
    test = test_set(unpack(TEST.package, packages), texts)
    splits = {"validation": train[:n_validation], "train": train[n_validation:], "test": test}

    manifest: dict[str, object] = {}
    for name, items in splits.items():
        write_shards(items, output, name=name, per_shard=50, existing="overwrite")
        hours = sum(len(u.waveform) for u in items) / SAMPLE_RATE / 3600
        manifest[name] = {
            "utterances": len(items),
            "hours": round(hours, 3),
            "speakers": len({u.speaker for u in items}),
        }
        print(f"{name}: {len(items)} utterances, {60 * hours:.1f} minutes")
    manifest["sources"] = [
        {
            "package": s.package,
            "licence": s.licence,
            "credit": s.credit,
            "used_for": "test" if s is TEST else "train, validation",
        }
        for s in [*TRAIN, TEST]
    ]
    (output / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    (output / "test").mkdir(exist_ok=True)
    for utterance in test:
        write(output / "test" / f"{utterance.key}.wav", utterance.waveform, SAMPLE_RATE)
        (output / "test" / f"{utterance.key}.txt").write_text(utterance.text + "\n")


if __name__ == "__main__":
    main()
