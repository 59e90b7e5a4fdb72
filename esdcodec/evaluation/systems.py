"""What is evaluated: this codec, the files that another one wrote, or any program that encodes and decodes."""

import io
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch

from ..audio import EXTENSIONS, Waveform, read, resample
from ..infer.bitstream import Writer
from ..infer.coding import header_of
from ..model_codec import ESDCodec
from .memory import peak_memory


@dataclass(frozen=True)
class Decoded:
    """What a system made of a recording."""

    waveform: Waveform  # [T] at the rate of the recording
    n_bytes: int | None = None  # coded; None where nobody knows
    encode_seconds: float | None = None
    decode_seconds: float | None = None
    codes: np.ndarray | None = None  # [n, L]
    bitrate: float | None = None  # bit/s, nominal
    megabytes: float | None = None  # that encoding and decoding took at most


System = Callable[[Path, Waveform, int], Decoded]
"""From a file, its samples ``[T]`` and their rate in Hz to what comes out: a peer is such a function."""


class SystemFailed(RuntimeError):
    """A system failed on a file; the message says what it said."""


def model_systems(codec: ESDCodec, n_quantizers: Sequence[int]) -> dict[str, System]:
    """The codec at several numbers of codebooks; what it encodes is kept from one to the next."""
    codec.keep_fingerprint()
    kept: dict[Path, tuple[torch.Tensor, float, float | None]] = {}

    def encode(file: Path, waveform: Waveform) -> tuple[torch.Tensor, float, float | None]:
        if file not in kept:
            kept.clear()
            with peak_memory(codec.device) as peak:
                started = time.perf_counter()
                codes = codec.encode(torch.from_numpy(waveform).to(codec.device), n_quantizers=max(n_quantizers))
                seconds = time.perf_counter() - started
            kept[file] = codes, seconds, peak.megabytes
        return kept[file]

    def system(n: int) -> System:
        def run(file: Path, waveform: Waveform, sample_rate: int) -> Decoded:
            codes, encode_seconds, megabytes = encode(file, resample(waveform, sample_rate, codec.sample_rate))
            codes = codes[:, :n]
            with peak_memory(codec.device) as peak:
                started = time.perf_counter()
                decoded = codec.decode(codes)[0, 0].cpu().numpy()
                decode_seconds = time.perf_counter() - started
            coded = io.BytesIO()
            writer = Writer(coded, header_of(codec, n, sample_rate))
            writer.write(codes[0].cpu().numpy())
            writer.finish(len(waveform))
            back = resample(decoded, codec.sample_rate, sample_rate)
            shown = codes[0].cpu().numpy() if n == max(n_quantizers) else None  # the others' are among them
            known = [each for each in (megabytes, peak.megabytes) if each is not None]
            return Decoded(
                _fit(back, waveform),
                writer.n_bytes,
                encode_seconds,
                decode_seconds,
                shown,
                codec.bitrate(n),
                max(known) if known else None,
            )

        return run

    return {f"esdcodec n={n}": system(n) for n in n_quantizers}


def folder_system(originals: Path, decoded: Path) -> System:
    """Files that lie in `decoded` as the originals do in theirs, with any extension for audio."""

    def run(file: Path, waveform: Waveform, sample_rate: int) -> Decoded:
        stem = decoded / file.relative_to(originals).with_suffix("")
        found = [stem.with_name(stem.name + extension) for extension in sorted(EXTENSIONS)]
        found = [path for path in found if path.is_file()]
        if not found:
            raise SystemFailed(f"there is no {stem}.wav")
        return Decoded(_fit(read(found[0], sample_rate)[0], waveform))

    return run


def command_system(template: str, rate: int, suffix: str = ".wav", bitrate: float | None = None) -> System:
    """A program, as a shell command with `{input}`, `{coded}` and `{output}`.

    Args:
        rate: Hz of the input that it is given and of the output that it writes.
        suffix: of both: `.wav`, or `.raw` for 16-bit samples without a header.
        bitrate: in bit/s, nominal.
    """

    def run(file: Path, waveform: Waveform, sample_rate: int) -> Decoded:
        with tempfile.TemporaryDirectory() as folder:
            paths = {name: Path(folder) / name for name in ("coded",)}
            paths |= {name: Path(folder) / f"{name}{suffix}" for name in ("input", "output")}
            raw = {"format": "RAW", "endian": "LITTLE"} if suffix == ".raw" else {}
            samples = np.clip(resample(waveform, sample_rate, rate), -1, 1)
            soundfile.write(paths["input"], samples, rate, subtype="PCM_16", **raw)
            command = template.format(**{name: shlex.quote(str(path)) for name, path in paths.items()})
            result = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
            if result.returncode or not paths["output"].exists():
                said = (result.stderr.strip().splitlines() or ["it says nothing"])[-1]
                raise SystemFailed(f"`{command}` failed ({result.returncode}): {said}")
            if raw:
                decoded = np.fromfile(paths["output"], "<i2").astype(np.float32) / 32768
                decoded = resample(decoded, rate, sample_rate)
            else:
                decoded, _ = read(paths["output"], sample_rate)
            n_bytes = paths["coded"].stat().st_size if paths["coded"].exists() else None
        return Decoded(_fit(decoded, waveform), n_bytes, bitrate=bitrate)

    return run


_OPUS = (
    "opusenc --quiet --bitrate {rate} {mode} {{input}} {{coded}} && opusdec --quiet --rate 24000 {{coded}} {{output}}"
)
_OPUS_MODES = {"": "--vbr", "-cbr": "--hard-cbr"}  # that rate as a mean, or in every packet
_CODEC2 = "c2enc {mode} {{input}} {{coded}} && c2dec {mode} {{coded}} {{output}}"
PEERS: dict[str, tuple[str, int, str, float]] = {  # name -> command, rate, suffix, nominal bit/s
    **{
        f"opus-{rate}k{suffix}": (_OPUS.format(rate=rate, mode=mode), 24000, ".wav", 1000.0 * rate)
        for rate in (6, 8, 12)
        for suffix, mode in _OPUS_MODES.items()
    },
    **{
        f"codec2-{mode.lower()}": (_CODEC2.format(mode=mode), 8000, ".raw", float(mode.rstrip("C")))
        for mode in ("700C", "1300", "2400", "3200")
    },
}
PROGRAMS = {"opus": ("opusenc", "opus-tools"), "codec2": ("c2enc", "codec2")}


def peer_system(name: str) -> System:
    """A ready-made peer by its name in `PEERS`.

    Raises:
        SystemFailed: its program is not installed.
    """
    program, package = PROGRAMS[name.split("-")[0]]
    if shutil.which(program) is None:
        raise SystemFailed(f"{name} needs the program {program} (Debian package {package})")
    return command_system(*PEERS[name])


def _fit(waveform: Waveform, original: Waveform) -> Waveform:
    """As long as the original: cut, or completed with zeros."""
    n = len(original)
    return np.pad(waveform, (0, max(0, n - len(waveform))))[:n].astype(np.float32)
