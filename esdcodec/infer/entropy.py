"""How often each code occurs, and blocks of codes coded by it. `docs/format.md` specifies both.

All in integers of any size, so that every platform gives the same bytes. Only numpy is needed here.

    python -m esdcodec.infer.entropy FOLDER -o MODEL/code_counts.npz

counts the codes of the `.esd` files below FOLDER.
"""

from __future__ import annotations

import argparse
import hashlib
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FILE = "code_counts.npz"  # beside a model's weights
TOTAL_BITS = 20
TOTAL = 1 << TOTAL_BITS  # what the frequencies of a codebook sum to


class CodeFrequencies:
    """Frequencies of the codes of a model's codebooks, and an entropy coder that uses them.

    The coder is an asymmetric numeral system (Duda 2013, arXiv:1311.2540) in its plainest form: a block is one integer
    x, and coding a code of frequency f whose range begins at c makes it ⌊x / f⌋ · 2^20 + c + x mod f. Codes are put in
    from the last to the first, so that they come out from the first to the last.

    Args:
        counts: for each codebook how often each of its codes was seen: ``[N]`` integers, not negative.
    """

    def __init__(self, counts: Sequence[NDArray[np.integer]]) -> None:
        self.counts = tuple(np.asarray(each, np.uint32) for each in counts)
        self.frequencies = tuple(frequencies(each) for each in self.counts)
        self._starts = tuple(np.concatenate([[0], each.cumsum()]) for each in self.frequencies)
        digest = hashlib.sha256()
        for each in self.frequencies:
            digest.update(each.astype(">u4").tobytes())
        self.fingerprint = digest.digest()[:8]

    @classmethod
    def load(cls, file: Path) -> CodeFrequencies:
        """
        Raises:
            ValueError: the file holds no counts.
        """
        try:
            with np.load(file, allow_pickle=False) as arrays:
                return cls([arrays[f"arr_{i}"] for i in range(len(arrays.files))])
        except (KeyError, OSError, TypeError, AttributeError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{file} holds no counts of codes: {error}") from error

    def save(self, file: Path) -> None:
        np.savez_compressed(file, *self.counts)

    def encode(self, codes: NDArray[np.int64]) -> bytes:
        """Codes ``[n, L]`` of the first n codebooks, frame by frame."""
        x = 0
        starts = [self._starts[i][row].tolist() for i, row in enumerate(codes)]
        widths = [self.frequencies[i][row].tolist() for i, row in enumerate(codes)]
        for frame in range(codes.shape[1] - 1, -1, -1):
            for start, width in zip(reversed(starts), reversed(widths)):
                quotient, rest = divmod(x, width[frame])
                x = (quotient << TOTAL_BITS) + start[frame] + rest
        return x.to_bytes((x.bit_length() + 7) // 8, "big")

    def decode(self, data: bytes, n_codebooks: int, n_frames: int) -> NDArray[np.int64]:
        """The inverse of `encode`: ``[n, L]``.

        Raises:
            ValueError: no codes give these bytes.
        """
        x = int.from_bytes(data, "big")
        codes = np.empty((n_codebooks, n_frames), np.int64)
        tables = list(zip(self._starts, self.frequencies))[:n_codebooks]
        for frame in range(n_frames):
            for i, (starts, widths) in enumerate(tables):
                slot = x & (TOTAL - 1)
                code = int(starts.searchsorted(slot, "right")) - 1
                codes[i, frame] = code
                x = int(widths[code]) * (x >> TOTAL_BITS) + slot - int(starts[code])
        if x:
            raise ValueError("these bytes hold more than the codes")
        return codes


def frequencies(counts: NDArray[np.uint32]) -> NDArray[np.int64]:
    """``[N]`` numbers from 1 that sum to 2^20 and are as the counts: 1 + ⌊count · (2^20 - N) / sum⌋.

    What is left over goes to the code that occurs most, the first of these.

    Raises:
        ValueError: there are more codes than 2^20, or none was counted.
    """
    total = int(counts.sum(dtype=np.uint64))
    if not 0 < len(counts) < TOTAL or not total:
        raise ValueError(f"no frequencies can be made of {total} counts of {len(counts)} codes")
    shares = 1 + counts.astype(np.int64) * (TOTAL - len(counts)) // total  # below 2^52
    shares[counts.argmax()] += TOTAL - shares.sum()
    return shares


def count(files: Iterable[Path]) -> CodeFrequencies:
    """Frequencies of the codes in `.esd` files of one model, of as many codebooks as they all have.

    Raises:
        BitstreamError: a file is no `.esd` file, or damaged.
        ValueError: there is no file, or they are of different models.
    """
    from .bitstream import Reader

    counts: list[NDArray[np.uint32]] = []
    models = set()
    for path in files:
        with open(path, "rb") as stream:
            reader = Reader(stream)
            header = reader.header
            models.add((header.model, header.fingerprint))
            if len(models) > 1:
                raise ValueError(f"{path} is of {header.model!r}, the files before it of another model")
            if not counts:
                counts = [np.zeros(1 << bits, np.uint32) for bits in header.bits]
            counts = counts[: len(header.bits)]
            for codes, total in zip(reader.read(), counts):
                total += np.bincount(codes, minlength=len(total)).astype(np.uint32)
    if not counts:
        raise ValueError("there are no .esd files to count the codes of")
    return CodeFrequencies(counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with .esd files, in folders of any depth")
    parser.add_argument("-o", "--output", type=Path, default=Path(FILE))
    args = parser.parse_args()
    found = count(sorted(args.folder.rglob("*.esd")))
    found.save(args.output)
    print(f"{args.output}: {', '.join(f'{int(each.sum()):,}' for each in found.counts)} codes counted")


if __name__ == "__main__":
    main()
