"""Small tokenised corpora, as `esdcodec tokenise` writes them."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from esdcodec.dataset.token_shards import FORMAT, shard_files
from esdcodec.infer.tokenise.writers import WRITERS

KNOWN = {"n_quantizers": 3, "gain_db": 0.0}


def write_tokens(
    folder: Path,
    name: str,
    items: Mapping[str, tuple[np.ndarray, Mapping[str, Any]]],
    *,
    n: int = 3,
    fingerprint: str = "ab",
    format: str = "tar",
) -> Path:
    """A shard of `items`: codes ``[n, L]`` and metadata, by key. Returns the first of its files."""
    folder.mkdir(exist_ok=True, parents=True)
    manifest = folder / f"{name}.manifest.json"
    files = shard_files(manifest, format).values()
    with ExitStack() as stack:
        streams = [stack.enter_context(open(file, "w+b")) for file in files]
        writer = WRITERS[format](streams, n)
        for key, (codes, metadata) in items.items():
            known = {"frames": codes.shape[1], "seconds": codes.shape[1] / 25}
            writer.write(key, codes.astype(np.uint16), {**KNOWN, "fingerprint": fingerprint, **known, **metadata})
        writer.close()
    told = {
        "format": FORMAT, "model": "tiny", "fingerprint": fingerprint,
        "settings": {"n_quantizers": n, "format": format}, "utterances": len(items),
        "frames": sum(codes.shape[1] for codes, _ in items.values()), "seconds": 1.0,
    }  # fmt: skip
    manifest.write_text(json.dumps(told))
    return next(iter(files))


WORDS = ("one", "two words", "three short words", "a few more words than that", "no", "speech")


def spoken_items(numbers: Sequence[int], codebook: int = 20, **metadata: object) -> dict[str, Any]:
    """Utterances of two speakers; longer texts have more codes."""
    items = {}
    for number in numbers:
        random = np.random.default_rng(number)
        text = f"{WORDS[number % len(WORDS)]} {number}"
        codes = random.integers(0, codebook, (3, 5 + 2 * len(text)))
        codes[1:] %= 64  # as small as the acoustic codebooks of the small codec
        items[f"u{number:03d}"] = codes, {"text": text, "speaker": f"s{number % 2}", **metadata}
    return items
