"""The bundled model, part by part: a codec whose parts know what to say to each other before they meet.

    python recipes/debian_speech/train_parts.py data/debian_speech --output runs/parts [--minutes 60]

Trained together from random weights, a small codec learns loudness first, then formants, and pitch hardly at all: the
decoder cannot render what the encoder does not tell, and the encoder has no reason to tell what the decoder does not
render. Here both learn a language first that is given: the latent of a frame is an analysis of it (analysis.py).

1. `analyse` computes these latents for all recordings, once;
2. `teacher` asks a Whisper tiny what it hears of them, and gives more room to that (teacher.py);
3. `condition` trains the condition network to render the subband from them, with the phase of the fundamental;
4. `encoder` trains the encoder to tell the latents from the audio;
5. `quantizers` trains quantizers, semantic decoder and the encoder's last block together to tell them in codes, and
   codes everything;
6. `lower` trains the decoder's stages up to 6 kHz on latents of these codes, with an output of their own, against
   discriminators of that output: what is rough about a small codec is below 3 kHz, and these stages cost a third;
7. `upper` trains its last stage against discriminators at 24 kHz, to agree with that output below 2.7 kHz;
8. `decoder` trains the decoder as a whole from there, against the discriminators of both: alone, the last stage finds
   little of what is above 3 kHz in what the others hand on;
9. `join` writes a codec of all these, which the trainer goes on from: `trainer.init=runs/parts/codec`.

`condition` and `encoder` need nothing of each other and can be trained at the same time: --stages says which. Each is
given --minutes, or its own number of steps. Needs `pip install "esdcodec[train,eval]"` (torchcrepe, faster-whisper).
"""

import argparse
import copy
import io
import math
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from analysis import DIM, HOP, PHASE, PITCH, RATE, analysis
from omegaconf import OmegaConf
from teacher import Whisper, language, make_listener, sensitivity
from torch import Tensor, nn

from esdcodec import ESDCodec
from esdcodec.audio import EXTENSIONS, read
from esdcodec.config import config_folder
from esdcodec.model_codec.discriminator import Discriminator
from esdcodec.model_codec.layers import Conv1d, ConvTranspose1d, ResidualUnit, Snake, variance_preserving_init
from esdcodec.model_codec.losses import (
    SUBBAND_WINDOWS,
    WINDOWS,
    adversarial_loss,
    discriminator_loss,
    feature_matching_loss,
    magnitude_loss,
    mel_loss,
)
from esdcodec.model_codec.spectral import decimate, frame_spectrum
from esdcodec.training.initialise import fit_residual_quantizer, fit_simvq, points_of
from esdcodec.training.optimizer import make_optimizer, warmup_cosine

NOISE = 0.1  # added to latents, so that what the encoder will not tell exactly is no surprise
DITHER = 2e-4  # added to audio: most recordings have digital silence above 8 kHz
# Muon's learning rate; the others learn as well with AdamW.
TURN = {"encoder": 0.03, "lower": 0.005, "upper": 0.008, "decoder": 0.004}
STEPS = {
    "teacher": 600,
    "condition": 3000,
    "encoder": 3000,
    "quantizers": 3000,
    "lower": 8000,
    "upper": 1000,
    "decoder": 4000,
}
SPLIT = 3  # stages of the decoder up to 6 kHz
N_DRAWN = (1, 2, 3, 3, 3, 4, 6, 8, 12, 12)  # codebooks in the latents that the decoder learns from, drawn from these


# ---- data ------------------------------------------------------------------------------------------------------------


def recordings(folder: Path, name: str) -> Iterator[np.ndarray]:
    """Waveforms at 24 kHz of all shards NAME-*.tar, completed to whole frames."""
    for shard in sorted(folder.glob(f"{name}-*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                if Path(member.name).suffix in EXTENSIONS:
                    file = tar.extractfile(member)
                    assert file is not None
                    waveform, _ = read(io.BytesIO(file.read()), RATE)
                    yield np.pad(waveform, (0, -len(waveform) % HOP))


def analyse(data: Path, output: Path) -> None:
    for name in ("train", "validation"):
        waveforms, latents = [], []
        for waveform in recordings(data, name):
            waveforms.append((waveform.clip(-1, 1) * 32767).astype(np.int16))
            latents.append(analysis(waveform))
        np.save(output / f"{name}_audio.npy", np.concatenate(waveforms))
        np.save(output / f"{name}_analysis.npy", np.concatenate(latents))
        np.save(output / f"{name}_frames.npy", np.array([len(each) for each in latents]))
        print(f"{name}: {len(latents)} recordings, {sum(map(len, latents))} frames", flush=True)


@torch.no_grad()
def convert(output: Path, given: str, hop: int, made: str, make: Callable[[np.ndarray], Tensor]) -> None:
    """Save as NAME_`made` the ``[1, D, L]`` made of each recording in NAME_`given`, which has `hop` values a frame."""
    for name in ("train", "validation"):
        values, frames = (np.load(output / f"{name}_{what}.npy", mmap_mode="r") for what in (given, "frames"))
        each = [make(value)[0].T.numpy() for value in np.split(values, hop * frames.cumsum()[:-1])]
        np.save(output / f"{name}_{made}.npy", np.concatenate(each))


def waveform_of(samples: np.ndarray) -> np.ndarray:
    return samples.astype(np.float32) / 32768


class Recordings:
    """Segments of recordings: audio ``[B, 1, T]``, and what was saved of their frames as NAME_`what`.

    That is ``[B, D, k · L]``, where k of it were saved for each frame. With the same seed they are the same segments.
    """

    def __init__(self, folder: Path, name: str, seed: int, what: str = "analysis") -> None:
        self.audio = np.load(folder / f"{name}_audio.npy", mmap_mode="r")
        self.frames = np.load(folder / f"{name}_{what}.npy", mmap_mode="r")
        self.lengths = np.load(folder / f"{name}_frames.npy")
        self.ends = self.lengths.cumsum()
        self.random = np.random.default_rng(seed)
        self.per_frame = len(self.frames) // int(self.ends[-1])
        self.mean = self.scale = self.language = None
        if what in ("analysis", "heard"):
            some = np.load(folder / f"train_{what}.npy", mmap_mode="r")[::7].astype(np.float32)
            self.mean, self.scale = some.mean(0), 1 / some.std(0)
        if what == "analysis":
            self.mean[PITCH.start :], self.scale[PITCH.start :] = 0, 3  # zeros stay zeros
            self.language = np.load(folder / "language.npy")

    def draw(self, batch: int, n_frames: int) -> tuple[Tensor, Tensor]:
        long_enough = np.flatnonzero(self.lengths >= n_frames)
        share = self.lengths[long_enough] / self.lengths[long_enough].sum()
        chosen = self.random.choice(long_enough, batch, p=share)
        return self.at(
            [self.random.integers(self.ends[u] - self.lengths[u], self.ends[u] - n_frames + 1) for u in chosen],
            n_frames,
        )

    def at(self, starts: list[int], n_frames: int) -> tuple[Tensor, Tensor]:
        audio = waveform_of(np.stack([self.audio[s * HOP : (s + n_frames) * HOP] for s in starts]))
        frames = np.stack([self.frames[s * self.per_frame : (s + n_frames) * self.per_frame] for s in starts])
        if self.mean is not None:
            frames = (frames - self.mean) * self.scale
        if self.language is not None:
            frames = frames @ self.language
        kind = torch.int64 if frames.dtype.kind == "i" else torch.float32
        noisy = torch.from_numpy(audio)[:, None] + DITHER * torch.randn(len(starts), 1, n_frames * HOP)
        return noisy, torch.from_numpy(frames).to(kind).transpose(1, 2).contiguous()

    def spread(self, batch: int, n_frames: int) -> tuple[Tensor, Tensor]:
        """The same segments every time, from all over the recordings."""
        return self.at([i * (int(self.ends[-1]) - n_frames) // batch for i in range(batch)], n_frames)


class Coded:
    """Segments as the decoder will see them: audio, and latents of the codes of a random number of codebooks."""

    MARGIN = 8  # frames on both sides, which the semantic decoder looks at

    def __init__(self, codec: ESDCodec, folder: Path, name: str, seed: int) -> None:
        self.codec, self.data = codec, Recordings(folder, name, seed, "codes")

    @torch.no_grad()
    def draw(self, batch: int, n_frames: int) -> tuple[Tensor, Tensor]:
        audio, codes = self.data.draw(batch, n_frames + 2 * self.MARGIN)
        return self._trim(audio), torch.cat([self._latent(each, self.data.random.choice(N_DRAWN)) for each in codes])

    @torch.no_grad()
    def spread(self, batch: int, n_frames: int, n: int) -> tuple[Tensor, Tensor]:
        audio, codes = self.data.spread(batch, n_frames + 2 * self.MARGIN)
        return self._trim(audio), torch.cat([self._latent(each, n) for each in codes])

    def _latent(self, codes: Tensor, n: int) -> Tensor:
        return self.codec.dequantize(codes[None, :n])[..., self.MARGIN : -self.MARGIN]

    def _trim(self, audio: Tensor) -> Tensor:
        return audio[..., self.MARGIN * HOP : -self.MARGIN * HOP]


# ---- training --------------------------------------------------------------------------------------------------------


def train(
    name: str,
    networks: list[nn.Module],
    lr: float | torch.optim.Optimizer,
    step: Callable[[], Tensor],
    check: Callable[[], str],
    output: Path,
    minutes: float,
    *,
    betas: tuple[float, float] = (0.9, 0.99),
    clip: float = 5.0,
    after: Callable[[], None] = lambda: None,
) -> None:
    """Train with a cosine schedule until the stage's steps or minutes are over; saves the networks' weights.

    `step` gives the loss of a new batch, `check` a figure of validation; `after` follows every step. In place of a
    learning rate, `lr` may be an optimizer.
    """
    trained = nn.ModuleList(networks)
    parameters = [p for p in trained.parameters() if p.requires_grad]
    optimizer = make_optimizer(trained, muon_lr=TURN.get(name), lr=lr, betas=betas) if isinstance(lr, float) else lr
    schedule = warmup_cosine(optimizer, warmup_steps=50, decay_steps=STEPS[name], final_ratio=0.05)
    started, losses = time.time(), []
    for number in range(1, STEPS[name] + 1):
        loss = step()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        after()
        losses.append(loss.item())
        over = time.time() - started > 60 * minutes or number == STEPS[name]
        if over or number % 50 == 0:
            with torch.no_grad():
                said = check()
            print(f"{name} {number}: {time.time() - started:.0f} s, loss {np.mean(losses):.4f}, {said}", flush=True)
            losses = []
        if over or number % 200 == 0:
            torch.save([network.state_dict() for network in networks], output / f"{name}.pt")
        if over:
            break


def in_bf16() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


def spectrum_below(top: float, audio: Tensor, rate: int, window: int) -> Tensor:
    spectrum = torch.stft(audio, window, window // 4, window, torch.hann_window(window), return_complex=True)
    return spectrum[:, : int(top / rate * window) + 1]


def phase_loss(estimate: Tensor, reference: Tensor, rate: int, windows: tuple[int, ...], top: float) -> Tensor:
    """1 - cosine of the phase difference below `top` Hz of ``[B, T]`` signals, weighed by the root of the magnitude."""
    total = estimate.new_zeros(())
    for window in windows:
        y, x = (spectrum_below(top, each, rate, window)[:, 1:] for each in (estimate, reference))
        weight = x.abs().sqrt()
        cosine = (y * x.conj()).real / ((y.abs() + 1e-4) * x.abs().clamp(min=1e-6))
        total = total + 1 - (weight * cosine).sum() / weight.sum()
    return total / len(windows)


def below_3k(audio: Tensor) -> Tensor:
    """``[B, 1, T]`` at 24 kHz -> ``[B, 1, T / 4]`` at 6 kHz."""
    return decimate(audio[:, 0], 4)[:, None]


def mel_below(estimate: Tensor, reference: Tensor) -> Tensor:
    """Mel distance of signals at 6 kHz."""
    return mel_loss(estimate, reference, RATE // 4, SUBBAND_WINDOWS)


def train_teacher(codec: ESDCodec, output: Path, minutes: float) -> None:
    whisper = Whisper()
    convert(
        output,
        "audio",
        HOP,
        "heard",
        lambda audio: torch.from_numpy(whisper.features(waveform_of(audio)).T.astype(np.float16))[None],
    )
    np.save(output / "language.npy", np.eye(DIM, dtype=np.float32))
    latents, heard = (Recordings(output, "train", 2, what) for what in ("analysis", "heard"))
    validation = [Recordings(output, "validation", 0, what).spread(32, 60)[1] for what in ("analysis", "heard")]
    listener = make_listener()

    def step() -> Tensor:
        latent, features = latents.draw(32, 60)[1], heard.draw(32, 60)[1]
        return F.mse_loss(listener(latent + NOISE * torch.randn_like(latent)), features)

    def check() -> str:
        return f"validation: {F.mse_loss(listener(validation[0]), validation[1]):.3f} of the variance not heard"

    train("teacher", [listener], 1.5e-3, step, check, output, minutes)
    listener.requires_grad_(False)
    heard_of = torch.stack([sensitivity(listener, latents.draw(32, 60)[1]) for _ in range(60)]).mean(0)
    np.save(output / "language.npy", language(heard_of).numpy())


def train_condition(codec: ESDCodec, output: Path, minutes: float) -> None:
    data, validation = Recordings(output, "train", 1), Recordings(output, "validation", 0).spread(24, 50)

    def losses(audio: Tensor, latent: Tensor) -> Tensor:
        subband, magnitude = codec.condition(latent)
        expected = below_3k(audio)
        return torch.stack(
            [
                mel_below(subband, expected),
                magnitude_loss(magnitude, frame_spectrum(expected[:, 0], HOP, HOP // 4).abs()),
                3 * phase_loss(subband[:, 0], expected[:, 0], RATE // 4, (128, 256, 512), 1200.0),
            ]
        )

    def step() -> Tensor:
        audio, latent = data.draw(8, 50)
        return losses(audio, latent + NOISE * torch.randn_like(latent)).sum()

    def check() -> str:
        return "validation: mel {:.3f}, magnitude {:.3f}, phase {:.3f}".format(*losses(*validation).tolist())

    train("condition", [codec.condition_network], 2e-3, step, check, output, minutes)


def train_encoder(codec: ESDCodec, output: Path, minutes: float) -> None:
    data, validation = Recordings(output, "train", 4), Recordings(output, "validation", 0).spread(24, 50)
    weight = torch.ones(DIM, 1)
    weight[PITCH], weight[PHASE] = 2.0, 4.0  # slow to learn, and few of the numbers
    with torch.no_grad():
        codec.encoder[-1].weight_g.mul_(0.5 / codec.encode_latent(validation[0]).std((0, 2)).mean())

    def encode(audio: Tensor) -> Tensor:
        with in_bf16():
            return codec.encode_latent(audio)

    def step() -> Tensor:
        audio, latent = data.draw(8, 25)
        return (weight * (encode(audio) - latent).square()).mean()

    def check() -> str:
        error = (encode(validation[0]) - validation[1]).square()
        lost = [error[:, part].mean() / validation[1][:, part].var((0, 2)).mean() for part in (PITCH, PHASE)]
        return f"validation error {error.mean():.4f}, of pitch {lost[0]:.4f}, of phase {lost[1]:.4f}"

    train("encoder", [codec.encoder], 2e-3, step, check, output, minutes, clip=1.0)


def train_quantizers(codec: ESDCodec, output: Path, minutes: float) -> None:
    codec.encoder.load_state_dict(torch.load(output / "encoder.pt")[0])
    first, last = nn.Sequential(*list(codec.encoder)[:-3]), nn.Sequential(*list(codec.encoder)[-3:])
    convert(output, "audio", HOP, "early", lambda audio: first(torch.from_numpy(waveform_of(audio))[None, None]).half())
    early, latents = (Recordings(output, "train", 3, what) for what in ("early", "analysis"))
    validation = [Recordings(output, "validation", 0, what).spread(32, 112)[1] for what in ("early", "analysis")]
    semantic_quantizer, projection = codec.semantic_quantizer, codec.semantic_quantizer.projection
    quantizers = [semantic_quantizer, codec.semantic_decoder, codec.acoustic_quantizer]
    warm_up = 300  # steps until the semantic latent is what the acoustic codebooks will see
    state = {"step": 0}
    weight = torch.ones(DIM, 1)
    weight[PHASE] = 2.0

    def error(estimate: Tensor, expected: Tensor) -> Tensor:
        return (weight * (estimate - expected).square()).mean()

    def draw(batch: int, n_frames: int = 50) -> tuple[Tensor, Tensor]:
        """What the encoder tells ``[B, D, L]``, and what it should tell; without the frames at both ends."""
        n_frames += 2 * Coded.MARGIN
        inner = slice(Coded.MARGIN, -Coded.MARGIN)
        return tell(early.draw(batch, n_frames)[1])[..., inner], latents.draw(batch, n_frames)[1][..., inner]

    def tell(early: Tensor) -> Tensor:
        with in_bf16():
            return last(early).float()

    @torch.no_grad()
    def told(batch: int, repeats: int = 1) -> Tensor:
        return torch.cat([draw(batch)[0] for _ in range(repeats)])

    @torch.no_grad()
    def forget_phase() -> None:
        """The semantic codebook has better things to say; the first acoustic one takes the phase over."""
        projection.weight[PHASE], projection.bias[PHASE] = 0, 0

    fit_simvq(semantic_quantizer, points_of(told(100, 2)))
    forget_phase()

    def step() -> Tensor:
        state["step"] += 1
        if state["step"] == warm_up:
            with torch.no_grad():
                spread_entries(codec, points_of(told(100, 40)))
                latent = told(100, 3)
                residual = latent - codec.decode_semantic(semantic_quantizer(latent).latent)
                fit_residual_quantizer(codec.acoustic_quantizer, residual)
        elif state["step"] > warm_up and state["step"] % 60 == 0 and state["step"] < 0.7 * STEPS["quantizers"]:
            renew_entries(codec, told(128))
        latent, expected = draw(32)
        if state["step"] < warm_up:
            latent = latent.detach()  # it would be drawn to entries that know nothing yet
        noisy = latent + NOISE / 5 * torch.randn_like(latent)
        semantic = semantic_quantizer(noisy)
        semantic_latent = codec.decode_semantic(semantic.latent)
        loss = error(latent, expected) + error(semantic_latent, expected)
        loss = loss + semantic.codebook_loss + 0.1 * semantic.commitment_loss
        if state["step"] >= warm_up:
            n = torch.randint(0, codec.n_codebooks, (len(latent),))
            n[:10], n[10:14] = 2, 1
            acoustic = codec.acoustic_quantizer(noisy - semantic_latent, n)
            loss = loss + error(semantic_latent + acoustic.latent, expected)
            loss = loss + acoustic.codebook_loss + 0.25 * acoustic.commitment_loss
        return loss

    def check() -> str:
        latent = tell(validation[0])
        decoded = {n: codec.dequantize(codec.quantize(latent, n)) for n in (1, 3, codec.n_codebooks)}
        errors = ", ".join(f"{F.mse_loss(of, validation[1]):.3f} at n = {n}" for n, of in decoded.items())
        return f"validation error {F.mse_loss(latent, validation[1]):.3f}, {errors}"

    trained = nn.ModuleList(quantizers)
    optimizer = torch.optim.AdamW(
        [{"params": [p for p in trained.parameters() if p.requires_grad]}, {"params": last.parameters(), "lr": 4e-4}],
        lr=1.5e-3,
        betas=(0.9, 0.99),
    )
    networks = [*quantizers, codec.encoder]
    train("quantizers", networks, optimizer, step, check, output, minutes, after=forget_phase)

    def code(early: np.ndarray) -> Tensor:
        latent = last(torch.from_numpy(early.T.astype(np.float32))[None])
        return codec.quantize(latent, codec.n_codebooks).short()

    convert(output, "early", codec.config["encoder_rates"][-1], "codes", code)


@torch.no_grad()
def spread_entries(codec: ESDCodec, points: Tensor) -> None:
    """Semantic entries that are nearest to none of `points` ``[M, D]`` go to points that are far from any."""
    quantizer, projection = codec.semantic_quantizer, codec.semantic_quantizer.projection
    used = torch.zeros(len(quantizer.codebook), dtype=torch.int64)
    distances = []
    for some in points.split(16384):
        nearest = quantizer(some.T[None])
        used += torch.bincount(nearest.codes.flatten(), minlength=len(used))
        distances.append((nearest.latent[0].T - some).square().sum(1))
    unused = (used == 0).nonzero()[:, 0]
    chosen = points[torch.multinomial(torch.cat(distances), len(unused))] - projection.bias
    quantizer.codebook[unused] = (torch.linalg.pinv(projection.weight) @ chosen.T).T


@torch.no_grad()
def renew_entries(codec: ESDCodec, latent: Tensor) -> None:
    """Acoustic entries that nothing in `latent` ``[B, D, L]`` is near to become points of it."""
    residual = latent - codec.decode_semantic(codec.semantic_quantizer(latent).latent)
    for quantizer in codec.acoustic_quantizer.quantizers:
        points = points_of(quantizer.in_proj(residual))
        quantized = quantizer(residual)
        unused = torch.bincount(quantized.codes.flatten(), minlength=quantizer.codebook.num_embeddings) == 0
        quantizer.codebook.weight[unused] = points[torch.randperm(len(points))[: int(unused.sum())]]
        residual = residual - quantized.latent


# ---- the decoder -----------------------------------------------------------------------------------------------------


class Opponent:
    """Discriminators that learn from every pair they judge."""

    def __init__(self, lr: float, **sizes: Any) -> None:
        self.network = Discriminator(**sizes)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=lr, betas=(0.8, 0.9))

    def __call__(self, real: Tensor, decoded: Tensor) -> Tensor:
        """Adversarial and feature matching loss of `decoded` ``[B, 1, T]``, after a step of the discriminators."""
        first, second = slice(len(real)), slice(len(real), None)
        maps = self._judge(torch.cat([real, decoded.detach()]))
        known, detected = ([[each[part] for each in judged] for judged in maps] for part in (first, second))
        discriminator_loss(known, detected).backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 10.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.network.requires_grad_(False)
        judged = self._judge(decoded)
        self.network.requires_grad_(True)
        return adversarial_loss(judged) + feature_matching_loss(known, judged)

    def _judge(self, audio: Tensor) -> list[list[Tensor]]:
        with in_bf16():
            maps = self.network(audio)
        return [[each.float() for each in judged] for judged in maps]


class Lower(nn.Module):
    """The decoder up to 6 kHz, with an output of its own: ``[B, D, L] -> [B, C, L · 240]``, and by `head` audio."""

    def __init__(self, codec: ESDCodec) -> None:
        super().__init__()
        decoder = codec.decoder
        width = decoder.snake_out.alpha.shape[1] * 2
        self.conv_in, self.subband_encoder = decoder.conv_in, decoder.subband_encoder
        self.stages = decoder.stages[:SPLIT]
        self.head = nn.Sequential(Snake(width), Conv1d(width, 1, 7))

    def forward(self, latent: Tensor, subband: Tensor) -> Tensor:
        x = self.conv_in(latent)
        for stage, guide in zip(self.stages, self.subband_encoder(subband)):
            x = stage(x, guide)
        return x


class Upper(nn.Module):
    """The decoder's last stage: ``[B, C, L · 240] -> [B, 1, L · 960]``."""

    def __init__(self, codec: ESDCodec) -> None:
        super().__init__()
        decoder = codec.decoder
        self.stages, self.snake_out, self.conv_out = decoder.stages[SPLIT:], decoder.snake_out, decoder.conv_out

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = stage(x, None)
        return torch.tanh(self.conv_out(self.snake_out(x)))


def load_parts(codec: ESDCodec, output: Path, *names: str) -> None:
    networks = {
        "condition": [codec.condition_network],
        "quantizers": [codec.semantic_quantizer, codec.semantic_decoder, codec.acoustic_quantizer, codec.encoder],
        "decoder": [codec.decoder],
    }
    for name in names:
        for network, weights in zip(networks[name], torch.load(output / f"{name}.pt")):
            network.load_state_dict(weights)
    codec.eval()


def train_lower(codec: ESDCodec, output: Path, minutes: float) -> None:
    load_parts(codec, output, "condition", "quantizers")
    codec.condition_network.requires_grad_(False)
    data, (audio, latent) = Coded(codec, output, "train", 5), Coded(codec, output, "validation", 0).spread(24, 50, 3)
    start_decoder(codec, latent)
    lower = Lower(codec)
    with torch.no_grad():
        rendered = lower.head(lower(latent, codec.condition(latent)[0]))
        lower.head[1].weight_g.mul_(0.07 / rendered.std())
    averaged = Average(lower)
    opponent = opponent_below()

    def render(network: nn.Module, latent: Tensor) -> Tensor:
        with torch.no_grad():
            subband, _ = codec.condition(latent)
        with in_bf16():
            return network.head(network(latent, subband)).float()

    def step() -> Tensor:
        audio, latent = data.draw(6, 32)
        expected, rendered = below_3k(audio), render(lower, latent)
        loss = 5 * mel_below(rendered, expected)
        return loss + phase_below(rendered, expected) + opponent(expected, rendered)

    def check() -> str:
        return f"validation mel {mel_below(render(averaged.network, latent), below_3k(audio)):.3f}"

    train("lower", [lower], 4e-4, step, check, output, minutes, betas=(0.8, 0.9), clip=1e4, after=averaged.update)
    torch.save([averaged.network.state_dict(), opponent.network.state_dict()], output / "lower.pt")


def opponent_below() -> Opponent:
    return Opponent(
        4e-4,
        period_channels=(16, 32, 64, 64),
        windows=(),
        spectrograms={512: 64, 256: 32},
        spectrogram_channels=(12, 24, 32, 32),
    )


def opponent_whole() -> Opponent:
    return Opponent(4e-4, **OmegaConf.load(config_folder() / "model/25hz_nano.yaml").discriminator)


def phase_below(decoded: Tensor, expected: Tensor) -> Tensor:
    return phase_loss(decoded[:, 0], expected[:, 0], RATE // 4, (256, 512), 600.0)


class Average:
    """Moving average of a network's weights."""

    def __init__(self, network: nn.Module) -> None:
        self.source, self.network = network, copy.deepcopy(network).requires_grad_(False)

    @torch.no_grad()
    def update(self) -> None:
        for mean, now in zip(self.network.parameters(), self.source.parameters()):
            mean.lerp_(now, 0.005)


def train_upper(codec: ESDCodec, output: Path, minutes: float) -> None:
    load_parts(codec, output, "condition", "quantizers")
    data, (audio, latent) = Coded(codec, output, "train", 6), Coded(codec, output, "validation", 0).spread(16, 50, 3)
    start_decoder(codec, latent)
    lower, upper = Lower(codec), Upper(codec)
    lower.load_state_dict(torch.load(output / "lower.pt")[0])
    codec.condition_network.requires_grad_(False)
    opponent = opponent_whole()

    def render(latent: Tensor) -> tuple[Tensor, Tensor]:
        with in_bf16():
            with torch.no_grad():
                features = lower(latent, codec.condition(latent)[0])
                guide = lower.head(features)
            return upper(features).float(), guide.float()

    def step() -> Tensor:
        audio, latent = data.draw(4, 25)
        decoded, guide = render(latent)
        loss = 5 * mel_loss(decoded, audio, RATE, WINDOWS) + 10 * agreement(decoded, guide)
        return loss + opponent(audio, decoded)

    def check() -> str:
        decoded, guide = render(latent)
        said = mel_loss(decoded, audio, RATE, WINDOWS), agreement(decoded, guide)
        return "validation mel {:.3f}, disagreement {:.3f}".format(*said)

    train("upper", [upper], 6e-4, step, check, output, minutes, betas=(0.8, 0.9), clip=1e4)
    torch.save([upper.state_dict(), opponent.network.state_dict()], output / "upper.pt")


def agreement(decoded: Tensor, guide: Tensor) -> Tensor:
    """Distance of the spectra below 2.7 kHz of audio at 24 kHz and at 6 kHz, weighed by the root of the magnitude."""
    total = decoded.new_zeros(())
    for window in (128, 256, 512):
        y, x = (spectrum_below(2700.0, each[:, 0], RATE // 4, window) for each in (below_3k(decoded), guide))
        root = (x.abs() + 1e-3).sqrt()
        total = total + ((y - x).abs() / root).sum() / root.sum()
    return total / 3


def train_decoder(codec: ESDCodec, output: Path, minutes: float) -> None:
    load_parts(codec, output, "condition", "quantizers")
    data, (audio, latent) = Coded(codec, output, "train", 7), Coded(codec, output, "validation", 0).spread(12, 50, 3)
    opponents = below, whole = opponent_below(), opponent_whole()
    for part, opponent, name in zip((Lower(codec), Upper(codec)), opponents, ("lower", "upper")):
        for network, weights in zip((part, opponent.network), torch.load(output / f"{name}.pt")):
            network.load_state_dict(weights)
    codec.condition_network.requires_grad_(False)
    averaged = Average(codec.decoder)

    def render(decoder: nn.Module, latent: Tensor) -> Tensor:
        with in_bf16():
            with torch.no_grad():
                subband, _ = codec.condition(latent)
            return decoder(latent, subband).float()

    def step() -> Tensor:
        audio, latent = data.draw(8, 25)
        decoded = render(codec.decoder, latent)
        expected, heard = below_3k(audio), below_3k(decoded)
        mel = mel_loss(decoded, audio, RATE, WINDOWS) + mel_below(heard, expected)
        return 4 * mel + phase_below(heard, expected) + below(expected, heard) + whole(audio, decoded)

    def check() -> str:
        return f"validation mel {mel_loss(render(averaged.network, latent), audio, RATE, WINDOWS):.3f}"

    network = codec.decoder
    train("decoder", [network], 3e-4, step, check, output, minutes, betas=(0.8, 0.9), clip=1e4, after=averaged.update)
    torch.save([averaged.network.state_dict()], output / "decoder.pt")


@torch.no_grad()
def start_decoder(codec: ESDCodec, latent: Tensor) -> None:
    """Start the decoder's convolutions so that each gives unit variance, and the audio is as loud as speech.

    Measured layer by layer, on the way: where activations grow, Snake no longer bends them, and the last gain becomes
    so small that every step of an optimizer throws it about.
    """
    decoder = codec.decoder
    variance_preserving_init(decoder)
    deviation = dict.fromkeys([unit[-1] for unit in decoder.modules() if isinstance(unit, ResidualUnit)], 0.3)
    deviation[decoder.conv_out] = 0.1

    def scale(layer: Conv1d | ConvTranspose1d, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        factor = deviation.get(layer, 1.0) / output.std()
        layer.weight_g.mul_(factor)
        return output * factor

    hooks = [
        layer.register_forward_hook(scale) for layer in decoder.modules() if isinstance(layer, Conv1d | ConvTranspose1d)
    ]
    codec.decode_latent(latent)
    for hook in hooks:
        hook.remove()


def join(codec: ESDCodec, output: Path) -> None:
    load_parts(codec, output, "condition", "quantizers", "decoder")
    codec.save_pretrained(output / "codec")
    print(f"wrote {output / 'codec'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="what prepare.py wrote")
    parser.add_argument("--output", type=Path, default=Path("runs/parts"))
    stages = ["analyse", "teacher", "condition", "encoder", "quantizers", "lower", "upper", "decoder", "join"]
    parser.add_argument("--stages", nargs="+", choices=stages, default=stages, help="(default: all)")
    parser.add_argument("--sizes", nargs="*", default=[], metavar="KEY=VALUE", help="other than conf/model/25hz_nano")
    parser.add_argument("--minutes", type=float, default=math.inf, help="that a training stage may take")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    config = OmegaConf.load(config_folder() / "model/25hz_nano.yaml").codec
    config.merge_with_dotlist(args.sizes)
    for stage in args.stages:
        torch.manual_seed(0)
        codec = ESDCodec(**OmegaConf.to_container(config))
        if stage == "analyse":
            analyse(args.data, args.output)
        elif stage == "join":
            join(codec, args.output)
        else:
            globals()[f"train_{stage}"](codec, args.output, args.minutes)


if __name__ == "__main__":
    main()
