"""A voice: codes of a few seconds of speech and what was said in them, as a small file.

The file is ``ESDVOICE``, a version (1 byte), the length of the header (4 bytes, the highest first), a header in JSON,
the codes packed as in `.esd` files, and the CRC-32 of all that. `docs/tts.md` describes the header.
"""

import json
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from torch import Tensor

from ...audio import Waveform, opened, resample
from ...bitstream import MAX_BITS, MAX_CODEBOOKS, pack, unpack
from ...bundled import how_to_get
from ...codec import ESDCodec, load
from ...errors import ESDCodecError
from ...loudness import LoudnessMeter
from ...whole_file import whole_file
from .sentences import clean_text

MAGIC, VERSION = b"ESDVOICE", 1
HEAD = struct.Struct(">8sBI")
CRC = struct.Struct(">I")
MAX_BYTES = 2**20  # of a file
MAX_FRAMES = 4096
MAX_TEXT = 2000  # characters
SHORTEST, LONGEST = 1.0, 30.0  # seconds of speech
CONSENT = ("agreed", "unknown")
TEXTS = ("name", "text", "codec", "fingerprint", "consent", "origin")


class VoiceError(ESDCodecError, ValueError):
    """A file is no whole voice, a recording makes none, or it is of another codec; the message says what to do."""


@dataclass(frozen=True, eq=False)
class Voice:
    """Speech of one speaker and what was said in it, after which a model goes on.

    Args:
        name: what it is called.
        text: what is said in it.
        codes: of all codebooks, ``[K, L]`` int64.
        codebook_sizes: entries of each.
        codec, fingerprint: name and fingerprint, in hexadecimal, of the codec that made the codes.
        consent: whether the speaker agreed that speech is made in their voice: "agreed", or "unknown".
        origin: where the recording comes from, and under which licence; free text.

    Raises:
        ValueError: the codes are not of these codebooks, or the consent is another word.
    """

    name: str
    text: str
    codes: Tensor
    codebook_sizes: tuple[int, ...]
    codec: str
    fingerprint: str
    consent: Literal["agreed", "unknown"] = "unknown"
    origin: str = ""

    def __post_init__(self) -> None:
        if self.consent not in CONSENT:
            raise ValueError(f"consent={self.consent!r} must be one of {', '.join(CONSENT)}")
        sizes = torch.tensor(self.codebook_sizes)[:, None]
        shaped = self.codes.dim() == 2 and len(self.codes) == len(sizes) and 0 < self.codes.shape[1] <= MAX_FRAMES
        if not shaped or not ((self.codes >= 0) & (self.codes < sizes)).all():
            raise ValueError(f"codes {list(self.codes.shape)} are not of codebooks of {list(self.codebook_sizes)}")

    # ---- from speech ------------------------------------------------------------------------------------------------

    @classmethod
    def from_audio(
        cls,
        file: str | Path | BinaryIO,
        text: str,
        *,
        codec: ESDCodec | str | Path = "25hz_nano",
        name: str | None = None,
        consent: Literal["agreed", "unknown"] = "unknown",
        origin: str = "",
    ) -> "Voice":
        """From a recording of one speaker, of 1 to 30 seconds; 5 to 10 are best.

        It is brought to the codec's level, so that all voices are equally loud.

        Args:
            text: what is said in it, word for word.
            codec: that of the model that is to speak, loaded or as `esdcodec.load` takes it.
            name: Default: that of the file.

        Raises:
            AudioFileError: this is no audio.
            VoiceError: it is silent, too short or too long.
            ValueError: the text is empty or too long.
        """
        text = clean_text(text, most=MAX_TEXT)
        codec = codec if isinstance(codec, ESDCodec) else load(codec)
        waveform, gain_db = _speech_of(file, codec.sample_rate)
        codes = codec.encode(torch.from_numpy(waveform).to(codec.device), gain_db=gain_db)[0].cpu()
        name = name or Path(_name_of(file)).stem
        return cls(name, text, codes, codec.codebook_sizes, codec.name, codec.fingerprint.hex(), consent, origin)

    def check_codec(self, codec: ESDCodec) -> None:
        """
        Raises:
            VoiceError: the codes are of another codec.
        """
        found = codec.fingerprint.hex()
        if self.fingerprint != found:
            advice = how_to_get(self.codec) or "make it anew from its recording: `esdcodec voice --model`"
            raise VoiceError(
                f"the voice {self.name!r} is of the codec {self.codec!r} (fingerprint {self.fingerprint[:16]}), this "
                f"model speaks with {codec.name!r} ({found[:16]}): {advice}"
            )

    # ---- files ------------------------------------------------------------------------------------------------------

    def save(self, file: str | Path) -> None:
        """Write the file, whole or not at all."""
        with whole_file(Path(file)) as stream:
            stream.write(self.to_bytes())

    @classmethod
    def load(cls, file: str | Path) -> "Voice":
        """From what `save` wrote.

        Raises:
            VoiceError: this is no voice, or it is damaged.
            OSError: it cannot be read.
        """
        with open(file, "rb") as stream:
            return cls.from_bytes(stream.read(MAX_BYTES + 1), str(file))

    def to_bytes(self) -> bytes:
        """What `save` writes."""
        about: dict[str, Any] = {name: getattr(self, name) for name in TEXTS}
        about |= {"codebook_sizes": self.codebook_sizes, "frames": self.codes.shape[1]}
        header = json.dumps(about, ensure_ascii=False).encode()
        body = HEAD.pack(MAGIC, VERSION, len(header)) + header + pack(self.codes.numpy(), _bits(self.codebook_sizes))
        return body + CRC.pack(zlib.crc32(body))

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "voice") -> "Voice":
        """From what `to_bytes` gave.

        Args:
            name: for errors.

        Raises:
            VoiceError: this is no voice, or it is damaged.
        """
        header, packed = _parts(data, name)
        try:
            about = json.loads(header)
            texts = {key: about[key] for key in TEXTS}
            if wrong := [key for key, value in texts.items() if not isinstance(value, str)]:
                raise ValueError(f"{', '.join(wrong)} is no text")
            texts["text"] = clean_text(texts["text"], most=MAX_TEXT)
            sizes, n_frames = _sizes(about["codebook_sizes"], about["frames"])
            if len(packed) != -(-n_frames * sum(_bits(sizes)) // 8):
                raise ValueError(f"{len(packed)} bytes are not the codes of {n_frames} frames")
            codes = torch.from_numpy(unpack(packed, _bits(sizes), n_frames))
            return cls(codes=codes, codebook_sizes=sizes, **texts)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise VoiceError(f"{name}: its header is wrong ({error}): make the voice anew") from error


def _parts(data: bytes, name: str) -> tuple[bytes, bytes]:
    """Header and packed codes of a file whose checksum is right."""
    if len(data) > MAX_BYTES or not data.startswith(MAGIC) or len(data) < HEAD.size + CRC.size:
        raise VoiceError(f"{name} is no voice: make one from a recording by `esdcodec voice`")
    _, version, n_header = HEAD.unpack(data[: HEAD.size])
    if version != VERSION:
        raise VoiceError(f"{name} is a voice of version {version}, and {VERSION} is known: upgrade esdcodec")
    body, (crc,) = data[: -CRC.size], CRC.unpack(data[-CRC.size :])
    if zlib.crc32(body) != crc or HEAD.size + n_header > len(body):
        raise VoiceError(f"{name} is damaged, or was cut: copy it again")
    return body[HEAD.size : HEAD.size + n_header], body[HEAD.size + n_header :]


def _bits(sizes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple((size - 1).bit_length() for size in sizes)


def _sizes(sizes: Any, n_frames: Any) -> tuple[tuple[int, ...], int]:
    """
    Raises:
        ValueError: no codec has such codebooks, or a voice so many frames.
    """
    numbers = [*sizes, n_frames]
    if not all(type(number) is int for number in numbers):
        raise ValueError("codebook_sizes and frames are whole numbers")
    if not 1 <= len(sizes) <= MAX_CODEBOOKS or not all(2 <= size <= 2**MAX_BITS for size in sizes):
        raise ValueError(f"codebook_sizes={sizes}")
    if not 1 <= n_frames <= MAX_FRAMES:
        raise ValueError(f"frames={n_frames}")
    return tuple(sizes), n_frames


# ---- recordings ------------------------------------------------------------------------------------------------------


def _name_of(file: str | Path | BinaryIO) -> str:
    return str(file if isinstance(file, str | Path) else getattr(file, "name", "voice"))


def _speech_of(file: str | Path | BinaryIO, sample_rate: int) -> tuple[Waveform, float]:
    """A recording ``[T]`` at `sample_rate`, and the gain to the codec's level in dB.

    Raises:
        VoiceError: it is silent, too short or too long.
    """
    kept: list[Waveform] = []
    with opened(file) as (rate, blocks):
        meter = LoudnessMeter(rate)
        for block in blocks:
            meter.push(block)
            kept.append(block)
            if sum(map(len, kept)) > LONGEST * rate:
                break
    waveform = np.concatenate(kept)
    problem = None
    if not SHORTEST <= len(waveform) / rate <= LONGEST:
        problem = f"has {'more than ' * (len(waveform) > LONGEST * rate)}{min(LONGEST, len(waveform) / rate):.2f} s"
    elif not np.isfinite(waveform).all():
        problem = "contains NaN or infinite samples"
    elif meter.loudness == -np.inf:
        problem = "is silent"
    if problem:
        raise VoiceError(
            f"{_name_of(file)} {problem}: give {SHORTEST:g} to {LONGEST:g} s of one speaker, 5 to 10 are best"
        )
    return resample(waveform, rate, sample_rate), meter.gain_db
