"""The unit of work: one shard, the settings -> one shard of codes and its manifest."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from ...codec import ESDCodec, equal
from ...dataset.token_shards import FORMAT, HISTOGRAM, MANIFEST, histogram_file, shard_files
from ...whole_file import whole_file
from .read import Recording, Unreadable, blocks_of, read_ahead, windows_ahead
from .settings import TokeniseSettings
from .sources import Unit, utterances_of
from .writers import WRITERS

CPU_SECONDS = 16.0  # of audio in a batch: with 60 its activations do not fit into caches, and it takes 25 % longer
GPU_SECONDS = 60.0


@dataclass
class ShardManifest:
    """What an output shard holds; written last, so a shard without one is not finished."""

    source: str
    model: str
    fingerprint: str
    settings: dict[str, Any]
    inputs: str = ""  # of a group of files: SHA-256 of their names and metadata
    bytes: int = 0  # of the output shard
    sha256: dict[str, str] = field(default_factory=dict)  # of each of its files, by suffix
    utterances: int = 0
    seconds: float = 0.0
    frames: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)  # key, reason; without a key: the rest of a shard
    codebook_sizes: list[int] = field(default_factory=list)  # of the codebooks whose codes are counted beside it
    format: str = FORMAT

    @property
    def reasons(self) -> Counter[str]:
        """How many utterances were skipped for each kind of reason."""
        return Counter(kind_of(reason) for _, reason in self.skipped)


def kind_of(reason: str) -> str:
    """A reason without what only one utterance has: what is before its first ": "."""
    return reason.partition(": ")[0]


def tokenise_unit(codec: ESDCodec, unit: Unit, settings: TokeniseSettings, output: Path) -> tuple[ShardManifest, float]:
    """Write the codes of a unit below `output`, and then its manifest. Returns it and the seconds in the network.

    What goes through the network together depends on the unit and the settings alone.

    Raises:
        OSError: the output cannot be written, or the shard cannot be opened.
    """
    n = settings.n_quantizers or codec.n_codebooks
    sizes = list(codec.codebook_sizes[:n])
    counts = [np.zeros(size, np.int64) for size in sizes]
    manifest = ShardManifest(unit.source, codec.name, codec.fingerprint.hex(), relevant(settings, n), unit.digest)
    manifest.codebook_sizes = sizes
    files = shard_files(manifest_file(output, unit), settings.format)
    spent = 0.0
    with ExitStack() as stack:
        streams = {suffix: stack.enter_context(whole_file(file)) for suffix, file in files.items()}
        writer = WRITERS[settings.format](list(streams.values()), n)
        with (
            closing(read_ahead(utterances_of(unit), codec.sample_rate, settings)) as recordings,
            closing(windows_ahead(recordings, settings)) as windows,
        ):
            for window in windows:
                started = time.perf_counter()
                coded = encode_window(codec, window, n, settings)
                spent += time.perf_counter() - started
                for recording, codes in zip(window, coded):
                    utterance = recording.utterance
                    if isinstance(recording, Unreadable):
                        manifest.skipped.append((utterance.key, recording.reason))
                    elif codes is not None:
                        writer.write(utterance.key, codes, _metadata(recording, codes, manifest))
                        manifest.utterances += 1
                        manifest.seconds += recording.seconds
                        manifest.frames += codes.shape[1]
                        for count, row in zip(counts, codes):
                            count += np.bincount(row, minlength=len(count))
        writer.close()
        manifest.bytes = sum(stream.tell() for stream in streams.values())
        streams[HISTOGRAM] = stack.enter_context(whole_file(histogram_file(manifest_file(output, unit))))
        np.save(streams[HISTOGRAM], narrow(np.concatenate(counts)))
        manifest.sha256 = {suffix: digest(stream) for suffix, stream in streams.items()}
    with whole_file(manifest_file(output, unit)) as stream:
        stream.write(json.dumps(asdict(manifest), ensure_ascii=False).encode())
    return manifest, spent


def narrow(counts: NDArray[np.int64]) -> NDArray[Any]:
    """The same numbers in as few bytes each as the largest needs."""
    return counts.astype(np.min_scalar_type(counts.max(initial=0)).newbyteorder("<"))


def digest(stream: BinaryIO) -> str:
    """SHA-256 of a whole file, in hexadecimal."""
    stream.seek(0)
    state = hashlib.sha256()
    while block := stream.read(2**20):
        state.update(block)
    return state.hexdigest()


def manifest_file(output: Path, unit: Unit) -> Path:
    return output / f"{unit.name}{MANIFEST}"


def relevant(settings: TokeniseSettings, n_quantizers: int) -> dict[str, Any]:
    """The settings that the codes depend on."""
    kept = ("dtype", "gain", "window", "window_seconds", "batch_seconds", "long_seconds", "format")
    return {"n_quantizers": n_quantizers, **{name: getattr(settings, name) for name in kept}}


def _metadata(recording: Recording, codes: NDArray[np.uint16], manifest: ShardManifest) -> dict[str, Any]:
    return dict(recording.utterance.metadata) | {
        "frames": codes.shape[1],
        "n_quantizers": codes.shape[0],
        "seconds": round(recording.seconds, 6),
        "gain_db": recording.gain_db,
        "model": manifest.model,
        "fingerprint": manifest.fingerprint,
    }


def encode_window(
    codec: ESDCodec, window: Sequence[Recording | Unreadable], n: int, settings: TokeniseSettings
) -> list[NDArray[np.uint16] | None]:
    """Codes ``[n, L]`` of a window's utterances; those of equal length go through the network together."""
    batch_seconds = settings.batch_seconds or (CPU_SECONDS if codec.device.type == "cpu" else GPU_SECONDS)
    coded: list[NDArray[np.uint16] | None] = [None] * len(window)
    short = [i for i, each in enumerate(window) if isinstance(each, Recording) and each.waveform is not None]
    waveforms = {i: waveform for i in short if (waveform := getattr(window[i], "waveform", None)) is not None}
    frames = [codec.num_frames(len(waveforms[i])) for i in short]
    for group in equal(frames):
        length = frames[group[0]] * codec.hop_length
        size = max(1, int(batch_seconds * codec.sample_rate / length))
        for start in range(0, len(group), size):
            together = [short[g] for g in group[start : start + size]]
            batch = torch.zeros(len(together), 1, length)
            for row, i in zip(batch, together):
                row[0, : len(waveforms[i])] = torch.from_numpy(waveforms[i])
            codes = codec.encode(batch.to(codec.device), n_quantizers=n).cpu().numpy().astype(np.uint16)
            for i, row in zip(together, codes):
                coded[i] = row
    for i, each in enumerate(window):
        if isinstance(each, Recording) and each.waveform is None:
            coded[i] = _encode_long(codec, each, n)
    return coded


def _encode_long(codec: ESDCodec, recording: Recording, n: int) -> NDArray[np.uint16]:
    """Codes of a long recording, read again piece by piece."""
    pieces = []
    with blocks_of(recording.utterance) as (rate, blocks):
        stream = codec.stream_encoder(rate, n_quantizers=n, gain_db=recording.gain_db)
        for block in blocks:
            if len(block):
                pieces.append(stream.push(torch.from_numpy(np.ascontiguousarray(block)).to(codec.device)))
    pieces.append(stream.finish())
    return torch.cat([piece.cpu() for piece in pieces], dim=-1)[0].numpy().astype(np.uint16)
