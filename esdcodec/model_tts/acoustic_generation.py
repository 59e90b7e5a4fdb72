"""Acoustic codes from semantic ones by an `AcousticModel`: chunk by chunk, whether they come so or at once."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .acoustic import AcousticModel, KeysValues
from .decoding import draw


@dataclass(frozen=True, kw_only=True)
class AcousticSettings:
    """How acoustic codes are chosen.

    Args:
        n_quantizers: codebooks to make, the semantic one included. None: all.
        temperature, top_k, top_p: of the first acoustic codebook, as `DecodingSettings` has them; the others take the
            most probable code.
        guidance: how far beyond what the prompt changes; 1: as far as it does.
        seed: of what is drawn.
    """

    n_quantizers: int | None = None
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 0.9
    guidance: float = 1.0
    seed: int = 0


class AcousticPrompt:
    """A prompt that the network reads once, for any number of utterances.

    Args:
        codes: ``[K, P]`` of all codebooks.

    Raises:
        ValueError: the model has other codebooks.
    """

    def __init__(self, model: AcousticModel, codes: Tensor) -> None:
        if codes.dim() != 2 or len(codes) != model.n_codebooks:
            raise ValueError(f"prompt {list(codes.shape)} must be codes [{model.n_codebooks}, frames] of all codebooks")
        self.model, self.codes = model, codes
        self._read: dict[int, list[KeysValues]] = {}

    @torch.no_grad()
    def read(self, codebook: int) -> list[KeysValues] | None:
        """What the blocks have read on the way to a codebook; None: the prompt is empty."""
        if not self.codes.shape[-1]:
            return None
        if codebook not in self._read:
            device = self.model.of_prompt.device
            positions = torch.arange(-self.codes.shape[-1], 0, device=device)
            x = self.model.embed_prompt(self.codes[None].to(device))
            self._read[codebook] = self.model.run(x, torch.tensor([codebook], device=device), positions, None)[1]
        return self._read[codebook]


class AcousticStream:
    """Acoustic codes of one utterance, as its semantic codes come.

    What is read is kept, so that a chunk costs its own frames. The chunks are those of the network: how the codes are
    cut into pieces changes nothing.

    Args:
        prompt: codes ``[K, P]`` of all codebooks from another utterance of the speaker. None: any voice.

    Raises:
        ValueError: the model has not so many codebooks, or the prompt others.
    """

    def __init__(
        self,
        model: AcousticModel,
        prompt: AcousticPrompt | Tensor | None = None,
        settings: AcousticSettings | None = None,
    ) -> None:
        self.model, self.settings = model, settings or AcousticSettings()
        self.n_quantizers = n = model.check_n_quantizers(self.settings.n_quantizers)
        prompt = AcousticPrompt(model, prompt) if isinstance(prompt, Tensor) else prompt
        self.random = torch.Generator().manual_seed(self.settings.seed)
        self.position = 0
        self.waiting = torch.zeros(0, dtype=torch.int64, device=model.of_prompt.device)
        prompts = [prompt] if prompt is None or self.settings.guidance == 1 else [prompt, None]
        self.read = [[None if each is None else each.read(k) for k in range(1, n)] for each in prompts]

    def push(self, semantic: Tensor) -> Tensor:
        """Codes ``[n, L]`` of all chunks that are complete with the semantic codes ``[l]``."""
        self.waiting = torch.cat([self.waiting, semantic.to(self.waiting)])
        size = self.model.chunk_frames
        n_frames = len(self.waiting) // size * size
        ready, self.waiting = self.waiting[:n_frames], self.waiting[n_frames:]
        return self._codes([self._chunk(chunk) for chunk in ready.split(size) if len(chunk)])

    def finish(self) -> Tensor:
        """Codes ``[n, L]`` of what is left."""
        left, self.waiting = self.waiting, self.waiting[:0]
        return self._codes([self._chunk(left)] if len(left) else [])

    def _codes(self, chunks: list[Tensor]) -> Tensor:
        return torch.cat([self.waiting.new_zeros(self.n_quantizers, 0), *chunks], dim=-1)

    @torch.no_grad()
    def _chunk(self, semantic: Tensor) -> Tensor:
        codes = semantic[None]  # [k, L]
        positions = torch.arange(self.position, self.position + len(semantic), device=codes.device)
        for k in range(1, self.n_quantizers):
            codebook = torch.tensor([k], device=codes.device)
            x = self.model.embed(codes[None], codebook)
            logits = []
            for read in self.read:
                y, read[k - 1] = self.model.run(x, codebook, positions, None, read[k - 1])
                logits.append(self.model.rate(y, codebook)[0].double())
            # beyond what is said without the prompt (classifier-free guidance; Ho and Salimans 2022, arXiv:2207.12598)
            mixed = logits[0] if len(logits) == 1 else torch.lerp(logits[1], logits[0], self.settings.guidance)
            codes = torch.cat([codes, self._choose(mixed, first=k == 1)[None]])
        self.position += len(semantic)
        return codes

    def _choose(self, logits: Tensor, *, first: bool) -> Tensor:
        """Codes ``[L]`` by logits ``[L, N]``."""
        settings = self.settings
        if not first or settings.temperature == 0:
            return logits.argmax(-1)
        numbers = torch.rand(len(logits), generator=self.random, dtype=torch.float64).tolist()
        rows = (logits.cpu() / settings.temperature).unbind(0)
        chosen = [draw(row, number, settings.top_k, settings.top_p) for row, number in zip(rows, numbers)]
        return torch.tensor(chosen, device=logits.device)


def acoustic_codes(
    model: AcousticModel,
    semantic: Tensor,
    prompt: AcousticPrompt | Tensor | None = None,
    settings: AcousticSettings | None = None,
) -> Tensor:
    """Codes ``[n, L]`` of an utterance with the semantic codes ``[L]``; arguments as `AcousticStream` takes them.

    Of the semantic codes of other speech it is voice conversion.
    """
    stream = AcousticStream(model, prompt, settings)
    return torch.cat([stream.push(semantic), stream.finish()], dim=-1)
