"""What a codec makes of speech that it was not trained on."""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

from ..dataset.batch import Batch
from ..evaluation.metrics import si_sdr, stoi
from ..model_codec import ESDCodec
from ..model_codec.losses import WINDOWS, mel_loss
from ..model_codec.usage import CodebookUsage


def n_quantizers_shown(codec: ESDCodec) -> list[int]:
    """The numbers of codebooks at which a run is looked at: 1, 3 and all."""
    return sorted({1, min(3, codec.n_codebooks), codec.n_codebooks})


class Scores:
    """Sums of scores, and the codes counted, of the batches that one process validates."""

    def __init__(self, codec: ESDCodec, device: torch.device) -> None:
        self.codec, self.device = codec, device
        self.sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])  # name -> sum, number
        for n in n_quantizers_shown(codec):
            for metric in ("mel", "stoi", "si_sdr"):
                self.sums[f"{metric}_{n}"]  # the same names on every rank
        self.usage = CodebookUsage(codec.codebook_sizes, device)

    @torch.no_grad()
    def add(self, batches: Iterable[Batch]) -> "Scores":
        for batch in batches:
            if batch.keys:
                self._add(batch.audio.to(self.device))
        return self

    def _add(self, audio: Tensor) -> None:
        codes = self.codec.encode(audio)
        self.usage.add(codes)
        references = audio[:, 0].float().cpu().numpy()
        for n in n_quantizers_shown(self.codec):
            decoded = self.codec.decode(codes[:, :n], length=audio.shape[-1]).float()
            self._count(f"mel_{n}", mel_loss(decoded, audio, self.codec.sample_rate, WINDOWS).item(), len(audio))
            for estimate, reference in zip(decoded[:, 0].cpu().numpy(), references):
                self._count(f"si_sdr_{n}", si_sdr(estimate, reference))
                intelligibility = stoi(estimate, reference, self.codec.sample_rate)
                if intelligibility is not None:
                    self._count(f"stoi_{n}", intelligibility)

    def _count(self, name: str, value: float, number: int = 1) -> None:
        self.sums[name][0] += value * number
        self.sums[name][1] += number

    def as_tensor(self) -> Tensor:
        """Sums ``[S, 2]``, to be added up over the processes."""
        return torch.tensor([self.sums[name] for name in sorted(self.sums)], device=self.device)

    def means(self, sums: Tensor) -> dict[str, float]:
        """Mean scores by name, from the sums over all processes."""
        return {name: (s / n).item() for name, (s, n) in zip(sorted(self.sums), sums) if n > 0}
