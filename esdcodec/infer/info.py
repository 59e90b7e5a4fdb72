"""What an `.esd` file holds, told without a model."""

from pathlib import Path
from typing import Any

from ..bitstream import Reader
from .files import printable


def describe(file: Path, *, check: bool = False) -> dict[str, Any]:
    """Facts of a file by name.

    Args:
        check: read and check every block, not the header and the end alone.

    Raises:
        BitstreamError: it is no `.esd` file, or damaged.
        OSError: it cannot be read.
    """
    with open(file, "rb") as stream:
        reader = Reader(stream)
        if check:
            for _ in reader.read_blocks():
                pass
    header, size = reader.header, file.stat().st_size
    return {
        "file": str(file),
        "model": header.model,
        "fingerprint": header.fingerprint.hex(),
        "seconds": reader.duration,
        "original_rate": header.original_rate,
        "original_samples": reader.original_samples,
        "gain_db": header.gain_db,
        "sample_rate": header.sample_rate,
        "frame_rate": header.frame_rate,
        "frames": reader.n_frames,
        "blocks": reader.n_blocks,
        "codebooks": len(header.bits),
        "bits": list(header.bits),
        "bitrate": header.frame_rate * header.frame_bits,
        "bytes": size,
        "checked": check,
    }


def table(facts: dict[str, Any]) -> str:
    """The facts for a person."""
    lines = {
        "file": facts["file"],
        "model": f"{facts['model']} (fingerprint {facts['fingerprint']})",
        "audio": f"{facts['seconds']:.3f} s, {facts['original_samples']} samples at {facts['original_rate']} Hz",
        "gain": f"{facts['gain_db']:+.2f} dB before encoding, taken back by decoding" if facts["gain_db"] else "none",
        "decodes to": f"{facts['sample_rate']} Hz",
        "codes": f"{facts['codebooks']} codebooks of {', '.join(map(str, facts['bits']))} bits, {facts['frames']} "
        f"frames, {facts['frame_rate']:g} a second: {facts['bitrate']:.0f} bit/s",
        "size": f"{facts['bytes']:,} bytes in {facts['blocks']} blocks" + (", all whole" if facts["checked"] else ""),
    }
    return "\n".join(f"{name:10} {printable(value)}" for name, value in lines.items())
