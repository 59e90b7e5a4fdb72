"""Batches of a corpus of twelve utterances, for training and for validation."""

from itertools import islice

from esdcodec.dataset.filters import Filters
from esdcodec.dataset.loader import Loaders, Source
from esdcodec.dataset.skip_counts import SkipCounts

KEYS = [f"u{i:03d}" for i in range(12)]


def loaders(**options) -> Loaders:
    filters = Filters(**options.pop("filters", {}))
    return Loaders(
        filters, **{"sample_rate": 24000, "batch_size": 1, "num_workers": 0, "max_broken_share": 0.5, **options}
    )


def training(source, *, position=0, n=None, seed=0, per_utterance=1, extract=None, length=4800, buffer=8, **options):
    """The first `n` batches from `place` on."""
    skip_counts = options.pop("skip_counts", SkipCounts())
    source = Source.parse(source if isinstance(source, list) else str(source))
    batches = (
        loaders(**options)
        .training(
            source,
            segment_length=length,
            per_utterance=per_utterance,
            shuffle_buffer=buffer,
            shuffle_window=buffer,
            seed=seed,
            skip_counts=skip_counts,
            extract=extract,
        )
        .batches(position)
    )
    found = list(islice(batches, n))
    batches.close()
    return found


def validation(source, length=4800, **options):
    sources = Source.parse(source if isinstance(source, list) else str(source))
    return list(loaders(**options).validation(sources, segment_length=length))


def keys(batches) -> list[str]:
    return [key for batch in batches for key in batch.keys]
