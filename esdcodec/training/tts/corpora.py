"""The tokenised corpora of a training, checked against its codec."""

import logging
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import gather_object

from ...codec import ESDCodec
from ...dataset.skip_counts import SkipCounts, check_share
from ...dataset.tokens import Tokens
from ...dataset.transcripts import Transcripts
from ...model_tts.text import TextFrontEnd
from ...model_tts.text_to_codes import check_fingerprint
from .settings import TokenDataSettings

log = logging.getLogger(__name__)


def read_corpora(
    data: TokenDataSettings,
    codec: ESDCodec,
    accelerator: Accelerator,
    output: str,
    *,
    n_quantizers: int,
    front_end: TextFrontEnd | None = None,
    text_field: str = "text",
) -> dict[str, Transcripts]:
    """`train`, and `validation` where there is one; the main process reads them before the others.

    Args:
        output: folder of the run.

    Raises:
        FileNotFoundError: there are no tokens.
        CodecMismatchError: they are of another codec.
        ValueError: the processes see different ones.
    """
    cache = Path(data.cache or f"{output}/manifests")
    processes = max(1, data.num_workers)
    corpora = {}
    for name, folder in {"train": data.train, "validation": data.validation}.items():
        if folder is None:
            continue
        with accelerator.main_process_first():
            tokens = Tokens(folder, n_quantizers=n_quantizers, processes=processes, cache=cache)
            remedy = f"Set model.codec to the model that made them ({tokens.model}), or tokenise with {codec.name}"
            check_fingerprint(tokens.fingerprint, codec.fingerprint.hex(), str(folder), remedy)
            corpus = Transcripts(tokens, front_end, text_field=text_field, cache=cache, processes=processes)
        digests = gather_object([corpus.digest()])
        differing = [str(rank) for rank, digest in enumerate(digests) if digest != digests[0]]
        if differing:
            raise ValueError(f"ranks {', '.join(differing)} see other tokens in {folder} than rank 0: copy them again")
        corpora[name] = corpus
    return corpora


def count_skipped(corpus: Transcripts, n_used: int, data: TokenDataSettings, accelerator: Accelerator) -> SkipCounts:
    """Log what of a corpus is used.

    Raises:
        TooMuchIsBroken: more of it than `data.max_broken_share` cannot be used.
    """
    skip_counts = SkipCounts()
    broken = corpus.reasons()
    long = len(corpus.tokens) - broken.total() - n_used
    log.info(
        "%d utterances, %.1f hours; too long: %d; cannot be used: %d",
        len(corpus.tokens), corpus.tokens.hours, long, broken.total(),
    )  # fmt: skip
    skip_counts.converted["dropped: too long"] += long
    if accelerator.is_main_process:
        skip_counts.add_skipped(corpus.skipped())
    check_share(broken, n_used + long, data.max_broken_share)
    return skip_counts
