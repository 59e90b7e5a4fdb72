"""`esdcodec plot`: a picture of what the codec does to a recording."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .file_task import load_codec
from .options import CodecSettings, UsageError, add_existing, add_model, add_n_quantizers
from .parsing import Command, Commands, add_command

if TYPE_CHECKING:
    from ..audio import Waveform
    from ..bitstream import Codes
    from ..codec import ESDCodec

FORMATS = ("png", "svg", "pdf")
EXAMPLES = "  esdcodec plot talk.wav -o talk.png\n  esdcodec plot talk.wav -o talk.svg -n 8"


@dataclass(frozen=True)
class PlotSettings:
    """What to draw, and where."""

    source: Path
    target: Path
    model: CodecSettings
    n_quantizers: int | None = None  # None: all
    overwrite: bool = False
    skip_existing: bool = False
    json: bool = False  # what is printed

    def __post_init__(self) -> None:
        if self.target.suffix[1:] not in FORMATS:
            raise UsageError(f"--output {self.target} must end in .png, .svg or .pdf")


def add_parser(commands: Commands[Command]) -> None:
    help = "a picture of a recording, its decoded audio, the subband signal and the codes"
    command = add_command(commands, "plot", help, EXAMPLES, start)
    command.add_argument("source", metavar="AUDIO")
    command.add_argument("-o", "--output", required=True, help=".png, .svg or .pdf")
    add_n_quantizers(command)
    add_existing(command)
    add_model(command)


def start(args: argparse.Namespace) -> int:
    return run(
        PlotSettings(
            Path(args.source),
            Path(args.output),
            CodecSettings.of(args),
            args.n_quantizers,
            args.overwrite,
            args.skip_existing,
            args.json,
        )
    )


def run(settings: PlotSettings) -> int:
    from .plan import wanted
    from .terminal import printable

    target = settings.target
    if not wanted([target], overwrite=settings.overwrite, skip_existing=settings.skip_existing):
        return 0
    check_matplotlib()
    _draw_recording(settings)
    print(json.dumps({"written": str(target)}) if settings.json else f"written    {printable(target)}")
    return 0


def check_matplotlib() -> None:
    """
    Raises:
        ValueError: it is not installed.
    """
    if find_spec("matplotlib") is None:
        raise ValueError("pictures need matplotlib: pip install matplotlib")


def _draw_recording(settings: PlotSettings) -> None:
    import torch

    from ..audio import read
    from ..loudness import gain_for
    from ..whole_file import whole_file

    codec = load_codec(settings.model)
    cut: Any = {"chunk_seconds": settings.model.chunk_seconds, "batch_seconds": settings.model.batch_seconds}
    waveform, rate = read(settings.source, codec.sample_rate)
    gain_db = gain_for(waveform, rate)
    audio = torch.from_numpy(waveform).to(codec.device)
    codes = codec.encode(audio, n_quantizers=settings.n_quantizers, gain_db=gain_db, **cut)
    decoded = codec.decode(codes, length=len(waveform), gain_db=gain_db, **cut)
    with whole_file(settings.target) as picture:
        draw(
            picture,
            codec,
            waveform,
            decoded[0, 0].cpu().numpy(),
            codes[0].cpu().numpy(),
            gain_db,
            settings.target.suffix[1:],
        )


def draw(
    picture: BinaryIO,
    codec: ESDCodec,
    original: Waveform,
    decoded: Waveform,
    codes: Codes,
    gain_db: float,
    format: str,
) -> None:
    """Draw both signals ``[T]`` at the codec's rate and the codes ``[n, L]``; only the subband is computed for that."""
    from ..evaluation.plot import plot, subband_signal  # matplotlib is needed for nothing else

    plot(
        picture,
        original,
        decoded[: len(original)],
        subband_signal(codec, codes, gain_db),
        codes,
        codec.codebook_sizes,
        codec.sample_rate,
        codec.subband_sample_rate,
        format=format,
    )
