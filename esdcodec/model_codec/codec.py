"""ESDCodec: 24 kHz speech to 25 frames a second of integer codes, and back."""

import hashlib
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .chunking import decoding, encoding, framed, unframed
from .condition import ConditionNetwork
from .decoder import Decoder
from .encoder import Encoder, SemanticDecoder
from .inference import Snapshot, inference_form
from .inputs import (
    Audio,
    check_audio,
    check_codes,
    check_config,
    check_gain,
    check_integer,
    check_lengths,
    check_n_quantizers,
    check_sample_rate,
)
from .layers import full_precision
from .quantizer import ResidualVectorQuantizer, SimVQ
from .streaming import StreamDecoder, StreamEncoder

_COMPILED = "_orig_mod."  # what `torch.compile` puts into the names of a module's parameters
_MAKING = threading.Lock()  # an inference form: once, however many threads ask
CHUNK_SECONDS = 20.0  # longer audio goes through the network in chunks; context then adds a few percent


@dataclass(frozen=True)
class Reconstruction:
    """What `ESDCodec.forward` gives: the audio, and what the objective needs to judge it."""

    audio: Tensor  # [B, 1, T]
    codes: Tensor  # [B, K, L] int64, of all codebooks
    semantic_latent: Tensor  # [B, D, L], what a distillation teacher is compared with
    subband: Tensor  # [B, 1, subband_hop_length · L]
    subband_magnitude: Tensor  # [B, N, L], as predicted
    losses: dict[str, Tensor]  # scalars: the quantizers' terms of the objective


class ESDCodec(nn.Module):
    """Neural speech codec with a semantic first codebook.

    ```
    audio [B,1,T] -> encoder -> latent [B,D,L] -> semantic quantizer -> codes [B,1,L]
                                   |                    |
                                   |              semantic decoder -> s [B,D,L]
                                   +--- latent - s -> acoustic quantizer -> codes [B,n-1,L], a [B,D,L]

    s + a -> condition network -> subband [B,1,T/4] -+
    s + a -----------------------------------------> decoder -> audio [B,1,T]
    ```

    The defaults are the sizes of the published model `25hz_v1`. `esdcodec.load` gives a trained one.

    Args:
        sample_rate: of the audio, in Hz.
        encoder_dim: channels of the first encoder block; they double with every block.
        encoder_rates: strides of the encoder; their product is the hop length in samples.
        latent_dim: width D of the latent.
        semantic_codebook_size: entries of codebook 0, a power of two.
        semantic_codebook_dim: dimensions of its frozen entries (default: `latent_dim`).
        semantic_dim, semantic_hidden, semantic_blocks: width, MLP width and depth of the semantic decoder.
        acoustic_codebooks: number of codebooks after the first.
        acoustic_codebook_size: entries of each of them, a power of two.
        acoustic_codebook_dim: dimensions in which they are searched.
        condition_dim, condition_hidden, condition_blocks: width, MLP width and depth of the condition network.
        decoder_dim: channels of the first decoder stage; they halve with every stage.
        decoder_rates: upsampling factors of the decoder; their product must be that of `encoder_rates`.
    """

    def __init__(
        self,
        *,
        sample_rate: int = 24000,
        encoder_dim: int = 64,
        encoder_rates: Sequence[int] = (4, 5, 6, 8),
        latent_dim: int = 1024,
        semantic_codebook_size: int = 16384,
        semantic_codebook_dim: int | None = None,
        semantic_dim: int = 512,
        semantic_hidden: int = 1536,
        semantic_blocks: int = 4,
        acoustic_codebooks: int = 11,
        acoustic_codebook_size: int = 1024,
        acoustic_codebook_dim: int = 8,
        condition_dim: int = 256,
        condition_hidden: int = 1024,
        condition_blocks: int = 6,
        decoder_dim: int = 1536,
        decoder_rates: Sequence[int] = (8, 6, 5, 4),
    ) -> None:
        self.config: dict[str, Any] = {
            name: list(value) if isinstance(value, Sequence) else value
            for name, value in locals().items()
            if name not in ("self", "__class__")
        }
        super().__init__()
        check_config(self.config)
        if math.prod(encoder_rates) != math.prod(decoder_rates):
            raise ValueError(
                f"encoder_rates {list(encoder_rates)} and decoder_rates {list(decoder_rates)} must have the same "
                f"product, but {math.prod(encoder_rates)} != {math.prod(decoder_rates)}"
            )
        self.sample_rate = sample_rate
        self.hop_length = math.prod(encoder_rates)
        self.subband_hop_length = math.prod(decoder_rates[:-1])
        self.codebook_sizes = (semantic_codebook_size, *[acoustic_codebook_size] * acoustic_codebooks)

        self.encoder = Encoder(encoder_dim, encoder_rates, latent_dim)
        self.semantic_quantizer = SimVQ(semantic_codebook_size, latent_dim, semantic_codebook_dim)
        self.semantic_decoder = SemanticDecoder(latent_dim, semantic_dim, semantic_hidden, semantic_blocks)
        self.acoustic_quantizer = ResidualVectorQuantizer(
            latent_dim, acoustic_codebooks, acoustic_codebook_size, acoustic_codebook_dim
        )
        self.condition_network = ConditionNetwork(
            latent_dim, condition_dim, condition_hidden, condition_blocks, self.subband_hop_length
        )
        self.decoder = Decoder(latent_dim, decoder_dim, decoder_rates)

        self.name = "unnamed"  # `load` knows better
        self._inference_form: tuple[Snapshot, ESDCodec] | None = None
        self._fingerprint: tuple[Snapshot, bytes] | None = None

    # ---- what it is -------------------------------------------------------------------------------------------------

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length

    @property
    def n_codebooks(self) -> int:
        """Number of codebooks K, the semantic one included."""
        return len(self.codebook_sizes)

    @property
    def subband_sample_rate(self) -> int:
        """Rate of the condition network's signal, in Hz."""
        return self.sample_rate * self.subband_hop_length // self.hop_length

    def bits_per_frame(self, n_quantizers: int | None = None) -> int:
        """Bits of one frame of the first `n_quantizers` codebooks (default: all)."""
        n = check_n_quantizers(n_quantizers, self.n_codebooks)
        return sum(math.ceil(math.log2(size)) for size in self.codebook_sizes[:n])

    def bitrate(self, n_quantizers: int | None = None) -> float:
        """Bits per second with the first `n_quantizers` codebooks (default: all)."""
        return self.frame_rate * self.bits_per_frame(n_quantizers)

    def num_frames(self, num_samples: int) -> int:
        """Frames L that `num_samples` samples at the model's rate become; the last one may be partly filled."""
        return -(-num_samples // self.hop_length)

    @property
    def fingerprint(self) -> bytes:
        """32 bytes that tell the weights that decoding uses from all others: SHA-256 of them as float32.

        Codes can be decoded by any codec with the same fingerprint. A codec converted by `load(dtype=...)` has that of
        the weights it was loaded from, until they change. What is written to `parameter.data` of a codec in
        evaluation mode is not seen: call `train()` and `eval()` after that.
        """
        kept = self._fingerprint
        if kept is None or not kept[0].has_weights_of(self):
            self._fingerprint = kept = Snapshot(self), self._hash()
        return kept[1]

    def _hash(self) -> bytes:
        digest = hashlib.sha256()
        tensors = {name.replace(_COMPILED, ""): tensor for name, tensor in self.state_dict().items()}
        for name, tensor in sorted(tensors.items()):
            if not name.startswith("encoder.") and ".in_proj." not in name:
                digest.update(f"{name} {list(tensor.shape)}\n".encode())
                digest.update(tensor.detach().float().cpu().contiguous().numpy().astype("<f4").tobytes())
        return digest.digest()

    @property
    def device(self) -> torch.device:
        return self.condition_network.conv_in.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype that the convolutions run in; the quantizers stay in float32."""
        return self.condition_network.conv_in.weight.dtype

    # ---- its form for inference -------------------------------------------------------------------------------------

    def inference_form(self) -> "ESDCodec":
        """The network as `encode` and `decode` run it: with the same steps, made once of faster layers.

        It is made anew when the weights change. While the codec is trained, with gradients, under autocast, and while
        it is compiled, exported or traced, it is the codec itself.
        """
        plain = self.training or torch.is_grad_enabled() or torch.is_autocast_enabled(self.device.type)
        if plain or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return self
        kept = self._inference_form
        if kept is None or not kept[0].is_still(self):
            with _MAKING:
                kept = self._inference_form
                if kept is None or not kept[0].is_still(self):
                    self._inference_form = None  # its memory is free before the next one takes as much
                    self._inference_form = kept = Snapshot(self), inference_form(self)
        return kept[1]

    def train(self, mode: bool = True) -> "ESDCodec":
        if mode:
            self._inference_form = self._fingerprint = None
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "ESDCodec":
        kept, dtype = self._fingerprint, self.dtype
        fingerprint = kept[1] if kept is not None and kept[0].has_weights_of(self) else None
        self._inference_form = self._fingerprint = None
        super()._apply(fn, recurse)
        if fingerprint is not None and self.dtype == dtype:
            self.keep_fingerprint(fingerprint)
        return self

    def keep_fingerprint(self, fingerprint: bytes) -> None:
        """Let the weights, until they change, go by the fingerprint of others that they were converted from."""
        self._fingerprint = Snapshot(self), fingerprint

    def __getstate__(self) -> dict[str, Any]:  # copies and pickles make a form of their own
        kept = self._fingerprint
        fingerprint = kept[1] if kept is not None and kept[0].has_weights_of(self) else None
        return {**vars(self), "_inference_form": None, "_fingerprint": fingerprint}

    def __setstate__(self, state: dict[str, Any]) -> None:
        fingerprint = state.pop("_fingerprint")
        super().__setstate__({**state, "_fingerprint": None})
        if fingerprint is not None:
            self.keep_fingerprint(fingerprint)

    # ---- the figure -------------------------------------------------------------------------------------------------

    def forward(
        self, audio: Tensor, n_quantizers: Tensor | int | None = None, *, continuous: bool = False
    ) -> Reconstruction:
        """Encode and decode, with gradients.

        Args:
            audio: ``[B, 1, T]`` at the model's rate, on its device.
            n_quantizers: codebooks to reconstruct from, the semantic one included: one number, or one for each item
                ``[B]`` as training draws them. Default: all.
            continuous: reconstruct from the encoder's latent itself, past the quantizers.
        """
        if not isinstance(n_quantizers, Tensor):
            n = check_n_quantizers(n_quantizers, self.n_codebooks)
            n_quantizers = torch.full((audio.shape[0],), n, device=audio.device)
        latent = self.encode_latent(audio)
        with full_precision(latent.device):
            semantic = self.semantic_quantizer(latent)
        semantic_latent = self.decode_semantic(semantic.latent)
        with full_precision(latent.device):
            acoustic = self.acoustic_quantizer(latent - semantic_latent, n_quantizers - 1)
        quantized = semantic_latent + acoustic.latent
        if continuous:
            quantized = latent + 0 * quantized  # every parameter stays in the graph, as data-parallel training needs
        decoded, subband, magnitude = self.decode_latent(quantized)
        return Reconstruction(
            audio=decoded[..., : audio.shape[-1]],
            codes=torch.cat([semantic.codes, acoustic.codes], dim=1),
            semantic_latent=semantic_latent,
            subband=subband,
            subband_magnitude=magnitude,
            losses={
                "semantic_commitment": 0.25 * semantic.commitment_loss + semantic.codebook_loss,
                "acoustic_commitment": acoustic.commitment_loss,
                "acoustic_codebook": acoustic.codebook_loss,
            },
        )

    def encode_latent(self, audio: Tensor) -> Tensor:
        """Latent ``[B, D, L]`` float32 of audio ``[B, 1, T]``; zeros complete the last frame."""
        audio = F.pad(audio, (0, -audio.shape[-1] % self.hop_length))
        return self.encoder(audio).float()

    def decode_semantic(self, quantized: Tensor) -> Tensor:
        """Semantic latent s ``[B, D, L]`` float32 of the semantic quantizer's latent."""
        return self.semantic_decoder(quantized.to(self.dtype)).float()

    def quantize(self, latent: Tensor, n_quantizers: int) -> Tensor:
        """Codes ``[B, n, L]`` of a latent ``[B, D, L]``."""
        with full_precision(latent.device):
            semantic = self.semantic_quantizer.encode(latent)
            if n_quantizers == 1:
                return semantic
            quantized = self.semantic_quantizer.decode(semantic)
        residual = latent - self.decode_semantic(quantized)
        with full_precision(latent.device):
            return torch.cat([semantic, self.acoustic_quantizer.encode(residual, n_quantizers - 1)], dim=1)

    def dequantize(self, codes: Tensor) -> Tensor:
        """Latent s + a ``[B, D, L]`` of codes ``[B, n, L]``."""
        with full_precision(codes.device):
            semantic = self.semantic_quantizer.decode(codes[:, :1])
            acoustic = self.acoustic_quantizer.decode(codes[:, 1:])
        return self.decode_semantic(semantic) + acoustic

    def decode_latent(self, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Audio ``[B, 1, hop_length · L]``, subband and its magnitude, of a latent ``[B, D, L]``."""
        subband, magnitude = self.condition(latent)
        return self.synthesise(latent, subband), subband, magnitude

    def condition(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Subband ``[B, 1, subband_hop_length · L]`` and its magnitude of a latent ``[B, D, L]``."""
        subband, magnitude = self.condition_network(latent.to(self.dtype))
        return subband, magnitude

    def synthesise(self, latent: Tensor, subband: Tensor) -> Tensor:
        """Audio ``[B, 1, hop_length · L]`` of a latent ``[B, D, L]``, guided by its subband."""
        audio: Tensor = self.decoder(latent.to(self.dtype), subband.to(self.dtype))
        return audio.float()

    # ---- encode and decode ------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(
        self,
        audio: Audio,
        sample_rate: int | None = None,
        *,
        n_quantizers: int | None = None,
        lengths: Tensor | Sequence[int] | None = None,
        gain_db: float = 0.0,
        chunk_seconds: float = CHUNK_SECONDS,
        batch_seconds: float | None = None,
    ) -> Tensor:
        """Audio of any length to codes.

        Args:
            audio: tensor or array ``[T]``, ``[B, T]`` or ``[B, 1, T]``, of any float dtype (full scale 1.0) or int16.
                A tensor must be on the model's device.
            sample_rate: of `audio`, in Hz; resampled when it is not the model's. Default: the model's.
            n_quantizers: codebooks to use, the semantic one included, 1 to `n_codebooks`. Default: all.
            lengths: ``[B]``, samples of `audio` that belong to each item of a padded batch. Each item then gets the
                codes that it gets alone: items of equal length go through the network together, so a batch sorted
                into few lengths is the fast one.
            gain_db: amplification before encoding, -60 to 60 dB, for `decode` to take back. `esdcodec.gain_for` tells
                what quiet and loud recordings need to be coded as well as others.
            chunk_seconds: longer audio goes through the network in chunks of so many seconds, each with the context
                that the network's layers reach, so that the codes are those of one pass and memory is bounded.
            batch_seconds: seconds of chunks that go through together. Default: one chunk.

        Returns:
            Codes ``[B, n_quantizers, L]``, int64, codebook 0 the semantic one. Frames past the end of an item are -1.

        Raises:
            ValueError: the input is not what is said above; the message says what to do.
        """
        n = check_n_quantizers(n_quantizers, self.n_codebooks)
        waveform = check_audio(audio, self.device)
        gain = check_gain(gain_db)
        samples = check_lengths(lengths, waveform)
        rate = check_sample_rate(sample_rate, self.sample_rate)
        items = [self._resample(item[..., :length], rate) for item, length in zip(waveform.split(1), samples)]
        frames = [self.num_frames(item.shape[-1]) for item in items]
        codes = torch.full((len(items), n, max(frames)), -1, dtype=torch.int64, device=self.device)
        for group in equal(frames):
            batch = torch.cat([F.pad(items[i], (0, frames[i] * self.hop_length - items[i].shape[-1])) for i in group])
            pipeline = encoding(self, n, **self._chunks(chunk_seconds, batch_seconds))
            encoded = pipeline.run(self.inference_form(), framed(batch.mul_(gain), self.hop_length))
            codes[group, :, : frames[group[0]]] = encoded
        return codes

    @torch.no_grad()
    def decode(
        self,
        codes: Tensor,
        *,
        length: int | None = None,
        gain_db: float = 0.0,
        chunk_seconds: float = CHUNK_SECONDS,
        batch_seconds: float | None = None,
    ) -> Tensor:
        """Any number of codes to audio.

        Args:
            codes: ``[B, n, L]`` integers, of the first n codebooks, on the model's device. Frames of -1 at the end of
                an item are padding: the item is decoded as if alone, and zeros follow.
            length: samples to return, at most `hop_length` · L. Default: all of them.
            gain_db: what `encode` was given; the audio is divided by it.
            chunk_seconds, batch_seconds: as `encode` takes them.

        Returns:
            Audio ``[B, 1, T]``, float32, in [-1, 1] before it is divided by the gain.

        Raises:
            ValueError: the codes are not what is said above; the message says what to do.
        """
        codes, frames = check_codes(codes, self.codebook_sizes, self.device)
        gain = check_gain(gain_db)
        total = codes.shape[-1] * self.hop_length
        if length is not None:
            advice = f"but these codes hold 1 to {total} samples; leave it out to get them all"
            length = check_integer(length, "length", 1, total, advice)
        audio = torch.zeros(codes.shape[0], 1, total, dtype=torch.float32, device=self.device)
        for group in equal(frames):
            if n_frames := frames[group[0]]:
                pipeline = decoding(self, **self._chunks(chunk_seconds, batch_seconds))
                decoded = pipeline.run(self.inference_form(), codes[group, :, :n_frames])
                audio[group, :, : n_frames * self.hop_length] = unframed(decoded)
        return audio[..., :length].div_(gain)

    def stream_encoder(
        self,
        sample_rate: int | None = None,
        *,
        n_quantizers: int | None = None,
        gain_db: float = 0.0,
        chunk_seconds: float = CHUNK_SECONDS,
        batch_seconds: float | None = None,
    ) -> StreamEncoder:
        """For audio that comes in pieces, at `sample_rate` Hz (default: the model's): `push` each, then `finish`.

        All pieces get the gain that is given here, as by `encode`.

        Codes come as soon as the context allows, `look_ahead_ms` after their frame. Every call runs the network over
        the context anew, so pieces of a second cost much less than pieces of a frame.
        """
        chunks = self._chunks(chunk_seconds, batch_seconds)
        return StreamEncoder(self, sample_rate, n_quantizers, check_gain(gain_db), **chunks)

    def stream_decoder(
        self, *, gain_db: float = 0.0, chunk_seconds: float = CHUNK_SECONDS, batch_seconds: float | None = None
    ) -> StreamDecoder:
        """For codes that come in pieces: `push` each, then `finish`. Samples come as soon as the context allows."""
        return StreamDecoder(self, check_gain(gain_db), **self._chunks(chunk_seconds, batch_seconds))

    def _chunks(self, chunk_seconds: float, batch_seconds: float | None) -> dict[str, int]:
        """Frames of a chunk, and chunks of a batch."""
        if not chunk_seconds > 0 or not (batch_seconds is None or batch_seconds > 0):
            raise ValueError(f"chunk_seconds={chunk_seconds} and batch_seconds={batch_seconds} must be positive")
        if not math.isfinite(chunk_seconds):
            raise ValueError("chunk_seconds must be finite: give the length of the audio to have it in one piece")
        chunk_frames = max(1, round(chunk_seconds * self.frame_rate))
        batch = 1 if batch_seconds is None else max(1, int(batch_seconds / chunk_seconds))
        return {"chunk_frames": chunk_frames, "batch": batch}

    def _resample(self, item: Tensor, sample_rate: int) -> Tensor:
        if sample_rate == self.sample_rate:
            return item
        from ..audio import resample  # file and rate handling live outside the network

        resampled = resample(item[0, 0].cpu().numpy(), sample_rate, self.sample_rate)
        return torch.from_numpy(resampled).to(item.device)[None, None]

    # ---- to and from files ------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, source: str | Path, **kwargs: Any) -> "ESDCodec":
        """A trained codec by name, folder, file or Hub id: see `esdcodec.load`."""
        from ..codec import load

        return load(source, **kwargs)

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write `config.json` and `model.safetensors` into `folder`: see `esdcodec.codec.save`."""
        from ..codec import save

        save(self, folder, dtype=dtype)

    def push_to_hub(self, repo_id: str, *, private: bool | None = None, token: str | None = None) -> str:
        """Upload what `save_pretrained` writes: see `esdcodec.codec.push`."""
        from ..codec import push

        return push(self, repo_id, private=private, token=token)


def equal(values: Sequence[int]) -> list[list[int]]:
    """Indices of equal values together: ``[3, 5, 3] -> [[0, 2], [1]]``."""
    groups: dict[int, list[int]] = {}
    for index, value in enumerate(values):
        groups.setdefault(value, []).append(index)
    return list(groups.values())
