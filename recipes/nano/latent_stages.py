"""From audio to codes: the encoder learns to tell the given latents, the quantizers to tell them in codes."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from analysis import ACOUSTIC, PARTS, SEMANTIC, weights
from data import Frames
from recordings import AUDIO, Augmentation, waveform_of
from stage import TARGETS, Job, Stage, noise_like
from torch import Tensor, nn

from esdcodec import ESDCodec
from esdcodec.dataset.batch import Batch
from esdcodec.training.initialise import fit_residual_quantizer, fit_simvq, points_of

EARLY, CODES = "quantizers/early", "quantizers/codes"
LAST = 3  # layers of the encoder that learn on with the quantizers: its last block, Snake, convolution
MARGIN = 8  # frames on both sides of a segment that the semantic decoder looks at


class EncoderStage(Stage):
    """Learns to tell the latents from the audio, or from audio that was damaged."""

    learns = ("encoder",)
    name, terms, score = "encoder", ("latent",), "error"

    def build(self) -> None:
        # pitch and phase are slow to learn, and few of the numbers; what is heard follows from the mel spectra
        self.weights = weights(pitch=4.0, phase=6.0, heard=0.1).to(self.device)
        with torch.no_grad():
            deviation = self.codec.encode_latent(self.held_out.audio).std((0, 2)).mean()
            self.codec.encoder[-1].weight_g.mul_(0.5 / deviation)
        self.learn("encoder", self.codec.encoder)

    @property
    def damage(self) -> Augmentation | None:
        return self.job.damage

    def encode(self, audio: Tensor) -> Tensor:
        with self.accelerator.autocast():
            return self.codec.encode_latent(audio).float()

    def losses(self, batch: Batch, step: int, random: torch.Generator) -> dict[str, Tensor]:
        told = self.encode(batch.features.get("damaged", batch.audio))
        return {"latent": (self.weights * (told - batch.features["latent"]).square()).mean()}

    def measure(self, batch: Batch) -> dict[str, Tensor]:
        """The squared error, and the shares of the variance that are lost of each of the `PARTS`."""
        latent = batch.features["latent"]
        error = (self.encode(batch.audio) - latent).square()
        lost = {name: error[:, part].mean() / latent[:, part].var((0, 2)).mean() for name, part in PARTS.items()}
        return {"error": error.mean(), **lost}


class QuantizerStage(Stage):
    """Quantizers, semantic decoder and the encoder's last block learn together to tell the latents in codes.

    What the layers before that block make of the recordings is computed once; in the end all recordings are coded.
    `options`: at step `acoustic_start`, when the semantic latent is what the acoustic codebooks will see, these are
    fitted and begin; every `renew_every` steps until `renew_until` acoustic entries that are not used move.
    """

    learns = ("quantizers", "encoder")
    name, score, margin = "quantizers", "error", MARGIN
    terms = (
        "latent", "semantic_latent", "quantized_latent", "semantic_codebook", "semantic_commitment",
        "acoustic_codebook", "acoustic_commitment",
    )  # fmt: skip
    options = ("acoustic_start", "renew_every", "renew_until", "fit_batches", "spread_batches", "renew_batches")

    @classmethod
    def prepare(cls, job: Job) -> None:
        early = nn.Sequential(*list(job.codec.encoder)[:-LAST])
        for arrays in (job.train, job.validation):
            arrays.convert(AUDIO, EARLY, _by_frames(lambda audio: early(audio).half(), job, waveform_of))

    def build(self) -> None:
        self.semantic, self.acoustic = self.codec.semantic_quantizer, self.codec.acoustic_quantizer
        self.last = nn.Sequential(*list(self.codec.encoder)[-LAST:])
        self.weights = weights(pitch=2.0, phase=3.0, heard=0.1).to(self.device)
        self.acoustic_weights = weights(pitch=2.0, phase=3.0, heard=0.0).to(self.device)
        self.learn("quantizers", nn.ModuleList([self.semantic, self.codec.semantic_decoder, self.acoustic]))
        self.learn("encoder", self.last)

    def frames(self) -> Mapping[str, Frames]:
        return {"early": Frames(EARLY), "latent": Frames(TARGETS)}

    def tell(self, batch: Batch) -> Tensor:
        """The encoder's latent ``[B, D, L]``, without the margin at both ends."""
        with self.accelerator.autocast():
            return self.last(batch.features["early"]).float()[..., MARGIN:-MARGIN]

    @torch.no_grad()
    def before_step(self, step: int, read: Callable[[], Batch]) -> None:
        options = self.settings.options

        def told(batches: str) -> Tensor:
            return torch.cat([self.tell(read()) for _ in range(options[batches])])

        if step == 0:
            fit_simvq(self.semantic, points_of(told("fit_batches")))
            self.semantic.projection.weight[ACOUSTIC], self.semantic.projection.bias[ACOUSTIC] = 0, 0
        elif step == options["acoustic_start"]:
            spread_entries(self.codec, points_of(told("spread_batches")), self.numbers(step, 1))
            latent = told("fit_batches")
            residual = latent - self.codec.decode_semantic(self.semantic(latent).latent)
            residual[:, SEMANTIC] = 0
            fit_residual_quantizer(self.acoustic, residual)
            for quantizer in self.acoustic.quantizers:  # components of what does not vary are tiny, not zero
                quantizer.in_proj.weight_v[:, SEMANTIC] = 0
                quantizer.out_proj.weight_g[SEMANTIC], quantizer.out_proj.bias[SEMANTIC] = 0, 0
        elif options["acoustic_start"] < step < options["renew_until"] and step % options["renew_every"] == 0:
            renew_entries(self.codec, told("renew_batches"), self.numbers(step, 1))

    def losses(self, batch: Batch, step: int, random: torch.Generator) -> dict[str, Tensor]:
        latent, expected = self.tell(batch), batch.features["latent"][..., MARGIN:-MARGIN]
        with_acoustic = step >= self.settings.options["acoustic_start"]
        if not with_acoustic:
            latent = latent.detach()  # it would be drawn to entries that know nothing yet
        noisy = latent + self.settings.noise * noise_like(latent, random)
        semantic = self.semantic(noisy)
        semantic_latent = self.codec.decode_semantic(semantic.latent)
        terms = {
            "latent": _error(latent, expected, self.weights),
            "semantic_latent": _error(semantic_latent, expected, self.weights),
            "semantic_codebook": semantic.codebook_loss,
            "semantic_commitment": semantic.commitment_loss,
        }
        if with_acoustic:
            acoustic = self.acoustic(noisy - semantic_latent, self.draw_quantizers(len(latent), random) - 1)
            terms |= {
                "quantized_latent": _error(semantic_latent + acoustic.latent, expected, self.acoustic_weights),
                "acoustic_codebook": acoustic.codebook_loss,
                "acoustic_commitment": acoustic.commitment_loss,
            }
        return terms

    def backward(self, batch: Batch, step: int, position: int) -> dict[str, Tensor]:
        """The codebooks leave to each other what they shall: no gradient moves those weights from zero."""
        scalars = super().backward(batch, step, position)
        self.semantic.projection.weight.grad[ACOUSTIC] = 0
        self.semantic.projection.bias.grad[ACOUSTIC] = 0
        if step >= self.settings.options["acoustic_start"]:
            for quantizer in self.acoustic.quantizers:
                if quantizer.in_proj.weight_v.grad is not None:  # None: no item had so many codebooks
                    quantizer.in_proj.weight_v.grad[:, SEMANTIC] = 0
                    quantizer.out_proj.weight_g.grad[SEMANTIC], quantizer.out_proj.bias.grad[SEMANTIC] = 0, 0
        return scalars

    def draw_quantizers(self, batch_size: int, random: torch.Generator) -> Tensor:
        """Codebooks of each item: 3 for a third of them, 2 for an eighth, any number for the others."""
        n = torch.randint(1, self.codec.n_codebooks + 1, (batch_size,), generator=random)
        n[: batch_size // 3] = min(3, self.codec.n_codebooks)
        n[batch_size // 3 : batch_size // 3 + batch_size // 8] = 2
        return n.to(self.device)

    def measure(self, batch: Batch) -> dict[str, Tensor]:
        """Errors of the encoder's latents, and of those of 1, 3 and all codebooks."""
        latent, expected = self.tell(batch), batch.features["latent"][..., MARGIN:-MARGIN]
        n_codebooks = self.codec.n_codebooks
        decoded = {n: self.codec.dequantize(self.codec.quantize(latent, n)) for n in sorted({1, 3, n_codebooks})}
        errors = {f"error_{n}": _error(each, expected, self.acoustic_weights) for n, each in decoded.items()}
        heard = (decoded[1] - expected)[:, SEMANTIC].square().mean() / expected[:, SEMANTIC].var((0, 2)).mean()
        unquantized = _error(latent, expected, self.acoustic_weights)
        return {"error_unquantized": unquantized, **errors, "not_heard": heard, "error": errors["error_3"]}

    def conclude(self, folder: object) -> None:
        def code(early: Tensor) -> Tensor:
            return self.codec.quantize(self.last(early), self.codec.n_codebooks).short()

        for arrays in (self.job.train, self.job.validation):
            arrays.convert(EARLY, CODES, _by_frames(code, self.job, lambda early: early.T.astype(np.float32)))


def _error(estimate: Tensor, expected: Tensor, weights: Tensor) -> Tensor:
    return (weights * (estimate - expected).square()).mean()


def _by_frames(
    make: Callable[[Tensor], Tensor], job: Job, read: Callable[[np.ndarray], np.ndarray]
) -> Callable[[np.ndarray], np.ndarray]:
    """A function of tensors ``[1, C, T] -> [1, D, L]``, of arrays that `read` gives as ``[C, T]`` or ``[T]``."""

    @torch.no_grad()
    def convert(values: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(read(values)).to(job.accelerator.device)
        return make(given.view(1, -1, given.shape[-1]))[0].T.cpu().numpy()

    return convert


@torch.no_grad()
def spread_entries(codec: ESDCodec, points: Tensor, random: torch.Generator) -> None:
    """Semantic entries that are nearest to none of `points` ``[M, D]`` go to points that are far from any."""
    quantizer, projection = codec.semantic_quantizer, codec.semantic_quantizer.projection
    used = torch.zeros(len(quantizer.codebook), dtype=torch.int64, device=points.device)
    distances = []
    for some in points.split(16384):
        nearest = quantizer(some.T[None])
        used += torch.bincount(nearest.codes.flatten(), minlength=len(used))
        distances.append((nearest.latent[0].T - some).square().sum(1))
    unused = (used == 0).nonzero()[: len(points), 0]
    drawn = torch.multinomial(torch.cat(distances).cpu(), len(unused), generator=random).to(points.device)
    entries = torch.linalg.pinv(projection.weight) @ (points[drawn] - projection.bias).T
    quantizer.codebook[unused] = entries.T


@torch.no_grad()
def renew_entries(codec: ESDCodec, latent: Tensor, random: torch.Generator) -> None:
    """Acoustic entries that nothing in `latent` ``[B, D, L]`` is near to become points of it."""
    residual = latent - codec.decode_semantic(codec.semantic_quantizer(latent).latent)
    for quantizer in codec.acoustic_quantizer.quantizers:
        points = points_of(quantizer.in_proj(residual))
        quantized = quantizer(residual)
        unused = torch.bincount(quantized.codes.flatten(), minlength=quantizer.codebook.num_embeddings) == 0
        unused = unused.nonzero()[: len(points), 0]
        drawn = torch.randperm(len(points), generator=random)[: len(unused)].to(points.device)
        quantizer.codebook.weight[unused] = points[drawn]
        residual = residual - quantized.latent
