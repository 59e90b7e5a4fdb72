"""The systems that are evaluated: this codec, files that another codec wrote, or a program that encodes and decodes."""

import hashlib
import io
import json
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch

from .. import __version__
from ..audio import EXTENSIONS, Waveform, resample
from ..bitstream import VERSION, Reader, transcode
from ..codec import ESDCodec
from ..infer.files import decode_file, encode_file
from ..loudness import LEVEL
from .memory import peak_memory
from .reference import SAMPLE_RATE, Reference, content_hash, read_audio, text_hash

DEFAULT_N_QUANTIZERS = (1, 3, 8, 12)


@dataclass(frozen=True)
class Decoded:
    """What a system made of a recording."""

    waveform: Waveform  # [T] at `SAMPLE_RATE`, as long as the system made it
    n_bytes: int | None = None  # coded; None where it is not known
    encode_seconds: float | None = None
    decode_seconds: float | None = None
    codes: np.ndarray | None = None  # [n, L]
    bitrate: float | None = None  # bit/s, nominal
    megabytes: float | None = None  # that encoding and decoding took at most
    problems: tuple[str, ...] = ()  # what is missing or damaged in the file that was read


@dataclass(frozen=True)
class System:
    """A way to encode and decode a recording.

    Two systems with one `description` give the same results, whatever they are called.
    """

    name: str
    description: str
    run: Callable[[Reference], Decoded]
    content: Callable[[Reference], str] = lambda reference: ""  # hash of what it reads apart from the recording

    def identity(self, reference: Reference) -> str:
        """Hash of all that the result depends on, apart from the recording.

        Raises:
            SystemFailed: what the system reads is not there.
        """
        return text_hash(self.description, self.content(reference))


class SystemFailed(RuntimeError):
    """A system failed on a file; the message has what its program printed last."""


# ---- this codec ------------------------------------------------------------------------------------------------------


def model_systems(codec: ESDCodec, n_quantizers: Sequence[int] = ()) -> list[System]:
    """The codec at several numbers of codebooks (default: those of 1, 3, 8, 12 that it has).

    What `esdcodec encode` and `esdcodec decode` do, in memory. It encodes once, with the most codebooks.

    Raises:
        ValueError: the codec has fewer codebooks.
    """
    numbers = sorted(set(n_quantizers)) or [n for n in DEFAULT_N_QUANTIZERS if n <= codec.n_codebooks]
    for n in numbers:
        codec.bitrate(n)  # raises for a wrong number
    # the first calls are slow: they are left out of the speed
    codec.decode(codec.encode(torch.zeros(1, device=codec.device)))

    @lru_cache(1)  # the systems of one file come one after the other
    def encode(file: Path) -> tuple[bytes, float, float | None]:
        coded = io.BytesIO()
        with peak_memory(codec.device) as peak:
            result = encode_file(codec, file, coded, max(numbers))
        return coded.getvalue(), result.encode_seconds, peak.megabytes

    def system(n: int) -> System:
        def run(reference: Reference) -> Decoded:
            every, encode_seconds, megabytes = encode(reference.path)
            coded = io.BytesIO()
            transcode(Reader(io.BytesIO(every)), coded, n)
            pieces: list[Waveform] = []
            with peak_memory(codec.device) as peak:
                result = decode_file(codec, coded, lambda rate, n_samples: _collect(pieces))
            reader = Reader(coded)
            clipped = np.clip(np.concatenate(pieces), -1, 1)  # as files are
            waveform = resample(clipped, reader.header.original_rate, SAMPLE_RATE)
            known = [each for each in (megabytes, peak.megabytes) if each is not None]
            return Decoded(
                waveform,
                len(coded.getvalue()),
                encode_seconds,
                result.decode_seconds,
                reader.read(),
                codec.bitrate(n),
                max(known) if known else None,
            )

        return System(f"{codec.name} n={n}", f"{description} n={n}", run)

    settings = f"format {VERSION} at {LEVEL} dBFS {codec.device.type} {codec.dtype}"
    description = f"esdcodec {__version__} {settings} {weights_hash(codec)}"
    return [system(n) for n in numbers]


@contextmanager
def _collect(pieces: list[Waveform]) -> Iterator[Callable[[Waveform], None]]:
    yield pieces.append


def weights_hash(codec: ESDCodec) -> str:
    """Of all weights, the encoder's too, which `ESDCodec.fingerprint` leaves out, and of the configuration."""
    digest = hashlib.sha256(json.dumps(codec.config, sort_keys=True).encode())
    for name, tensor in sorted(codec.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


# ---- others ----------------------------------------------------------------------------------------------------------


def original_system() -> System:
    """The recording itself, which the metrics that need no comparison score, too."""
    return System("original", "original", lambda reference: Decoded(reference.waveform))


def folder_system(name: str, decoded: Path) -> System:
    """Files that lie in `decoded` as the originals do in theirs: see `decoded_file`."""

    def run(reference: Reference) -> Decoded:
        waveform, problems = read_audio(decoded_file(reference, decoded))
        return Decoded(waveform, problems=tuple(problems))

    return System(name, "decoded files", run, lambda reference: content_hash(decoded_file(reference, decoded)))


def decoded_file(reference: Reference, decoded: Path) -> Path:
    """The file below `decoded` that belongs to `a/NAME.wav`.

    The first of: `a/NAME.wav.wav`, `a/NAME.wav`, and `a/NAME` with the one extension that there is, if no other
    original is called NAME. Instead of `.wav` any extension of audio will do.

    Raises:
        SystemFailed: there is none, there are several, or it is the original.
    """
    target = decoded / reference.name
    beside = [path.name for path in reference.path.parent.iterdir() if path.suffix.lower() in EXTENSIONS]
    whole = _with_extensions(target.parent, target.name)
    found = whole[:1] or ([target] if target.is_file() else [])
    if not found:
        found = _with_extensions(target.parent, target.stem)
        namesakes = [name for name in beside if Path(name).stem == target.stem and name != target.name]
        if len(found) > 1 or (found and namesakes):
            raise SystemFailed(
                f"{', '.join(path.name for path in found)} in {target.parent} may be of another original or another "
                f"run: call the one of {reference.name} {target.name}.wav"
            )
    if not found:
        raise SystemFailed(f"there is no {target.with_suffix('')}.wav")
    if found[0].samefile(reference.path):
        raise SystemFailed(f"{found[0]} is the original itself: name the folder of the decoded files")
    return found[0]


def _with_extensions(folder: Path, name: str) -> list[Path]:
    """`NAME` with each extension of audio that there is, `.wav` first."""
    listed = folder.iterdir() if folder.is_dir() else ()
    found = [path for path in listed if path.stem == name and path.suffix.lower() in EXTENSIONS and path.is_file()]
    return sorted(found, key=lambda path: (path.suffix.lower() != ".wav", path.name))


def command_system(name: str, template: str, peer: "Peer | None" = None) -> System:
    """A program, as a shell command with `{input}`, `{coded}` and `{output}`; other braces are the shell's.

    Args:
        peer: its entry in `PEERS`, if it has one.
    """
    rate, suffix, delay = (peer.sample_rate, peer.suffix, peer.delay) if peer else (SAMPLE_RATE, ".wav", 0.0)

    def run(reference: Reference) -> Decoded:
        with tempfile.TemporaryDirectory() as folder:
            paths = {"coded": Path(folder) / "coded"}
            paths |= {each: Path(folder) / f"{each}{suffix}" for each in ("input", "output")}
            raw = {"format": "RAW", "endian": "LITTLE"} if suffix == ".raw" else {}
            samples = np.clip(resample(reference.waveform, SAMPLE_RATE, rate), -1, 1)
            if delay:  # silence that pushes the end of the recording out of the encoder
                samples = np.pad(samples, (0, round((delay + _CODEC2_FRAME) * rate)))
            soundfile.write(paths["input"], samples, rate, subtype="PCM_16", **raw)
            command = re.sub(r"\{(input|coded|output)\}", lambda match: shlex.quote(str(paths[match[1]])), template)
            result = subprocess.run(command, shell=True, capture_output=True, check=False, stdin=subprocess.DEVNULL)
            if result.returncode or not paths["output"].exists():
                printed = (result.stderr.decode(errors="replace").strip().splitlines() or ["it printed nothing"])[-1]
                raise SystemFailed(f"`{command}` failed ({result.returncode}): {printed}")
            decoded: Waveform
            if raw:
                decoded = np.fromfile(paths["output"], "<i2").astype(np.float32) / np.float32(32768)
                decoded = resample(decoded, rate, SAMPLE_RATE)
            else:
                decoded, _ = read_audio(paths["output"])  # a program that writes to a pipe states no true length
            n_bytes = paths["coded"].stat().st_size if paths["coded"].exists() else None
        if delay:
            decoded = decoded[round(delay * SAMPLE_RATE) :][: len(reference.waveform)]
        return Decoded(decoded, n_bytes, bitrate=peer.bitrate if peer else None)

    known = f"{peer.delay} s late, with its end, {peer.fingerprint()}" if peer else ""
    return System(name, f"command {template} at {rate} Hz {known}", run)


@dataclass(frozen=True)
class Peer:
    """A codec in a package of the operating system."""

    template: str
    programs: tuple[str, ...]
    package: str  # Debian's
    sample_rate: int  # Hz, of the input that it is given and of the output that it writes
    suffix: str  # of both: `.wav`, or `.raw` for 16-bit samples without a header
    bitrate: float  # bit/s, nominal
    delay: float = 0.0  # seconds by which what it decodes is late, always; they are cut away

    def missing(self) -> list[str]:
        """Programs that are not installed."""
        return [program for program in self.programs if shutil.which(program) is None]

    def fingerprint(self) -> str:
        """Of its programs' files."""
        return " ".join(content_hash(Path(path)) for program in self.programs if (path := shutil.which(program)))


_OPUS = (
    "opusenc --quiet --bitrate {rate} {mode} {{input}} {{coded}} && opusdec --quiet --rate 24000 {{coded}} {{output}}"
)
_OPUS_MODES = {"": "--vbr", "-cbr": "--hard-cbr"}  # that rate as a mean, or in every packet
_CODEC2 = "c2enc {mode} {{input}} {{coded}} && c2dec {mode} {{coded}} {{output}}"
_CODEC2_FRAME = 0.04  # seconds, the longest; what does not fill one is left out
_CODEC2_DELAYS = {"700C": 0.030, "1300": 0.020, "2400": 0.020, "3200": 0.020}  # seconds, where STOI is highest
PEERS: dict[str, Peer] = {
    **{
        f"opus-{rate}k{suffix}": Peer(
            _OPUS.format(rate=rate, mode=mode), ("opusenc", "opusdec"), "opus-tools", 24000, ".wav", 1000.0 * rate
        )
        for rate in (6, 8, 12)
        for suffix, mode in _OPUS_MODES.items()
    },
    **{
        f"codec2-{mode.lower()}": Peer(
            _CODEC2.format(mode=mode), ("c2enc", "c2dec"), "codec2", 8000, ".raw", float(mode.rstrip("C")), delay
        )
        for mode, delay in _CODEC2_DELAYS.items()
    },
}


def peer_system(name: str) -> System:
    """A ready-made peer by its name in `PEERS`.

    Raises:
        SystemFailed: its program is not installed.
    """
    peer = PEERS[name]
    if missing := peer.missing():
        raise SystemFailed(f"{name} needs the program {missing[0]} (Debian package {peer.package})")
    return command_system(name, peer.template, peer)
