"""Small corpora for the tests of the data's side, whole and broken."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import soundfile

from esdcodec.dataset.make_shards import Utterance
from tests.conftest import speech


def utterance(i: int, seconds: float = 1.0, sample_rate: int = 24000) -> Utterance:
    waveform = speech(seconds, seed=i, sample_rate=sample_rate)[0, 0].numpy()
    return Utterance(f"u{i:03d}", waveform, sample_rate, f"speaker{i % 2}", "en", f"text {i}", 2.0 + i / 10)


def audio(waveform: np.ndarray | None = None, rate: int = 24000, **options: str) -> bytes:
    """A file's bytes; one second of speech by default."""
    buffer = io.BytesIO()
    soundfile.write(
        buffer,
        speech(1.0, sample_rate=rate)[0, 0].numpy() if waveform is None else waveform,
        rate,
        **{"format": "WAV", **options},
    )
    return buffer.getvalue()


def add(tar: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(tar, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return tar


def sample(key: str, content: bytes, extension: str = "wav", **metadata: object) -> dict[str, bytes]:
    return {f"{key}.{extension}": content, f"{key}.json": json.dumps({"duration": 1.0, **metadata}).encode()}


def broken_members() -> tuple[dict[str, bytes], dict[str, str]]:
    """One good utterance among every kind of broken one, and the reason for each of these."""
    good = audio(format="WAV")
    members = {
        **sample("good", good),
        "nojson.wav": good,
        "badjson.wav": good, "badjson.json": b"{",
        "oddscore.wav": good, "oddscore.json": b'{"duration": 1, "dnsmos": "good"}',
        "noduration.wav": good, "noduration.json": b"{}",
        "endless.wav": good, "endless.json": b'{"duration": Infinity}',
        "nested.wav": good, "nested.json": b"[" * 100_000,
        "noaudio.json": b'{"duration": 1}',
        **sample("zero", b""),
        **sample("garbage", b"garbage"),
        **sample("cut", audio(format="FLAC")[:60], "flac"),
        **sample("empty", audio(np.zeros(0), format="WAV")),
        **sample("nan", audio(np.full(24000, np.nan), format="WAV", subtype="FLOAT")),
        **sample("slow", audio(rate=8000, format="WAV")),
    }  # fmt: skip
    reasons = {
        "nojson": "no json member",
        "badjson": "json member is damaged",
        "oddscore": "json member is damaged",
        "noduration": "no duration in the json member",
        "endless": "duration in the json member is not between 0 and 86,400 s",
        "nested": "json member is damaged",
        "noaudio": "no audio member",
        "zero": "audio member is empty",
        "garbage": "audio is damaged",
        "cut": "audio is damaged",
        "empty": "audio holds no samples",
        "nan": "audio holds NaN or infinite samples",
        "slow": "sample rate 8000 Hz is below 16000 Hz",
    }
    return members, reasons
