"""Validation of a codec: scores on speech that it was not trained on, and sounds to listen to."""

import math
import multiprocessing
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from itertools import islice

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.logging import get_logger
from torch import Tensor

from ..codec import ESDCodec
from ..dataset.batch import Batch
from ..evaluation.metrics import si_sdr, stoi
from ..evaluation.usage import CodebookUsage
from ..model_codec.losses import WINDOWS, mel_loss
from ..processes import ignore_signals_in_worker
from .monitor import Sounds
from .task import Validation

log = get_logger(__name__)  # of the main process

PENDING = 256  # utterances that wait for their intelligibility at most, while others are decoded


def n_quantizers_shown(codec: ESDCodec) -> list[int]:
    """The numbers of codebooks at which a run is looked at: 1, 3 and all."""
    return sorted({1, min(3, codec.n_codebooks), codec.n_codebooks})


class ValidationScores:
    """Sums of scores, and the codes counted, of the batches that one process validates.

    Args:
        pool: computes the intelligibility, which takes a processor longer than a GPU needs to decode; None: it is
            computed here.
    """

    def __init__(self, codec: ESDCodec, device: torch.device, pool: Executor | None = None) -> None:
        self.codec, self.device, self.pool = codec, device, pool
        self._pending: deque[tuple[str, Future]] = deque()
        self.sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])  # name -> sum, number
        for n in n_quantizers_shown(codec):
            for metric in ("mel", "stoi", "si_sdr"):
                self.sums[f"{metric}_{n}"]  # the same names on every rank
        self.usage = CodebookUsage(codec.codebook_sizes, device)

    @torch.no_grad()
    def add(self, batches: Iterable[Batch]) -> "ValidationScores":
        for batch in batches:
            if batch.keys:
                self._add(batch.audio.to(self.device))
        self._collect(0)
        return self

    def _add(self, audio: Tensor) -> None:
        codes = self.codec.encode(audio)
        self.usage.add(codes)
        references = audio[:, 0].float().cpu().numpy()
        for n in n_quantizers_shown(self.codec):
            decoded = self.codec.decode(codes[:, :n], length=audio.shape[-1]).float()
            self._count(f"mel_{n}", mel_loss(decoded, audio, self.codec.sample_rate, WINDOWS).item(), len(audio))
            for estimate, reference in zip(decoded[:, 0].cpu().numpy(), references):
                ratio = si_sdr(estimate, reference)
                if not math.isnan(ratio):  # of silence it is not defined
                    self._count(f"si_sdr_{n}", ratio)
                self._measure_stoi(f"stoi_{n}", estimate, reference)
        self._collect(PENDING)

    def _measure_stoi(self, name: str, estimate: np.ndarray, reference: np.ndarray) -> None:
        if self.pool is None:
            done: Future = Future()
            done.set_result(stoi(estimate, reference, self.codec.sample_rate))
        else:
            done = self.pool.submit(stoi, estimate, reference, self.codec.sample_rate)
        self._pending.append((name, done))

    def _collect(self, n_left: int) -> None:
        """Count what is done, in the order in which it was begun, until so many are left."""
        while len(self._pending) > n_left:
            name, done = self._pending.popleft()
            intelligibility = done.result()
            if intelligibility is not None:
                self._count(name, intelligibility)

    def _count(self, name: str, value: float, number: int = 1) -> None:
        self.sums[name][0] += value * number
        self.sums[name][1] += number

    def as_tensor(self) -> Tensor:
        """Sums ``[S, 2]``, to be added up over the processes."""
        return torch.tensor([self.sums[name] for name in sorted(self.sums)], device=self.device)

    def means(self, sums: Tensor) -> dict[str, float]:
        """Mean scores by name, from the sums over all processes."""
        return {name: (s / n).item() for name, (s, n) in zip(sorted(self.sums), sums) if n > 0}


@contextmanager
def _processes(n: int) -> Iterator[Executor | None]:
    if n == 0:
        yield None
        return
    context = multiprocessing.get_context("spawn")  # a process that uses a GPU can't be copied
    with ProcessPoolExecutor(n, context, initializer=ignore_signals_in_worker) as pool:
        yield pool


def validate(
    codec: ESDCodec, batches: Iterable[Batch], accelerator: Accelerator, n_processes: int = 0
) -> Validation | None:
    """Scores over all ranks, from 1, 3 and all codebooks; the mel distance with 3 decides which codec is the best."""
    codec.eval()
    with _processes(n_processes) as pool, accelerator.autocast():
        scores = ValidationScores(codec, accelerator.device, pool).add(batches)
    codec.train()
    means = scores.means(accelerator.reduce(scores.as_tensor(), "sum"))
    scores.usage.counts = accelerator.reduce(scores.usage.counts, "sum")
    if not means:
        log.warning("no utterance of data.validation is readable and passes data.filters: nothing validated")
        return None
    n = n_quantizers_shown(codec)
    used = scores.usage.used()
    usage = {"usage_semantic": used[0], "usage_acoustic": sum(used[1:]) / len(used[1:])}
    return Validation(means | usage, score=means[f"mel_{n[min(1, len(n) - 1)]}"])


@torch.no_grad()
def sample_sounds(codec: ESDCodec, batches: Iterable[Batch], accelerator: Accelerator) -> Sounds:
    """The first two utterances as they are and as they come out, with the condition network's subband."""
    codec.eval()
    sounds = {}
    for batch in islice(batches, 1):
        for i, audio in enumerate(batch.audio[:2].to(accelerator.device).split(1)):
            with accelerator.autocast():
                codes = codec.encode(audio)
                decoded = {f"{n}_codebooks": codec.decode(codes[:, :n]) for n in n_quantizers_shown(codec)}
                subband = codec(audio).subband
            for name, sound in {"input": audio, **decoded, "subband": subband}.items():
                rate = codec.subband_sample_rate if name == "subband" else codec.sample_rate
                sounds[f"{i}_{name}"] = sound[0, 0].float().cpu().numpy(), rate
    codec.train()
    return sounds
