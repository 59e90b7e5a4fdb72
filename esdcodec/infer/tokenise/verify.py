"""Whether what `tokenise` wrote is whole and agrees with its manifests."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .work import FORMAT


def verify(folder: str | Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each manifest, and each shard without one, below `folder`, with what is wrong with it (nothing: [])."""
    folder = Path(folder)
    manifests = sorted(folder.rglob("*.manifest.json"))
    known = {manifest.with_name(manifest.name.replace(".manifest.json", ".tar")) for manifest in manifests}
    for manifest in manifests:
        yield manifest, list(_problems(manifest))
    for shard in sorted(set(folder.rglob("*.tar")) - known):
        yield shard, ["it has no manifest: it is of no finished run"]


def _problems(manifest: Path) -> Iterator[str]:
    try:
        told = json.loads(manifest.read_bytes())
        if told["format"] != FORMAT:
            yield f"its format is {told['format']!r}, not {FORMAT!r}"
            return
        content = manifest.with_name(manifest.name.replace(".manifest.json", ".tar")).read_bytes()
        if len(content) != told["bytes"] or hashlib.sha256(content).hexdigest() != told["sha256"]:
            yield "the shard is not the one that the manifest is of"
            return
        yield from _content_problems(content, told)
    except (OSError, ValueError, KeyError, TypeError, tarfile.TarError) as error:
        yield f"cannot be read ({type(error).__name__}: {error})"


def _content_problems(content: bytes, told: dict) -> Iterator[str]:
    counts = [np.zeros(len(histogram), np.int64) for histogram in told["histograms"]]
    utterances = frames = 0
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for member in tar:
            stream = tar.extractfile(member)
            if stream is None or not member.name.endswith(".codes.npy"):
                continue
            codes = np.load(io.BytesIO(stream.read()))
            if codes.dtype != np.uint16 or codes.ndim != 2 or len(codes) != len(counts):
                yield f"{member.name}: {codes.dtype} {list(codes.shape)} are no codes of {len(counts)} codebooks"
                continue
            utterances, frames = utterances + 1, frames + codes.shape[1]
            for k, row in enumerate(codes):
                found = np.bincount(row, minlength=len(counts[k]))
                if len(found) > len(counts[k]):
                    yield f"{member.name}: code {row.max()} is outside of codebook {k}"
                else:
                    counts[k] += found
    if (utterances, frames) != (told["utterances"], told["frames"]):
        yield f"{utterances} utterances of {frames} frames; the manifest says {told['utterances']} of {told['frames']}"
    if [count.tolist() for count in counts] != told["histograms"]:
        yield "its codes are not those that the manifest has counted"
