"""ONNX files of a codec's two halves, for runtimes without PyTorch.

    pip install "esdcodec[onnx]"
    python -m esdcodec.onnx_export 25hz_nano exported/

writes

- `encoder.onnx`: `audio` ``[B, 1, T]`` float32 at the model's rate, T a multiple of its hop length -> `codes`
  ``[B, K, L]`` int64 of all K codebooks; the first n of them are codes of n codebooks,
- `decoder.onnx`: `codes` ``[B, n, L]`` int64 of the first n codebooks, 1 to K, L at least 2 -> `audio`
  ``[B, 1, hop_length · L]``. Codebooks that an item doesn't use may also be given as -1.

Batch, length and n are free. Weights are float32. What `ESDCodec.encode` and `decode` do around the networks
(resampling, chunks, cutting to length) is left to the caller.
"""

import argparse
import copy
import importlib.util
import math
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .codec import ESDCodec, load
from .model_codec.condition import InverseSTFT, SpectrumHead
from .model_codec.inference import FOLDED, Rules, rewritten

OPSET = 17


def export_onnx(codec: ESDCodec, folder: str | Path) -> list[Path]:
    """Write `encoder.onnx` and `decoder.onnx` to `folder`, which is made if need be; returns their paths.

    They have the plain network with its weights folded and its codebooks projected, in operators that every runtime
    has: the inverse STFT is a transposed convolution with the windowed Fourier matrix, which is exact.

    Raises:
        ImportError: the package `onnx` is not installed.
    """
    spec = importlib.util.find_spec("onnx")
    if spec is None or spec.origin is None:  # a folder of that name can be imported, too
        raise ImportError('ONNX files are written with the package onnx: `pip install "esdcodec[onnx]"`')
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    codec = copy.deepcopy(codec).cpu().float().eval()
    audio = torch.zeros(1, 1, 8 * codec.hop_length)
    codes = torch.zeros(1, 1, 8, dtype=torch.int64)
    paths = [folder / "encoder.onnx", folder / "decoder.onnx"]
    with torch.no_grad():
        _export(
            EncoderGraph(codec),
            audio,
            {"audio": {0: "batch", 2: "samples"}},
            {"codes": {0: "batch", 2: "frames"}},
            paths[0],
        )
        axes = {"codes": {0: "batch", 1: "codebooks", 2: "frames"}}
        _export(DecoderGraph(codec), codes, axes, {"audio": {0: "batch", 2: "samples"}}, paths[1])
    return paths


Axes = dict[str, dict[int, str]]  # the names of an input's or output's axes that are free


def _export(graph: nn.Module, example: Tensor, source: Axes, result: Axes, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.eval(),
            (example,),
            str(path),
            input_names=list(source),
            output_names=list(result),
            dynamic_axes={**source, **result},
            opset_version=OPSET,
            dynamo=False,  # the exporter that needs no other package than onnx
        )


class EncoderGraph(nn.Module):
    """Audio to the codes of all codebooks."""

    def __init__(self, codec: ESDCodec) -> None:
        super().__init__()
        tables = _tables(codec)
        self.encoder, self.semantic_decoder = _plain(codec.encoder), _plain(codec.semantic_decoder)
        self.searches = nn.ModuleList(_NearestEntry(table) for table in tables[:1])
        for quantizer in codec.acoustic_quantizer.quantizers:
            self.searches.append(
                _NearestEntry(F.normalize(quantizer.codebook.weight, dim=-1), _plain(quantizer.in_proj))
            )
        self.tables = nn.ParameterList(tables)

    def forward(self, audio: Tensor) -> Tensor:
        residual = self.encoder(audio)
        codes = []
        for i, (search, table) in enumerate(zip(self.searches, self.tables)):
            codes.append(search(residual))
            quantized = F.embedding(codes[-1], table).transpose(1, 2)
            residual = residual - (self.semantic_decoder(quantized) if i == 0 else quantized)
        return torch.stack(codes, dim=1)


class _NearestEntry(nn.Module):
    """Nearest entry ``[B, L]`` to each frame of ``[B, D, L]``, or to its direction in a projection."""

    def __init__(self, codebook: Tensor, projection: nn.Module | None = None) -> None:
        super().__init__()
        self.codebook, self.bias = nn.Parameter(codebook), nn.Parameter(codebook.square().sum(1))
        self.projection = projection

    def forward(self, latent: Tensor) -> Tensor:
        points = latent if self.projection is None else F.normalize(self.projection(latent), dim=1)
        return (self.bias - 2 * points.transpose(1, 2) @ self.codebook.t()).argmin(-1)


class DecoderGraph(nn.Module):
    """Codes of the first n codebooks, those of unused codebooks -1, to audio."""

    def __init__(self, codec: ESDCodec) -> None:
        super().__init__()
        self.tables = nn.ParameterList(_tables(codec))
        self.semantic_decoder = _plain(codec.semantic_decoder)
        self.condition_network, self.decoder = _plain(codec.condition_network), _plain(codec.decoder)

    def forward(self, codes: Tensor) -> Tensor:
        n_codebooks = len(self.tables)
        unused = -torch.ones_like(codes[:, :1]).expand(-1, n_codebooks, -1)
        layers = torch.cat([codes, unused], dim=1)[:, :n_codebooks].unbind(1)
        semantic, *acoustic = (
            F.embedding(layer.clamp(min=0), table).transpose(1, 2) for layer, table in zip(layers, self.tables)
        )
        latent = self.semantic_decoder(semantic)
        for quantized, layer in zip(acoustic, layers[1:]):
            latent = latent + quantized * (layer >= 0).float().unsqueeze(1)
        subband, _ = self.condition_network(latent)
        return self.decoder(latent, subband)


def _tables(codec: ESDCodec) -> list[Tensor]:
    """What each code of each codebook adds to the latent, ``[N, D]``; of codebook 0 before the semantic decoder."""
    quantizers = codec.acoustic_quantizer.quantizers
    return [
        codec.semantic_quantizer.effective_codebook(),
        *(quantizer.out_proj(quantizer.codebook.weight.t()[None])[0].t().contiguous() for quantizer in quantizers),
    ]


def _plain(network: nn.Module) -> nn.Module:
    """A copy of `network` in operators that every runtime has."""
    return rewritten(nn.Sequential(network), RULES)[0]


class _ConvolutionInverseSTFT(nn.Module):
    """The inverse real Fourier transform, its window and the overlap-add, as one transposed convolution."""

    def __init__(self, istft: InverseSTFT) -> None:
        super().__init__()
        n_fft, self.hop_length = istft.n_fft, istft.hop_length
        self.trim = (n_fft - self.hop_length) // 2
        window = istft.window(torch.device("cpu"))
        bins, samples = torch.arange(n_fft // 2 + 1)[:, None], torch.arange(n_fft)
        angle = (bins * samples % n_fft).double() * (2 * math.pi / n_fft)
        both_sides = torch.full((n_fft // 2 + 1, 1), 2.0, dtype=torch.float64)  # all but 0 and half the rate
        both_sides[0] = both_sides[-1] = 1
        basis = torch.cat([both_sides * angle.cos(), -both_sides * angle.sin()]) / n_fft
        self.basis = nn.Parameter((basis * window.double()).float()[:, None])
        self.weight = nn.Parameter(window.square()[None, None])

    def forward(self, magnitude: Tensor, phase: Tensor) -> Tensor:
        spectrum = torch.cat([magnitude * phase.cos(), magnitude * phase.sin()], dim=1)
        return self._overlap_add(spectrum, self.basis) / self._overlap_add(torch.ones_like(phase[:, :1]), self.weight)

    def _overlap_add(self, frames: Tensor, kernel: Tensor) -> Tensor:
        return F.conv_transpose1d(frames, kernel, stride=self.hop_length, padding=self.trim)


class _ReflectingHead(nn.Module):
    """Magnitude and phase of at least two frames: one has nothing to reflect."""

    def __init__(self, head: SpectrumHead) -> None:
        super().__init__()
        self.log_magnitude, self.phase = head.log_magnitude, head.phase
        self.ceiling = math.log(head.max_magnitude)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.pad(x, (1, 1), mode="reflect")
        return self.log_magnitude(x).clamp(max=self.ceiling).exp(), self.phase(x)


RULES: Rules = {**FOLDED, InverseSTFT: _ConvolutionInverseSTFT, SpectrumHead: _ReflectingHead}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a codec's encoder and decoder as ONNX files.")
    parser.add_argument("model", help="bundled or published name, repository, or folder")
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    for path in export_onnx(load(args.model, device="cpu"), args.folder):
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
