"""From latents to audio: the condition network, then the decoder up to 6 kHz, its last stage, and all of it."""

from collections.abc import Mapping
from pathlib import Path

import torch
from analysis import HEARD, HOP, RATE
from data import Frames
from decoder_parts import LowerDecoder, start_decoder, with_decoder
from latent_stages import CODES, MARGIN
from safetensors.torch import load_file, save_file
from spectra import agreement, below_3k, phase_loss, subband_mel
from stage import Stage, noise_like
from torch import Tensor, nn

from esdcodec import ESDCodec
from esdcodec.dataset.batch import Batch
from esdcodec.model_codec.decoder import Decoder
from esdcodec.model_codec.discriminator import Discriminator
from esdcodec.model_codec.losses import WINDOWS, magnitude_loss, mel_loss
from esdcodec.model_codec.spectral import frame_spectrum
from esdcodec.training.export import export, load_discriminator
from esdcodec.training.objective import AdversarialPass

N_DRAWN = (1, 2, 3, 3, 3, 4, 6, 8, 12, 12)  # codebooks in the latents that the decoder learns from, drawn from these
HEAD = "head.safetensors"


class ConditionStage(Stage):
    """The condition network learns to render the subband from the given latents, with the fundamental's phase.

    What the teacher heard is left out: codes tell another part of it than recordings do, and the analysis tells all.
    """

    learns = ("condition",)
    name, terms, score = "condition", ("mel", "magnitude", "phase"), "mel"

    def build(self) -> None:
        with torch.no_grad():
            self.codec.condition_network.conv_in.weight[:, HEARD] = 0
        self.learn("condition", nn.ModuleList([self.codec.condition_network]))  # in float32

    def losses(self, batch: Batch, step: int, random: torch.Generator) -> dict[str, Tensor]:
        latent = batch.features["latent"]
        return self.compare(latent + self.settings.noise * noise_like(latent, random), batch.audio)

    def measure(self, batch: Batch) -> dict[str, Tensor]:
        return self.compare(batch.features["latent"], batch.audio)

    def compare(self, latent: Tensor, audio: Tensor) -> dict[str, Tensor]:
        latent = latent.clone()
        latent[:, HEARD] = 0
        subband, magnitude = self.codec.condition(latent)
        expected = below_3k(audio)
        return {
            "mel": subband_mel(subband, expected),
            "magnitude": magnitude_loss(magnitude, frame_spectrum(expected[:, 0], HOP, HOP // 4).abs()),
            "phase": phase_loss(subband, expected, (128, 256, 512), 1200.0),
        }


# ---- the decoder, on latents of codes --------------------------------------------------------------------------------


class AudioStage(Stage):
    """Learns from the latents of the codes of a random number of codebooks, against discriminators."""

    margin, score = MARGIN, "mel"

    def frames(self) -> Mapping[str, Frames]:
        return {"codes": Frames(CODES)}

    @torch.no_grad()
    def inputs(self, batch: Batch, n_quantizers: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Audio ``[B, 1, T]``, latents ``[B, D, L]`` and their subband ``[B, 1, T / 4]``, without the margin."""
        codes = batch.features["codes"]
        latents = [self.codec.dequantize(each[None, :n]) for each, n in zip(codes, n_quantizers)]
        latent = torch.cat(latents)[..., MARGIN:-MARGIN]
        return batch.audio[..., MARGIN * HOP : -MARGIN * HOP], latent, self.codec.condition(latent)[0]

    def drawn(self, batch: Batch, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        chosen = torch.randint(len(N_DRAWN), (len(batch.audio),), generator=random).tolist()
        return self.inputs(batch, [min(N_DRAWN[i], self.codec.n_codebooks) for i in chosen])

    def with_three(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        return self.inputs(batch, [min(3, self.codec.n_codebooks)] * len(batch.audio))

    def discriminators(self, name: str, start: str | None = None) -> AdversarialPass:
        """Discriminators of this name, new or those in a folder or file of the run."""
        network = Discriminator(**self.job.discriminators[name])
        if start is not None:
            load_discriminator(network, self.job.folder / start)
        return AdversarialPass(self.accelerator, self.learn(name, network))

    def adversarial(self, judge: AdversarialPass, real: Tensor, decoded: Tensor) -> dict[str, Tensor]:
        terms, scalars = judge(real, decoded)
        self.scalars |= scalars
        return terms


class LowerStage(AudioStage):
    """The decoder's stages up to 6 kHz, with an output of their own: below 3 kHz is what sounds rough about it."""

    learns = ("lower", "below")
    name, terms = "lower", ("mel", "phase", "adversarial", "feature_matching")

    def build(self) -> None:
        _, latent, subband = self.with_three(self.held_out)
        start_decoder(self.codec, latent)
        self.codec.decoder.requires_grad_(False)
        for part in (self.codec.decoder.conv_in, self.codec.decoder.subband_encoder, self.codec.decoder.stages[:-1]):
            part.requires_grad_(True)
        network = LowerDecoder(self.codec.decoder).to(self.device)
        with torch.no_grad():
            network.head[1].weight_g.mul_(0.07 / network.audio(latent, subband).std())
        self.network = self.learn("lower", network, self.settings.ema_decay)
        self.judge = self.discriminators("below")

    def render(self, network: "LowerDecoder", latent: Tensor, subband: Tensor) -> Tensor:
        with self.accelerator.autocast():
            return network.audio(latent, subband).float()

    def losses(self, batch: Batch, step: int, random: torch.Generator) -> dict[str, Tensor]:
        audio, latent, subband = self.drawn(batch, random)
        expected, rendered = below_3k(audio), self.render(self.network.unwrapped, latent, subband)
        return {
            "mel": subband_mel(rendered, expected),
            "phase": phase_loss(rendered, expected, (256, 512), 600.0),
            **self.adversarial(self.judge, expected, rendered),
        }

    def measure(self, batch: Batch) -> dict[str, Tensor]:
        audio, latent, subband = self.with_three(batch)
        return {"mel": subband_mel(self.render(self.network.averaged, latent, subband), below_3k(audio))}

    def export(self, folder: Path) -> None:
        averaged: LowerDecoder = self.network.averaged
        export(folder, with_decoder(self.codec, averaged.decoder), self.judge.discriminator.unwrapped)
        save(averaged.head, folder / HEAD)


class UpperStage(AudioStage):
    """The decoder's last stage, which is to agree below 2.7 kHz with the output of the stages before."""

    learns = ("upper", "whole")
    name, terms = "upper", ("mel", "agreement", "adversarial", "feature_matching")

    def build(self) -> None:
        decoder = self.codec.decoder
        self.lower = LowerDecoder(decoder).to(self.device)
        self.lower.head.load_state_dict(load_file(self.job.folder / "lower/export" / HEAD))
        decoder.requires_grad_(False)
        for part in (decoder.stages[-1], decoder.snake_out, decoder.conv_out):
            part.requires_grad_(True)
        self.learn("upper", decoder)
        self.judge = self.discriminators("whole")

    def render(self, latent: Tensor, subband: Tensor) -> tuple[Tensor, Tensor]:
        """Audio at 24 kHz, and that of the stages before at 6 kHz."""
        decoder = self.codec.decoder
        with self.accelerator.autocast():
            with torch.no_grad():
                features = self.lower(latent, subband)
                guide = self.lower.head(features)
            x = decoder.stages[-1](features, None)
            return torch.tanh(decoder.conv_out(decoder.snake_out(x))).float(), guide.float()

    def losses(self, batch: Batch, step: int, random: torch.Generator) -> dict[str, Tensor]:
        audio, latent, subband = self.drawn(batch, random)
        decoded, guide = self.render(latent, subband)
        return {
            "mel": mel_loss(decoded, audio, RATE, WINDOWS),
            "agreement": agreement(decoded, guide),
            **self.adversarial(self.judge, audio, decoded),
        }

    def measure(self, batch: Batch) -> dict[str, Tensor]:
        audio, latent, subband = self.with_three(batch)
        decoded, guide = self.render(latent, subband)
        return {"mel": mel_loss(decoded, audio, RATE, WINDOWS), "disagreement": agreement(decoded, guide)}

    def export(self, folder: Path) -> None:
        export(folder, self.codec, self.judge.discriminator.unwrapped)


class DecoderStage(AudioStage):
    """The decoder as a whole, against both: alone, the last stage finds little of what is above 3 kHz in the others."""

    learns = ("decoder", "below", "whole")
    name, terms = "decoder", ("mel", "subband_mel", "phase", "adversarial", "feature_matching")
    # where the discriminators of the output below 3 kHz and of the whole one begin, below the run's folder; None: anew
    judges: Mapping[str, str | None] = {"below": "lower/export", "whole": "upper/export"}

    def build(self) -> None:
        self.network = self.learn("decoder", self.codec.decoder, self.settings.ema_decay)
        self.below, self.whole = (self.discriminators(*each) for each in self.judges.items())

    def render(self, decoder: Decoder, latent: Tensor, subband: Tensor) -> Tensor:
        with self.accelerator.autocast():
            return decoder(latent, subband).float()

    def losses(self, batch: Batch, step: int, random: torch.Generator) -> dict[str, Tensor]:
        audio, latent, subband = self.drawn(batch, random)
        decoded = self.render(self.network.unwrapped, latent, subband)
        expected, heard = below_3k(audio), below_3k(decoded)
        whole, below = self.adversarial(self.whole, audio, decoded), self.adversarial(self.below, expected, heard)
        return {
            "mel": mel_loss(decoded, audio, RATE, WINDOWS),
            "subband_mel": subband_mel(heard, expected),
            "phase": phase_loss(heard, expected, (256, 512), 600.0),
            **{name: whole[name] + below[name] for name in whole},
        }

    def measure(self, batch: Batch) -> dict[str, Tensor]:
        audio, latent, subband = self.with_three(batch)
        return {"mel": mel_loss(self.render(self.network.averaged, latent, subband), audio, RATE, WINDOWS)}

    def handed_on(self) -> ESDCodec:
        return with_decoder(self.codec, self.network.averaged)

    def export(self, folder: Path) -> None:
        super().export(folder)
        for name, judge in zip(self.judges, (self.below, self.whole)):
            save(judge.discriminator.unwrapped, folder / f"{name}.safetensors")


class PolishStage(DecoderStage):
    """The decoder further, against discriminators of short windows that know nothing yet, and that Muon teaches.

    They hear single periods of a voice.
    """

    name, learns = "polish", ("decoder", "below", "fine")
    judges: Mapping[str, str | None] = {"below": "decoder/export/below.safetensors", "fine": None}


def save(network: nn.Module, path: Path) -> None:
    save_file({name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}, path)
