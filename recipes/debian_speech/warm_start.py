"""A codec whose parts know what to say to each other before they are trained together.

    python recipes/debian_speech/warm_start.py data/debian_speech --output runs/warm_start [--minutes 40]

Trained together from random weights, a small codec learns loudness first, then formants, and pitch hardly at all: the
decoder cannot render what the encoder does not tell, and the encoder has no reason to tell what the decoder does not
render. Here both learn a language first that is given: the latent of a frame is an analysis of it, made without any
network (two mel spectra, pitch as a soft position on a scale of semitones, voicing, loudness). From it

1. `analyse` computes these latents for all recordings, once;
2. `condition` trains the condition network to render the subband from them, which is fast (25 frames a second);
3. `decoder` trains the decoder on both;
4. `encoder` trains the encoder to tell the latents from the audio;
5. `quantizers` fits and trains the quantizers and the semantic decoder on what that encoder tells;
6. `join` writes a codec of all these, which the trainer starts from: `trainer.init=runs/warm_start/codec`.

The encoder needs neither `condition` nor `decoder`, so it can be trained at the same time: --stages says which. Each is
given --minutes, or its own number of steps. Needs `pip install "esdcodec[train,eval]"` (torchcrepe).
"""

import argparse
import io
import math
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Tensor, nn

from esdcodec import ESDCodec
from esdcodec.audio import EXTENSIONS, read, resample
from esdcodec.config import config_folder
from esdcodec.model_codec.layers import Conv1d, ConvTranspose1d, ResidualUnit, keep_variance
from esdcodec.model_codec.losses import SUBBAND_WINDOWS, WINDOWS, magnitude_loss, mel_loss
from esdcodec.model_codec.spectral import decimate, frame_spectrum, mel_filters
from esdcodec.training.initialise import fit_residual_quantizer, fit_simvq, points_of
from esdcodec.training.optimizer import make_optimizer
from esdcodec.training.schedule import warmup_cosine

RATE, HOP = 24000, 960
N_MELS, N_PITCHES = 60, 38  # two mel spectra a frame, 38 semitones, voicing, loudness: 160
SEMITONES = 1200 * math.log2(6.2) + 100 * np.arange(N_PITCHES)  # cents above 10 Hz, from 62 Hz
PITCH = slice(2 * N_MELS, 2 * N_MELS + N_PITCHES)
NOISE = 0.1  # added to latents, so that what the encoder will not tell exactly is no surprise
TURN = {"decoder": 0.02, "encoder": 0.03}  # Muon's learning rate; the others learn as well with AdamW
STEPS = {"condition": 3000, "decoder": 2000, "quantizers": 1000, "encoder": 3000}


# ---- analysis --------------------------------------------------------------------------------------------------------


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


def analysis(waveform: np.ndarray) -> np.ndarray:
    """``[L · 960] -> [L, 160]``."""
    import torchcrepe

    n_frames = len(waveform) // HOP
    # two frames of 40 ms, centred on the quarters of the codec's
    padded = F.pad(torch.from_numpy(waveform), (512 - HOP // 4, 512 + HOP))
    spectrum = torch.stft(padded, 1024, HOP // 2, HOP, torch.hann_window(HOP), center=False, return_complex=True).abs()
    mels = (mel_filters(RATE, 1024, N_MELS) @ spectrum[:, : 2 * n_frames]).clamp(min=1e-4).log()
    mels = mels.view(N_MELS, n_frames, 2).permute(1, 2, 0).reshape(n_frames, -1).numpy()

    at_16k = np.pad(resample(waveform, RATE, 16000), (0, 2000))[320:]  # centred on the codec's frames
    pitch, periodicity = torchcrepe.predict(
        torch.from_numpy(at_16k)[None],
        16000,
        640,
        55,
        550,
        "tiny",
        return_periodicity=True,
        batch_size=512,
        device="cpu",
        decoder=torchcrepe.decode.weighted_argmax,
    )
    loudness = mels.mean(1, keepdims=True)
    voicing = (periodicity[0, :n_frames, None].numpy() - 0.2).clip(0, 0.6) / 0.6 * (loudness > -8)
    cents = 1200 * np.log2(pitch[0, :n_frames, None].numpy() / 10)
    position = np.exp(-0.5 * ((cents - SEMITONES) / 100) ** 2) * voicing
    return np.concatenate([mels, position, voicing, loudness], axis=1).astype(np.float16)


def analyse(data: Path, output: Path) -> None:
    for name in ("train", "validation"):
        waveforms, latents = [], []
        for waveform in recordings(data, name):
            waveforms.append((waveform.clip(-1, 1) * 32767).astype(np.int16))
            latents.append(analysis(waveform))
        np.save(output / f"{name}_audio.npy", np.concatenate(waveforms))
        np.save(output / f"{name}_latents.npy", np.concatenate(latents))
        np.save(output / f"{name}_frames.npy", np.array([len(each) for each in latents]))
        print(f"{name}: {len(latents)} recordings, {sum(map(len, latents))} frames", flush=True)


def listen(codec: ESDCodec, output: Path) -> None:
    """Latents of all recordings as the trained encoder tells them."""
    for name in ("train", "validation"):
        audio, frames = (np.load(output / f"{name}_{what}.npy", mmap_mode="r") for what in ("audio", "frames"))
        with torch.no_grad():
            told = [
                codec.encode_latent(torch.from_numpy(each.astype(np.float32) / 32768)[None, None])[0].T.half().numpy()
                for each in np.split(audio, HOP * frames.cumsum()[:-1])
            ]
        np.save(output / f"{name}_told.npy", np.concatenate(told))


class Recordings:
    """Segments of recordings: audio ``[B, 1, T]`` and latents ``[B, 160, L]``, analysed and normalised, or as told."""

    def __init__(self, folder: Path, name: str, seed: int, *, told: bool = False) -> None:
        self.audio = np.load(folder / f"{name}_audio.npy", mmap_mode="r")
        self.latents = np.load(folder / f"{name}_{'told' if told else 'latents'}.npy", mmap_mode="r")
        self.lengths = np.load(folder / f"{name}_frames.npy")
        self.ends = self.lengths.cumsum()
        self.mean, self.scale = np.zeros(160, np.float32), np.ones(160, np.float32)
        if not told:
            some = np.load(folder / "train_latents.npy", mmap_mode="r")[::7].astype(np.float32)
            self.mean, self.scale = some.mean(0), 1 / some.std(0)
            self.mean[PITCH], self.scale[PITCH] = 0, 3  # zeros stay zeros
        self.random = np.random.default_rng(seed)

    def draw(self, batch: int, n_frames: int) -> tuple[Tensor, Tensor]:
        long_enough = np.flatnonzero(self.lengths >= n_frames)
        share = self.lengths[long_enough] / self.lengths[long_enough].sum()
        chosen = self.random.choice(long_enough, batch, p=share)
        return self.at(
            [self.random.integers(self.ends[u] - self.lengths[u], self.ends[u] - n_frames + 1) for u in chosen],
            n_frames,
        )

    def at(self, starts: list[int], n_frames: int) -> tuple[Tensor, Tensor]:
        audio = np.stack([self.audio[s * HOP : (s + n_frames) * HOP] for s in starts]).astype(np.float32) / 32768
        latents = np.stack([(self.latents[s : s + n_frames] - self.mean) * self.scale for s in starts])
        return torch.from_numpy(audio)[:, None], torch.from_numpy(latents).float().transpose(1, 2).contiguous()

    def spread(self, batch: int, n_frames: int) -> tuple[Tensor, Tensor]:
        """The same segments every time, from all over the recordings."""
        return self.at([i * (len(self.latents) - n_frames) // batch for i in range(batch)], n_frames)


# ---- training --------------------------------------------------------------------------------------------------------

Step = Callable[[], Tensor]


def train(
    name: str, networks: list[nn.Module], lr: float, step: Step, check: Callable[[], str], output: Path, minutes: float
) -> None:
    """Train with a cosine schedule until the stage's steps or minutes are over; saves the networks' weights."""
    trained = nn.ModuleList(networks)
    parameters = list(trained.parameters())
    optimizer = make_optimizer(trained, muon_lr=TURN.get(name), lr=lr, betas=(0.9, 0.99))
    schedule = warmup_cosine(optimizer, warmup_steps=100, decay_steps=STEPS[name], final_ratio=0.05)
    started, losses = time.time(), []
    for number in range(1, STEPS[name] + 1):
        loss = step()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0 if name == "encoder" else 5.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
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


def rendering_loss(audio: Tensor, subband: Tensor, magnitude: Tensor) -> Tensor:
    """What the trainer asks of the condition network."""
    expected = decimate(audio[:, 0], 4)
    mel = mel_loss(subband, expected[:, None], RATE // 4, SUBBAND_WINDOWS)
    return mel + magnitude_loss(magnitude, frame_spectrum(expected, HOP, HOP // 4).abs())


def train_condition(codec: ESDCodec, output: Path, minutes: float) -> None:
    data, validation = Recordings(output, "train", 1), Recordings(output, "validation", 0).spread(24, 50)

    def step() -> Tensor:
        audio, latent = data.draw(8, 50)
        return rendering_loss(audio, *codec.condition(latent + NOISE * torch.randn_like(latent)))

    def check() -> str:
        return f"validation {rendering_loss(validation[0], *codec.condition(validation[1])):.3f}"

    train("condition", [codec.condition_network], 2e-3, step, check, output, minutes)


def train_decoder(codec: ESDCodec, output: Path, minutes: float) -> None:
    (weights,) = torch.load(output / "condition.pt")
    codec.condition_network.load_state_dict(weights)
    data, validation = Recordings(output, "train", 2), Recordings(output, "validation", 0).spread(16, 50)
    start_decoder(codec, validation[1])

    def decode(latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            return codec.decode_latent(latent)

    def step() -> Tensor:
        audio, latent = data.draw(4, 25)
        decoded, subband, magnitude = decode(latent + NOISE * torch.randn_like(latent))
        return mel_loss(decoded, audio, RATE, WINDOWS) + rendering_loss(audio, subband, magnitude)

    def check() -> str:
        return f"validation mel {mel_loss(decode(validation[1])[0], validation[0], RATE, WINDOWS):.3f}"

    train("decoder", [codec.decoder, codec.condition_network], 1e-3, step, check, output, minutes)


@torch.no_grad()
def start_decoder(codec: ESDCodec, latent: Tensor) -> None:
    """Start the decoder's convolutions so that each gives unit variance, and the audio is as loud as speech.

    Measured layer by layer, on the way: where activations grow, Snake no longer bends them, and the last gain becomes
    so small that every step of an optimizer throws it about.
    """
    decoder = codec.decoder
    keep_variance(decoder)
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


def train_encoder(codec: ESDCodec, output: Path, minutes: float) -> None:
    data, validation = Recordings(output, "train", 4), Recordings(output, "validation", 0).spread(24, 50)
    weight = torch.ones(codec.config["latent_dim"], 1)
    weight[PITCH.start : PITCH.stop + 1] = 2.0  # pitch and voicing: slow to learn, and few of the numbers
    with torch.no_grad():
        codec.encoder[-1].weight_g.mul_(0.5 / codec.encode_latent(validation[0]).std((0, 2)).mean())

    def encode(audio: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return codec.encode_latent(audio)

    def step() -> Tensor:
        audio, latent = data.draw(8, 25)
        return (weight * (encode(audio) - latent).square()).mean()

    def check() -> str:
        error = (encode(validation[0]) - validation[1]).square()
        pitch = error[:, PITCH].mean() / validation[1][:, PITCH].var((0, 2)).mean()
        return f"validation error {error.mean():.4f}, of mels {error[:, : PITCH.start].mean():.4f}, pitch {pitch:.4f}"

    train("encoder", [codec.encoder], 2e-3, step, check, output, minutes)


def train_quantizers(codec: ESDCodec, output: Path, minutes: float) -> None:
    codec.encoder.load_state_dict(torch.load(output / "encoder.pt")[0])
    codec.encoder.eval()
    listen(codec, output)
    data = Recordings(output, "train", 3, told=True)
    validation = Recordings(output, "validation", 0, told=True).spread(40, 100)
    warm_up = 300  # steps until the semantic latent is what the acoustic codebooks will see

    fit_simvq(codec.semantic_quantizer, points_of(data.draw(200, 50)[1]))
    state = {"step": 0}

    def step() -> Tensor:
        state["step"] += 1
        if state["step"] == warm_up:
            with torch.no_grad():
                latent = data.draw(300, 50)[1]
                residual = latent - codec.decode_semantic(codec.semantic_quantizer(latent).latent)
                fit_residual_quantizer(codec.acoustic_quantizer, residual)
        latent = data.draw(48, 50)[1]
        latent = latent + NOISE / 2 * torch.randn_like(latent)
        semantic = codec.semantic_quantizer(latent)
        semantic_latent = codec.decode_semantic(semantic.latent)
        loss = F.mse_loss(semantic_latent, latent) + semantic.codebook_loss
        if state["step"] >= warm_up:
            n = torch.randint(0, codec.n_codebooks, (len(latent),))
            acoustic = codec.acoustic_quantizer(latent - semantic_latent, n)
            loss = loss + F.mse_loss(semantic_latent + acoustic.latent, latent)
            loss = loss + acoustic.codebook_loss + 0.25 * acoustic.commitment_loss
        return loss

    def check() -> str:
        latent = validation[1]
        errors = {
            n: F.mse_loss(codec.dequantize(codec.quantize(latent, n)), latent).item() for n in (1, 3, codec.n_codebooks)
        }
        return "error " + ", ".join(f"{error:.3f} at n = {n}" for n, error in errors.items())

    networks = [codec.semantic_quantizer, codec.semantic_decoder, codec.acoustic_quantizer]
    train("quantizers", networks, 2e-3, step, check, output, minutes)


def join(codec: ESDCodec, output: Path) -> None:
    parts = {
        "decoder": [codec.decoder, codec.condition_network],
        "quantizers": [codec.semantic_quantizer, codec.semantic_decoder, codec.acoustic_quantizer],
        "encoder": [codec.encoder],
    }
    for name, networks in parts.items():
        for network, weights in zip(networks, torch.load(output / f"{name}.pt")):
            network.load_state_dict(weights)
    codec.save_pretrained(output / "codec")
    print(f"wrote {output / 'codec'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="what prepare.py wrote")
    parser.add_argument("--output", type=Path, default=Path("runs/warm_start"))
    stages = ["analyse", "condition", "decoder", "encoder", "quantizers", "join"]
    parser.add_argument("--stages", nargs="+", choices=stages, default=stages, help="(default: all)")
    parser.add_argument("--sizes", nargs="*", default=[], metavar="KEY=VALUE", help="other than conf/model/25hz_nano")
    parser.add_argument("--minutes", type=float, default=math.inf, help="that a training stage may take")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    config = OmegaConf.load(config_folder() / "model/25hz_nano.yaml").codec
    config.merge_with_dotlist(args.sizes)
    codec = ESDCodec(**OmegaConf.to_container(config))
    for stage in args.stages:
        if stage == "analyse":
            analyse(args.data, args.output)
        elif stage == "join":
            join(codec, args.output)
        else:
            globals()[f"train_{stage}"](codec, args.output, args.minutes)


if __name__ == "__main__":
    main()
