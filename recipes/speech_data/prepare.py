"""Speech that a model may learn from and still be given to everybody, and the test sets: from packages alone.

    python recipes/speech_data/prepare.py data/speech --shards 100 --jobs 2

See README.md beside this file for what it writes, from what, and under which licences. Needs `apt-get`, `dpkg-deb`,
`npm`, `ffmpeg` and `pip install "esdcodec[train]" kokoro-onnx onnx`. Stopped, it goes on where it was.
"""

import argparse
import json
import multiprocessing
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import augment
import sources
import synthesis
import test_sets
import voices
from packages import debian

from esdcodec.dataset.make_shards import Utterance, write_shards

VALIDATION = 40  # one synthetic shard in so many


def write_shard(utterances: Iterable[Utterance], shard: Path) -> None:
    """Write one shard, whole or not at all."""
    with tempfile.TemporaryDirectory(dir=shard.parent, prefix=f"{shard.stem}-") as folder:
        (written,) = write_shards(utterances, Path(folder), name="shard", per_shard=10**6)
        written.rename(shard)


# ---- synthetic speech ------------------------------------------------------------------------------------------------


@cache
def synthesiser(packages: Path) -> synthesis.Synthesiser:
    return synthesis.Synthesiser(packages)


def synthesise(packages: Path, shard: Path, number: int) -> str:
    write_shard(synthesiser(packages).shard(number), shard)
    return f"wrote {shard}"


def make_unseen(packages: Path, folder: Path) -> str:
    _once(folder, lambda partial: test_sets.write_folder(test_sets.unseen(synthesiser(packages)), partial))
    return f"wrote {folder}"


def run_synthesis(output: Path, n_shards: int, jobs: int) -> None:
    """The unseen test set, then the shards that are missing, in `jobs` processes."""
    packages = output / "packages"
    synthesis.fetch(packages)
    tasks: list[tuple[Callable[..., str], tuple[Any, ...]]] = []
    if not (output / "test/unseen").exists():
        tasks.append((make_unseen, (packages, output / "test/unseen")))
    for number in range(n_shards):
        shard = output / f"{'validation' if number % VALIDATION == 1 else 'train'}-kokoro-{number:04d}.tar"
        if not shard.exists():
            tasks.append((synthesise, (packages, shard, number)))
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for result in [pool.apply_async(*task) for task in tasks]:
            print(result.get(), flush=True)


# ---- recordings ------------------------------------------------------------------------------------------------------


def run_recordings(output: Path) -> None:
    """One shard for each source that may be trained on."""
    for source in sources.TRAIN:
        shard = output / f"train-{source.speaker}.tar"
        if not shard.exists():
            sources.check_licence(source, debian(source.package, output / "packages"))
            write_shard(sources.utterances(source, output / "packages"), shard)
            print(f"wrote {shard}", flush=True)


def run_test_sets(output: Path) -> None:
    """All test sets but the unseen one, which `run_synthesis` makes."""
    packages, folder = output / "packages", output / "test"
    for source in sources.TEST:
        sources.check_licence(source, debian(source.package, packages))
    _once(folder / "known", lambda partial: test_sets.write_folder(test_sets.known(packages), partial))
    _once(folder / "real", lambda partial: test_sets.write_folder(test_sets.real(packages), partial))
    originals = [path for name in ("unseen", "real") for path in sorted((folder / name).glob("*.wav"))]
    for name, change in (("quiet", test_sets.quiet), ("telephone", augment.telephone)):
        _once(folder / name, lambda partial, change=change: test_sets.write_changed(originals, change, partial))


def _once(folder: Path, write: Callable[[Path], None]) -> None:
    """`folder`, written whole or not at all."""
    if not folder.exists():
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        write(partial)
        partial.rename(folder)


# ---- what there is ---------------------------------------------------------------------------------------------------


def write_lists(output: Path) -> None:
    """`train.list` and `validation.list` of the shards, and `manifest.json`."""
    manifest: dict[str, Any] = {}
    for split in ("train", "validation"):
        shards = sorted(output.glob(f"{split}-*.tar"))
        (output / f"{split}.list").write_text("".join(f"{shard.resolve()}\n" for shard in shards))
        known = [metadata for shard in shards for metadata in _metadata(shard)]
        manifest[split] = _summary(known)
    manifest["test"] = {folder.name: len(list(folder.glob("*.wav"))) for folder in sorted((output / "test").iterdir())}
    manifest["synthesiser"] = {
        "model": "Kokoro-82M, int8 ONNX",
        "licence": "Apache-2.0",
        "sha256": synthesis.MODEL_SHA256,
        "voices for testing": voices.TEST,
        "voices never synthesised": voices.RESERVED,
    }
    manifest["texts"] = {"package": "r-cran-janeaustenr", "licence": "public domain, and templates of this recipe"}
    manifest["recordings"] = [
        {
            "package": source.package,
            "speaker": source.speaker,
            "language": source.language,
            "licence": source.licence,
            "licence file": sources.check_licence(source, debian(source.package, output / "packages")),
            "credit": source.credit,
            "used for": "training" if source in sources.TRAIN else "testing only",
        }
        for source in (*sources.TRAIN, *sources.TEST, test_sets.PROMPTS)
    ]
    (output / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")


def _metadata(shard: Path) -> list[dict[str, Any]]:
    with tarfile.open(shard) as tar:
        return [json.load(tar.extractfile(member)) for member in tar if member.name.endswith(".json")]  # type: ignore[arg-type]


def _summary(utterances: list[dict[str, Any]]) -> dict[str, Any]:
    """Utterances and hours, by language and by sex."""

    def hours(some: Iterable[dict[str, Any]]) -> float:
        return round(sum(each["duration"] for each in some) / 3600, 3)

    return {
        "utterances": len(utterances),
        "hours": hours(utterances),
        "voices": len({each["speaker"] for each in utterances}),
        "hours by language": {
            language: hours(each for each in utterances if each["language"] == language)
            for language in sorted({each["language"] for each in utterances})
        },
        "hours by sex": {sex: hours(each for each in utterances if each["speaker"][1] == sex) for sex in "fm"},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--shards", type=int, default=100, help="of synthetic speech, four minutes each")
    parser.add_argument("--jobs", type=int, default=1, help="processes that synthesise, one thread each")
    args = parser.parse_args()
    run_recordings(args.output)
    run_synthesis(args.output, args.shards, args.jobs)
    run_test_sets(args.output)
    write_lists(args.output)


if __name__ == "__main__":
    main()
