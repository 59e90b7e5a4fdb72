"""Write speech as tar shards in the Emilia format: for each utterance `KEY.flac` and `KEY.json`.

    python -m esdcodec.dataset.make_shards FOLDER OUTPUT [--language en] [--sample-rate 24000]

takes every audio file below FOLDER, through links too; a file `NAME.txt` beside it is its text, the first folder below
FOLDER its speaker. What is left out is counted; the exit code is 1 if a file that should be audio cannot be read whole.
"""

import argparse
import io
import json
import os
import random
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
import webdataset

from ..audio import FolderContent, Waveform, audio_files, is_failure, opened, resample
from .scan import scan_shard
from .shards import free_key


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


class ShardsExist(FileExistsError):
    """The folder has shards, and no option says what to do with them."""


Existing = Literal["refuse", "append", "overwrite"]


def write_shards(
    utterances: Iterable[Utterance],
    folder: Path,
    *,
    name: str = "shard",
    per_shard: int = 200,
    existing: Existing = "refuse",
) -> list[Path]:
    """Write `folder/NAME-000000.tar` and on, and `folder/NAME.list` which names them.

    The shards appear when all are written; until then, and if that fails, the folder stays as it was.

    Args:
        existing: shards of this name that are there make it fail, are numbered on from, or are replaced.

    Returns:
        the new shards.

    Raises:
        ShardsExist: there are shards, and `existing` is "refuse".
        ValueError: two utterances have one key, or there is no utterance.
    """
    folder.mkdir(parents=True, exist_ok=True)
    old = sorted(folder.glob(f"{name}-[0-9]*.tar"))
    if old and existing == "refuse":
        raise ShardsExist(f"{folder} has shards already ({old[0].name}, …): append to them, or overwrite them")
    keys: set[str] = set()
    for shard in old if existing == "append" else ():
        keys.update(scan_shard(shard).keys)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}-", suffix=".part") as partial:
        written = _write(utterances, Path(partial), per_shard, keys)
        if not written:
            raise ValueError(f"there is no utterance to write into {folder}")
        if existing == "overwrite":
            shards = [_publish(shard, folder / f"{name}-{i:06d}.tar") for i, shard in enumerate(written)]
            for shard in old:
                if shard not in shards:
                    shard.unlink(missing_ok=True)
        else:
            shards = _publish_after(written, old, folder, name)
        listed = Path(partial) / "list"
        lines = (f"{shard.resolve()}\n" for shard in sorted(folder.glob(f"{name}-[0-9]*.tar")))
        listed.write_text("".join(lines), encoding="utf-8")
        _publish(listed, folder / f"{name}.list")
    return shards


def _write(utterances: Iterable[Utterance], folder: Path, per_shard: int, keys: set[str]) -> list[Path]:
    n = 0
    with webdataset.ShardWriter(str(folder / "%06d.tar"), maxcount=per_shard, verbose=0) as writer:
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
            n += 1
    return sorted(folder.glob("*.tar")) if n else []


def _publish(file: Path, target: Path) -> Path:
    with open(file, "rb") as stream:
        os.fsync(stream.fileno())
    os.replace(file, target)
    return target


def _publish_after(written: list[Path], old: list[Path], folder: Path, name: str) -> list[Path]:
    """Under the first numbers after those of `old` that nobody has taken meanwhile."""
    number = max((int(shard.stem.rpartition("-")[2]) for shard in old), default=-1)
    shards: list[Path] = []
    for shard in written:
        while True:
            number += 1
            target = folder / f"{name}-{number:06d}.tar"
            try:
                target.open("xb").close()
            except FileExistsError:
                continue
            break
        shards.append(_publish(shard, target))
    return shards


def find_audio(folder: Path, seed: int | None = None) -> FolderContent:
    """Audio files below `folder`, sorted, or in the random order of `seed`; transcripts do not count as left out."""
    content = audio_files(folder)
    stems = {file.with_suffix("") for file in content.files}
    used = [path for path in content.left_out if path.suffix == ".txt" and path.with_suffix("") in stems]
    if seed is not None:
        random.Random(seed).shuffle(content.files)
    return FolderContent(content.files, {path: reason for path, reason in content.left_out.items() if path not in used})


def folder_utterances(
    folder: Path, files: Iterable[Path], *, language: str, sample_rate: int, problems: list[str] | None = None
) -> Iterator[Utterance]:
    """Those of `files`, below `folder`, that can be read.

    What cannot be read, or not whole, is added to `problems` as a line with its name; without `problems` it is printed.
    """
    files = list(files)
    keys = _keys(folder, files)
    for path in files:
        relative = path.relative_to(folder)
        found: list[str] = []
        waveform = text = None
        try:
            waveform = _waveform(path, sample_rate, found)
            text = _text(path.with_suffix(".txt"))
        except Exception as error:  # one file's failure is that file's
            found.append(str(error).removeprefix(f"{path}: ") or type(error).__name__)
        for problem in found:
            line = f"{path}: {problem}" if waveform is not None else f"skipped: {path}: {problem}"
            print(line) if problems is None else problems.append(line)
        if waveform is not None:
            yield Utterance(
                key=keys[path],
                waveform=waveform,
                sample_rate=sample_rate,
                speaker=relative.parts[0] if len(relative.parts) > 1 else "unknown",
                language=language,
                text=text or "",
            )


def _keys(folder: Path, files: list[Path]) -> dict[Path, str]:
    """A name for each that a tar can hold: a dot would end it. Where two would have one name, they are numbered."""
    keys: dict[Path, str] = {}
    taken: set[str] = set()
    for path in sorted(files):
        keys[path] = free_key(re.sub(r"[^\w-]+", "_", str(path.relative_to(folder))), taken)
    return keys


def _waveform(path: Path, sample_rate: int, problems: list[str]) -> Waveform:
    with opened(path, problems=problems) as (rate, blocks):
        waveform = np.concatenate(list(blocks))
    if not np.isfinite(waveform).all():
        raise ValueError("contains NaN or infinite samples")
    return resample(waveform, rate, sample_rate)


def _text(path: Path) -> str:
    if not path.is_file():
        return ""
    try:
        return path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"its text {path.name} is not UTF-8 and is left out") from error


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--language", default="unknown", help="language code to write beside each utterance")
    parser.add_argument("--sample-rate", type=int, default=24000, help="Hz (default: %(default)s)")
    parser.add_argument("--per-shard", type=int, default=200, help="utterances in a shard (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the order in which utterances are spread over shards")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--append", action="store_true", help="number on from the shards that are in OUTPUT")
    group.add_argument("--overwrite", action="store_true", help="replace the shards that are in OUTPUT")
    args = parser.parse_args()
    content = find_audio(args.folder, args.seed)
    problems = [f"skipped: {path}: {reason}" for path, reason in content.left_out.items() if is_failure(path, reason)]
    for line in content.report():
        print(f"left out   {line}", file=sys.stderr)
    if not content.files:
        parser.error(f"no audio below {args.folder}")
    utterances = folder_utterances(
        args.folder, content.files, language=args.language, sample_rate=args.sample_rate, problems=problems
    )
    existing: Existing = "append" if args.append else "overwrite" if args.overwrite else "refuse"
    code = 0
    try:
        refused = len(problems)  # they were in no list of files
        shards = write_shards(utterances, args.output, per_shard=args.per_shard, existing=existing)
        read = len(content.files) - sum(problem.startswith("skipped") for problem in problems[refused:])
        print(f"{read} files, {len(shards)} shards, listed in {args.output / 'shard.list'}")
    except ShardsExist as error:
        parser.error(f"{error} (--append, --overwrite)")
    except ValueError as error:
        print(f"failed     {error}", file=sys.stderr)
        code = 1
    for problem in problems:
        print(f"failed     {problem}", file=sys.stderr)
    return 1 if problems else code


if __name__ == "__main__":
    sys.exit(main())
