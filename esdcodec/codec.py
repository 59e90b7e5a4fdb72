"""ESDCodec: 24 kHz speech to 25 frames a second of integer codes, and back; loaded and saved."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from . import weights
from .audio import resample
from .bundled import with_version
from .model_codec.checks import (
    Audio,
    check_audio,
    check_codes,
    check_device,
    check_dtype,
    check_gain,
    check_integer,
    check_lengths,
    check_n_quantizers,
    check_sample_rate,
)
from .model_codec.chunking import decoding, encoding, framed, unframed
from .model_codec.inference_network import InferenceNetwork
from .model_codec.network import Network
from .precision import fastest_dtype
from .processes import worker_number
from .streams import StreamDecoder, StreamEncoder
from .weights import Weights, WeightsError

CHUNK_SECONDS = 20.0  # longer audio goes through the network in chunks; context then adds a few percent


def load(
    source: str | Path = "25hz_nano",
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | Literal["auto"] | None = None,
    revision: str | None = None,
) -> ESDCodec:
    """Load a trained codec, in evaluation mode.

    Args:
        source: a bundled name (`25hz_nano`, which stands for its newest version), a published name (`25hz_v1`, from the
            Hugging Face Hub, cached), a folder (`config.json` and `model.safetensors`, or the published weights), a
            file, or a Hub id (`owner/name`).
        device: where to put it. Default: CUDA, MPS or CPU, the first there is.
        dtype: of the convolutions, for example `torch.bfloat16`; the quantizers stay in float32. `"auto"` is bfloat16
            where that is faster: on GPUs that have it, and on CPUs where a short measurement finds it
            faster. Default: float32.
        revision: branch, tag or commit on the Hub.

    Raises:
        ModelNotFoundError: there is no such model, or no way to download it.
        WeightsError: the file is damaged or holds something else.
        ValueError: the device is not there, or the dtype is none of these.
    """
    device = best_device() if device is None else check_device(device)
    dtype = dtype if dtype == "auto" else check_dtype(dtype or torch.float32)
    with torch.inference_mode(False), torch.device("cpu"):  # whatever the caller has set
        codec = _build(weights.read(source, revision)).eval()
        dtype = fastest_dtype(device) if dtype == "auto" else dtype
        codec.name = with_version(str(source)) if weights.is_named(source) else Path(source).name
        fingerprint = None if dtype == torch.float32 else codec.fingerprint
        codec.to(device=device, dtype=dtype)
        if fingerprint is not None:
            codec.keep_fingerprint(fingerprint)
    return codec


def best_device() -> torch.device:
    """CUDA, else MPS, else CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def device_of_worker(device: str | None) -> torch.device:
    """Where a process of `in_processes` loads its codec: worker i on GPU i modulo their number.

    Other processes, and a `device` that names a number, such as `cuda:1`, have what `load` gives them.
    """
    chosen = best_device() if device is None else torch.device(device)
    number = worker_number()
    if chosen.type == "cuda" and chosen.index is None and number is not None:
        return torch.device("cuda", number % max(1, torch.cuda.device_count()))
    return chosen


def _build(source: Weights) -> ESDCodec:
    """The codec of a configuration, with its weights in float32."""
    unknown = sorted(set(source.config) - set(Network.__init__.__kwdefaults__ or ()))
    if unknown:
        raise WeightsError(
            f"{source.config_file}: unknown settings {', '.join(unknown)}; a newer esdcodec may have written it: "
            "upgrade"
        )
    try:
        with torch.device("meta"):
            codec = ESDCodec(**source.config)
    except (TypeError, ValueError, RuntimeError, OverflowError, ArithmeticError) as error:
        raise WeightsError(f"{source.config_file}: no codec can have this configuration ({error})") from error
    source.check_fit(codec.state_dict())
    # copies: what was read may lie in the file, which can change
    tensors = {name: tensor.to(torch.float32, copy=True).contiguous() for name, tensor in source.tensors.items()}
    codec.load_state_dict(tensors, assign=True)
    return codec


class ESDCodec(InferenceNetwork):
    """Neural speech codec with a semantic first codebook.

    `esdcodec.load` gives a trained one. Its arguments, its steps with gradients and `forward` are those of
    `model_codec.network.Network`.
    """

    name = "unnamed"  # `load` sets it

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
            gain_db: amplification before encoding, -60 to 60 dB, for `decode` to take back. `esdcodec.gain_for` gives
                the gain with which a quiet or loud recording is coded best.
            chunk_seconds: longer audio goes through the network in chunks of so many seconds, each with the context
                that the network's receptive field takes in: the codes are those of one pass, and memory is bounded.
            batch_seconds: seconds of chunks that go through together. Default: one chunk.

        Returns:
            Codes ``[B, n_quantizers, L]``, int64, codebook 0 the semantic one. Frames past the end of an item are -1.

        Raises:
            ValueError: the input is not as described above; the message says what to do.
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
            ValueError: the codes are not as described above; the message says what to do.
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
        look_ahead_ms: float | None = None,
        chunk_seconds: float = CHUNK_SECONDS,
        batch_seconds: float | None = None,
    ) -> StreamEncoder:
        """For audio that comes in pieces, at `sample_rate` Hz (default: the model's): `push` each, then `finish`.

        All pieces get the gain that is given here, as by `encode`. The layers keep what they need of the past, so that
        a piece costs its own frames. Pieces longer than `chunk_seconds` are cut; with `batch_seconds` the cuts go
        through together, which costs the context that `encode` needs.

        Args:
            look_ahead_ms: time that a frame waits for after its end. Default: all that its codes depend on, which are
                then those of `encode`. With less, codes come earlier, as if the audio ended there: whole frames of it
                are spread over the encoder and the semantic decoder, and the stream's own `look_ahead_ms` tells their
                sum. Each frame then costs the layers' unfinished frames once more.
        """
        chunks = self._chunks(chunk_seconds, batch_seconds)
        return StreamEncoder(
            self, sample_rate, n_quantizers, check_gain(gain_db), look_ahead_ms=look_ahead_ms, **chunks
        )

    def stream_decoder(
        self,
        *,
        gain_db: float = 0.0,
        look_ahead_ms: float | None = None,
        chunk_seconds: float = CHUNK_SECONDS,
        batch_seconds: float | None = None,
    ) -> StreamDecoder:
        """For codes that come in pieces: `push` each, then `finish`.

        Args:
            look_ahead_ms: as `stream_encoder` takes it, for the semantic decoder, the condition network and the
                decoder. Default: all that a frame depends on.
        """
        chunks = self._chunks(chunk_seconds, batch_seconds)
        return StreamDecoder(self, check_gain(gain_db), look_ahead_ms=look_ahead_ms, **chunks)

    def _chunks(self, chunk_seconds: float, batch_seconds: float | None) -> dict[str, Any]:
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
        resampled = resample(item[0, 0].cpu().numpy(), sample_rate, self.sample_rate)
        return torch.from_numpy(resampled).to(item.device)[None, None]

    # ---- to and from files ------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, source: str | Path, **kwargs: Any) -> ESDCodec:
        """A trained codec by name, folder, file or Hub id: see `esdcodec.load`."""
        return load(source, **kwargs)

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write `config.json` and `model.safetensors` into `folder`; `load` takes it, or the second file alone.

        So do the Auto classes of `transformers`, for which two small files go beside them: see
        `esdcodec.infer.transformers`.

        Args:
            dtype: of the stored weights. Default: as they are. `torch.float16` halves the file.
        """
        weights.write(folder, self.config, self.plain_state_dict(), dtype=dtype)

    def push_to_hub(self, repo_id: str, *, private: bool | None = None, token: str | None = None) -> str:
        """Upload what `save_pretrained` writes to the Hub, making the repository if need be.

        Returns:
            The URL of the commit.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return weights.upload(folder, repo_id, private=private, token=token)


def equal(values: Sequence[int]) -> list[list[int]]:
    """Indices of equal values together: ``[3, 5, 3] -> [[0, 2], [1]]``."""
    groups: dict[int, list[int]] = {}
    for index, value in enumerate(values):
        groups.setdefault(value, []).append(index)
    return list(groups.values())
