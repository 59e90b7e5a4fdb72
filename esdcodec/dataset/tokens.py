"""A tokenised corpus read back: any utterance by its number, or endless shuffled batches, exact on resume."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from .index import index_corpus
from .order import Order
from .token_index import BESIDES, ITEMS, scan_tokens
from .token_manifests import FinishedShard, finished_shards, unfinished_files
from .token_reader import TokenEntry, TokenReader
from .token_shards import SUFFIXES, pyarrow_parquet

log = logging.getLogger(__name__)

Item = dict[str, Any]  # `key`, `codes` [n, L] int64, and all that is known of the utterance


class Tokens(Dataset):
    """The utterances of the shards below a folder that `esdcodec tokenise` wrote, of any format: the same items.

    An item has `key`, `codes` ``[n, L]`` (int64) and what was written beside them: `frames`, `seconds`, `gain_db`,
    `model`, `fingerprint`, and `text`, `speaker`, `language` … where they were known.

    Where everything is comes from an index, `corpus.manifest`, which is mapped into memory: what a process holds grows
    with the shards, not with the utterances. It is made on first use; in a job of many processes let one make it
    before the others begin.

    Args:
        folder: the output of `tokenise`. Shards without a manifest are of no finished run and left out.
        n_quantizers: codebooks to read. Default: all that the shards have, which must be equally many.
        processes: that read shards where there is no index yet.
        cache: folder for the index where it cannot be written beside the shards.

    Raises:
        FileNotFoundError: there is no finished shard.
        ValueError: the shards are of different weights or numbers of codebooks, or have changed since they were
            written.
        ImportError: a shard is Parquet, and pyarrow is not installed.
    """

    def __init__(
        self, folder: str | Path, *, n_quantizers: int | None = None, processes: int = 1, cache: Path | None = None
    ) -> None:
        self.folder = Path(folder).absolute()
        finished = finished_shards(self.folder)
        if any(shard.format == "parquet" for shard in finished):
            pyarrow_parquet()  # says what is missing before anything is read
        self.fingerprint, self.model = _one_codec(finished)
        self.n_quantizers = _one_depth(finished, n_quantizers)
        self._stored = np.array([shard.n_quantizers for shard in finished])  # codebooks
        self._besides = np.array([BESIDES[SUFFIXES[shard.format][0]] for shard in finished])
        self.shards = [str(shard.file) for shard in finished]
        unfinished = list(unfinished_files(self.folder, {file for shard in finished for file in shard.files}))
        if unfinished:
            log.warning("%d files in %s are of no finished run and left out: tokenise again", len(unfinished), folder)
        self.manifest = index_corpus(self.shards, cache=cache, items=ITEMS, scan=scan_tokens, processes=processes)
        rows = {path: row for row, path in enumerate(self.manifest.shards)}
        self._rows = np.array([rows[shard] for shard in self.shards], np.int64)
        ranges = [self.manifest.range(row) for row in self._rows.tolist()]
        self._first = np.array([first for first, _ in ranges], np.int64)
        self.counts = np.array([last - first for first, last in ranges], np.int64)  # utterances of each shard
        for shard, n in zip(finished, self.counts.tolist()):
            if n != shard.utterances:
                raise ValueError(
                    f"{shard.file} has {n} utterances, not the {shard.utterances} of its manifest: "
                    f"`esdcodec tokenise --verify {self.folder}` says more"
                )
        self._ends = np.cumsum(self.counts)
        self.frames = sum(shard.frames for shard in finished)
        self.hours = sum(shard.seconds for shard in finished) / 3600
        self._reader = TokenReader(self.n_quantizers)

    def __len__(self) -> int:
        """Utterances."""
        return int(self._ends[-1])

    def __getitem__(self, number: int) -> Item:
        return self.read(*self.locate(number))

    def locate(self, number: int) -> tuple[int, int]:
        """The shard of an utterance, and its number there."""
        if not 0 <= number < len(self):
            raise IndexError(f"utterance {number} of {len(self)}")
        shard = int(np.searchsorted(self._ends, number, side="right"))
        return shard, number - int(self._ends[shard] - self.counts[shard])

    def key(self, number: int) -> str:
        """Of an utterance."""
        shard, i = self.locate(number)
        return self.manifest.keys[int(self._first[shard]) + i]

    def read(self, shard: int, i: int) -> Item:
        """Utterance `i` of a shard.

        Raises:
            OSError: the shard is not there, cannot be read, or has changed.
        """
        row = int(self._first[shard]) + i
        columns = self.manifest.columns
        entry = TokenEntry(
            self.shards[shard],
            *self.version(shard),
            self.manifest.keys[row],
            **{name: int(columns[name][row]) for name in ("offset", "size", "metadata_offset", "metadata_size")},
            stored=int(self._stored[shard]),
        )
        key, codes, metadata = self._reader.read(entry)
        return metadata | {
            "key": key,
            "codes": torch.from_numpy(codes.astype(np.int64)),
            "n_quantizers": self.n_quantizers,
        }

    def version(self, shard: int) -> tuple[int, int]:
        """Bytes and time of change, in nanoseconds, of a shard when it was indexed."""
        return self.manifest.version(int(self._rows[shard]))

    def lengths(self, shard: int) -> NDArray[np.int64]:
        """Frames of all utterances of a shard, from the index alone."""
        first = int(self._first[shard])
        sizes = self.manifest.columns["size"][first : first + int(self.counts[shard])].astype(np.int64)
        return (sizes - self._besides[shard]) // (2 * self._stored[shard])

    def length(self, shard: int, i: int) -> int:
        """Frames of an utterance, from the index alone."""
        size = int(self.manifest.columns["size"][int(self._first[shard]) + i])
        return (size - int(self._besides[shard])) // (2 * int(self._stored[shard]))


@dataclass(frozen=True)
class TokenBatch:
    """Utterances that are trained on together."""

    items: list[Any]  # as `prepare` made them
    epoch: int  # of the first
    position: int  # where a run goes on that has used this step's batches on all ranks


class TokenStream(IterableDataset):
    """Endless shuffled batches, for `DataLoader(stream, batch_size=None, num_workers=…)`.

    Every utterance is read once in an epoch, over all ranks and workers. Which utterances make a batch depends on
    nothing but the seed, the batches' limits and the position that the run began at; with another number of workers
    the batches are the same, and a run that goes on from a batch's `position` gets what it would have got, also with
    another number of ranks.

    Args:
        batch_size: utterances of a batch, at most.
        max_frames: frames that the utterances of a batch have together, at most; a longer utterance is a batch of its
            own.
        shuffle_window: utterances among which the order is random; 0 reads as it lies.
        seed: of the order.
        position: where to begin; that of the last batch that was used.
        rank, n_ranks: which process of how many this is; all are given equally many batches.
        prepare: what becomes of an item in the worker, such as its tokens.
    """

    def __init__(
        self,
        tokens: Tokens,
        *,
        batch_size: int | None = None,
        max_frames: int | None = None,
        shuffle_window: int = 200_000,
        seed: int = 0,
        position: int = 0,
        rank: int = 0,
        n_ranks: int = 1,
        prepare: Callable[[Item], Any] | None = None,
    ) -> None:
        super().__init__()
        limits = [limit for limit in (batch_size, max_frames) if limit is not None]
        if not limits or min(limits) < 1:
            raise ValueError(f"batch_size={batch_size}, max_frames={max_frames}: give one of them, of at least 1")
        if not 0 <= rank < n_ranks:
            raise ValueError(f"rank {rank} of {n_ranks}: ranks are numbered from 0 to {n_ranks - 1}")
        if not len(tokens):
            raise ValueError(f"no utterance in {tokens.folder}")
        self.tokens, self.batch_size, self.max_frames = tokens, batch_size, max_frames
        self.order = Order(tokens.counts, window=shuffle_window, seed=seed)
        self.position, self.rank, self.n_ranks = position, rank, n_ranks
        self.prepare = prepare

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        number, n_workers = (worker.id, worker.num_workers) if worker else (0, 1)
        position = self.position
        for step in count():
            ends = [position]
            for _ in range(self.n_ranks):
                ends.append(self._end(ends[-1]))
            if step % n_workers == number:
                yield self.batch(range(ends[self.rank], ends[self.rank + 1]), range(position, ends[-1]))
            position = ends[-1]

    def _end(self, position: int) -> int:
        """Where the batch that begins at `position` ends."""
        if self.max_frames is None:
            assert self.batch_size is not None
            return position + self.batch_size
        frames = 0
        for end in count(position):
            frames += self.length(end)
            if end > position and (frames > self.max_frames or end - position == self.batch_size):
                return end
        raise AssertionError

    def length(self, position: int) -> int:
        """What the utterance at a position adds to `max_frames`."""
        _, shard, i = self.order[position]
        return self.tokens.length(shard, i)

    def batch(self, own: range, step: range) -> Any:
        """What is yielded.

        Args:
            own: positions of this rank.
            step: those of all ranks.
        """
        items = [self.tokens.read(*self.order[position][1:]) for position in own]
        prepared = [self.prepare(item) for item in items] if self.prepare else items
        return TokenBatch(prepared, self.order[own.start][0], step.stop)


def _one_codec(shards: Sequence[FinishedShard]) -> tuple[str, str]:
    """Fingerprint and name of the model.

    Raises:
        ValueError: there are several.
    """
    codecs = {shard.fingerprint: shard for shard in shards}
    if len(codecs) > 1:
        examples = "; ".join(f"{each[:12]} ({shard.model}) in {shard.file}" for each, shard in codecs.items())
        raise ValueError(f"codes of different weights mean different sounds: {examples}. Tokenise with one model")
    ((fingerprint, shard),) = codecs.items()
    return fingerprint, shard.model


def _one_depth(shards: Sequence[FinishedShard], n_quantizers: int | None) -> int:
    """Codebooks that all shards have.

    Raises:
        ValueError: some have others than `n_quantizers` asks for.
    """
    examples = {shard.n_quantizers: shard.file for shard in shards}
    least = min(examples)
    if n_quantizers is None and len(examples) > 1:
        named = ", ".join(f"{n} in {path}" for n, path in sorted(examples.items()))
        raise ValueError(f"shards of different numbers of codebooks ({named}): n_quantizers={least} reads all")
    if n_quantizers is not None and not 1 <= n_quantizers <= least:
        raise ValueError(f"n_quantizers={n_quantizers}, but {examples[least]} has 1 to {least}")
    return least if n_quantizers is None else n_quantizers
