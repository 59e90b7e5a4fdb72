"""Write speech as tar shards in the Emilia format: for each utterance `KEY.flac` and `KEY.json`.

    python -m esdcodec.dataset.make_shards FOLDER OUTPUT [--language en] [--sample-rate 24000]

takes every audio file below FOLDER; a file `NAME.txt` beside it is its text, the first folder below FOLDER its speaker.
"""

import argparse
import io
import json
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import soundfile
import webdataset

from ..audio import AudioFileError, Waveform, audio_files, read


@dataclass(frozen=True)
class Utterance:
    """One recording and what is known of it."""

    key: str  # unique in the corpus
    waveform: Waveform  # [T]
    sample_rate: int
    speaker: str
    language: str
    text: str = ""
    dnsmos: float | None = None


def write_shards(
    utterances: Iterable[Utterance], folder: Path, *, name: str = "shard", per_shard: int = 200
) -> list[Path]:
    """Write `folder/NAME-000000.tar` and on, and `folder/NAME.list` which names them; returns the shards."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{name}-[0-9]*.tar"):
        old.unlink()
    with webdataset.ShardWriter(str(folder / f"{name}-%06d.tar"), maxcount=per_shard, verbose=0) as writer:
        keys: set[str] = set()
        for utterance in utterances:
            if utterance.key in keys:
                raise ValueError(f"two utterances have the key {utterance.key!r}: rename one of their files")
            keys.add(utterance.key)
            audio = io.BytesIO()
            soundfile.write(audio, utterance.waveform, utterance.sample_rate, format="FLAC", subtype="PCM_16")
            metadata = {
                "id": utterance.key,
                "text": utterance.text,
                "duration": round(len(utterance.waveform) / utterance.sample_rate, 3),
                "speaker": utterance.speaker,
                "language": utterance.language,
                "dnsmos": utterance.dnsmos,
            }
            encoded = json.dumps(metadata, ensure_ascii=False).encode()
            writer.write({"__key__": utterance.key, "flac": audio.getvalue(), "json": encoded})
    shards = sorted(folder.glob(f"{name}-[0-9]*.tar"))
    (folder / f"{name}.list").write_text("".join(f"{shard.resolve()}\n" for shard in shards))
    return shards


def find_audio(folder: Path, seed: int | None = None) -> list[Path]:
    """Audio files below `folder`, sorted, or in the random order of `seed`."""
    files = audio_files(folder).files
    if seed is not None:
        random.Random(seed).shuffle(files)
    return files


def folder_utterances(folder: Path, files: Iterable[Path], *, language: str, sample_rate: int) -> Iterator[Utterance]:
    """Those of `files`, below `folder`, that can be read; the others are said and skipped."""
    for path in files:
        relative = path.relative_to(folder)
        text = path.with_suffix(".txt")
        try:
            waveform, _ = read(path, sample_rate)
        except AudioFileError as error:
            print(f"skipped: {error}")
            continue
        yield Utterance(
            key=re.sub(r"[^\w-]+", "_", str(relative)),  # a dot would end the key inside the tar
            waveform=waveform,
            sample_rate=sample_rate,
            speaker=relative.parts[0] if len(relative.parts) > 1 else "unknown",
            language=language,
            text=text.read_text(encoding="utf-8").strip() if text.exists() else "",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--language", default="unknown", help="language code to write beside each utterance")
    parser.add_argument("--sample-rate", type=int, default=24000)
    parser.add_argument("--per-shard", type=int, default=200, help="utterances in a shard (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the order in which utterances are spread over shards")
    args = parser.parse_args()
    files = find_audio(args.folder, args.seed)
    if not files:
        parser.error(f"no audio below {args.folder}")
    utterances = folder_utterances(args.folder, files, language=args.language, sample_rate=args.sample_rate)
    shards = write_shards(utterances, args.output, per_shard=args.per_shard)
    print(f"{len(files)} files, {len(shards)} shards, listed in {args.output / 'shard.list'}")


if __name__ == "__main__":
    main()
