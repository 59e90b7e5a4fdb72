"""A picture of what the codec did: both spectrograms and the codes between them."""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from ..audio import Waveform
from ..bitstream import Codes
from ..codec import ESDCodec
from ..model_codec.spectral import centred_magnitude

WINDOW, HOP = 1024, 256  # samples
RANGE_DB = 80
Side = Literal["left", "center", "right"]


def decibels(waveform: Waveform) -> np.ndarray:
    """Spectrogram ``[N, frames]`` in dB, the loudest bin 0."""
    padded = np.pad(waveform, (0, max(0, WINDOW - len(waveform))))
    magnitude = centred_magnitude(torch.from_numpy(padded)[None], WINDOW, HOP)[0].numpy()
    return 20 * np.log10(np.maximum(magnitude / max(magnitude.max(), 1e-9), 10 ** (-RANGE_DB / 20)))


def _show(axes: Axes, waveform: Waveform, sample_rate: int, title: str, side: Side = "center") -> AxesImage:
    """Draw the spectrogram of ``[T]``."""
    axes.set_title(title, loc=side)
    axes.set_ylabel("kHz")
    return axes.imshow(
        decibels(waveform),
        origin="lower",
        aspect="auto",
        extent=(0, len(waveform) / sample_rate, 0, sample_rate / 2000),
        vmin=-RANGE_DB,
        vmax=0,
        cmap="magma",
    )


def _show_codes(axes: Axes, codes: np.ndarray, sizes: tuple[int, ...], seconds: float) -> AxesImage:
    """Draw codes ``[n, L]`` as a heat map."""
    n = len(codes)
    axes.set(title=f"codes: {n} × {codes.shape[1]} frames, codebook 0 semantic", xlabel="seconds", ylabel="codebook")
    axes.set_yticks(range(n))
    return axes.imshow(
        codes / (np.array(sizes[:n])[:, None] - 1),
        aspect="auto",
        interpolation="nearest",
        extent=(0, seconds, n - 0.5, -0.5),
        vmin=0,
        vmax=1,
        cmap="viridis",
    )


def spectrogram_image(waveform: Waveform, sample_rate: int, title: str) -> np.ndarray:
    """A picture ``[height, width, 3]`` (uint8) of the spectrogram of ``[T]``."""
    return _image((8, 3), lambda axes: _show(axes, waveform, sample_rate, title))


def codes_image(codes: np.ndarray, sizes: tuple[int, ...], seconds: float) -> np.ndarray:
    """A picture ``[height, width, 3]`` (uint8) of codes ``[n, L]`` of codebooks of these sizes."""
    return _image((6, 1.2 + 0.2 * len(codes)), lambda axes: _show_codes(axes, codes, sizes, seconds))


def panels_image(*panels: tuple[Waveform, int, str]) -> np.ndarray:
    """A picture ``[height, width, 3]`` (uint8) of signals ``[T]``, each with its rate and title, below each other."""
    figure = Figure(figsize=(5, 0.7 + 1.7 * len(panels)), layout="constrained", dpi=150)
    for axes, panel in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels):
        _show(axes, *panel, "left")  # the page has buttons on the right
    return _drawn(figure)


def subband_signal(codec: ESDCodec, codes: Codes, gain_db: float) -> Waveform:
    """What the condition network makes of codes ``[n, L]``: ``[T]`` at `codec.subband_sample_rate`."""
    with torch.inference_mode():
        latent = codec.dequantize(torch.from_numpy(codes)[None].to(codec.device))
        subband: Waveform = (codec.condition(latent)[0][0, 0].float() / 10 ** (gain_db / 20)).cpu().numpy()
    return subband


def _image(size: tuple[float, float], show: Callable[[Axes], AxesImage]) -> np.ndarray:
    figure = Figure(figsize=size, layout="constrained")
    show(figure.subplots())
    return _drawn(figure)


def _drawn(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def plot(
    file: str | Path | BinaryIO,
    original: Waveform,
    decoded: Waveform,
    subband: Waveform,
    codes: np.ndarray,
    sizes: tuple[int, ...],
    sample_rate: int,
    subband_sample_rate: int,
    *,
    format: str = "png",
) -> None:
    """Draw the spectrograms of the original, the decoded and the subband signal ``[T]``, and the codes ``[n, L]``.

    Args:
        format: png, svg or pdf.
    """
    seconds = len(original) / sample_rate
    n = len(codes)
    figure = Figure(figsize=(10, 8.1 + 0.12 * n), layout="constrained")
    *spectra, bottom = figure.subplots(4, 1, sharex=True, height_ratios=[3, 3, 1.5, 0.6 + 0.12 * n])
    for axes, waveform, rate, title in (
        (spectra[0], original, sample_rate, "original"),
        (spectra[1], decoded, sample_rate, "decoded"),
        (spectra[2], subband, subband_sample_rate, "subband that guides the decoder"),
    ):
        image = _show(axes, waveform, rate, title)
    figure.colorbar(image, ax=spectra, label="dB")
    figure.colorbar(_show_codes(bottom, codes, sizes, seconds), ax=bottom, label="code / size")
    bottom.set_xlim(0, seconds)
    figure.savefig(file, dpi=110, format=format)
