"""ONNX files of a codec's two halves, for runtimes without PyTorch.

    pip install "esdcodec[onnx]"
    python -m esdcodec.onnx_export 25hz_nano onnx/

writes

- `encoder.onnx`: `audio` ``[B, 1, T]`` float32 at the model's rate, T a multiple of its hop length -> `codes`
  ``[B, K, L]`` int64 of all K codebooks,
- `decoder.onnx`: `codes` ``[B, K, L]`` int64, L at least 2 -> `audio` ``[B, 1, hop_length · L]``. Codebooks
  that are not used are given as -1.

Batch and length are free. Weights are float32. What `ESDCodec.encode` and `decode` do around the networks (resampling,
chunks, cutting to length) is left to the caller.
"""

import argparse
import copy
import math
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .model_codec import ESDCodec
from .model_codec.condition import InverseSTFT, SpectrumHead
from .model_codec.layers import Conv1d, ConvTranspose1d, ResidualUnit, Snake, snake
from .pretrained import load

OPSET = 17


def export_onnx(codec: ESDCodec, folder: str | Path) -> list[Path]:
    """Write `encoder.onnx` and `decoder.onnx` to `folder`, which is made if need be; returns their paths.

    The networks are rewritten first in operators that every runtime has: weights folded, codebooks projected, and the
    inverse STFT as a transposed convolution with the windowed Fourier matrix, which is exact.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    codec = copy.deepcopy(codec).cpu().float().eval()  # the graphs share its layers, and change them alike
    audio = torch.zeros(1, 1, 8 * codec.hop_length)
    codes = torch.zeros(1, codec.n_codebooks, 8, dtype=torch.int64)
    paths = [folder / "encoder.onnx", folder / "decoder.onnx"]
    with torch.no_grad():
        _export(EncoderGraph(codec), audio, "audio", "codes", paths[0])
        _export(DecoderGraph(codec), codes, "codes", "audio", paths[1])
    return paths


def _export(graph: nn.Module, example: Tensor, source: str, result: str, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.eval(),
            (example,),
            str(path),
            input_names=[source],
            output_names=[result],
            dynamic_axes={name: {0: "batch", 2: name} for name in (source, result)},
            opset_version=OPSET,
            dynamo=False,  # the exporter that needs no other package than onnx
        )


class EncoderGraph(nn.Module):
    """Audio to the codes of all codebooks, in plain operators; takes the codec's layers for itself."""

    def __init__(self, codec: ESDCodec) -> None:
        super().__init__()
        tables = _tables(codec)
        self.encoder = _plain(codec.encoder)
        self.semantic_decoder = _plain(codec.semantic_decoder)
        self.searches = nn.ModuleList(_Search(table) for table in tables[:1])
        for quantizer in codec.acoustic_quantizer.quantizers:
            self.searches.append(_Search(F.normalize(quantizer.codebook.weight, dim=-1), _plain(quantizer.in_proj)))
        self.tables = nn.ParameterList(tables)

    def forward(self, audio: Tensor) -> Tensor:
        residual = self.encoder(audio)
        codes = []
        for i, (search, table) in enumerate(zip(self.searches, self.tables)):
            codes.append(search(residual))
            quantized = F.embedding(codes[-1], table).transpose(1, 2)
            residual = residual - (self.semantic_decoder(quantized) if i == 0 else quantized)
        return torch.stack(codes, dim=1)


class _Search(nn.Module):
    """Nearest entry ``[B, L]`` to each frame of ``[B, D, L]``, or to its direction in a projection."""

    def __init__(self, codebook: Tensor, projection: nn.Module | None = None) -> None:
        super().__init__()
        self.codebook, self.bias = nn.Parameter(codebook), nn.Parameter(codebook.square().sum(1))
        self.projection = projection

    def forward(self, latent: Tensor) -> Tensor:
        points = latent if self.projection is None else F.normalize(self.projection(latent), dim=1)
        return (self.bias - 2 * points.transpose(1, 2) @ self.codebook.t()).argmin(-1)


class DecoderGraph(nn.Module):
    """Codes, those of unused codebooks -1, to audio, in plain operators; takes the codec's layers for itself."""

    def __init__(self, codec: ESDCodec) -> None:
        super().__init__()
        self.tables = nn.ParameterList(_tables(codec))
        self.semantic_decoder = _plain(codec.semantic_decoder)
        self.condition_network, self.decoder = _plain(codec.condition_network), _plain(codec.decoder)

    def forward(self, codes: Tensor) -> Tensor:
        layers = codes.clamp(min=0).unbind(1)
        used = (codes >= 0).float().unsqueeze(2).unbind(1)  # of each codebook, [B, 1, L]
        semantic, *acoustic = (F.embedding(layer, table).transpose(1, 2) for layer, table in zip(layers, self.tables))
        latent = self.semantic_decoder(semantic)
        for quantized, mask in zip(acoustic, used[1:]):
            latent = latent + quantized * mask
        subband, _ = self.condition_network(latent)
        return self.decoder(latent, subband)


def _tables(codec: ESDCodec) -> list[Tensor]:
    """What each code of each codebook says about the latent, ``[N, D]``; of codebook 0 before the semantic decoder."""
    quantizers = codec.acoustic_quantizer.quantizers
    return [
        codec.semantic_quantizer.effective_codebook(),
        *(quantizer.out_proj(quantizer.codebook.weight.t()[None])[0].t().contiguous() for quantizer in quantizers),
    ]


def _plain(network: nn.Module) -> nn.Module:
    """`network` with every layer that is faster in PyTorch than it is plain replaced by the plain one."""
    for kind, plain in _PLAIN.items():
        if isinstance(network, kind):
            network = plain(network)
            break
    for name, child in network.named_children():
        setattr(network, name, _plain(child))
    return network


class _PlainSnake(nn.Module):
    def __init__(self, layer: Snake) -> None:
        super().__init__()
        self.alpha = layer.alpha

    def forward(self, x: Tensor) -> Tensor:
        return snake(x, self.alpha)


class _PlainUnit(nn.Sequential):
    def __init__(self, unit: ResidualUnit) -> None:
        super().__init__(*unit)

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class _PlainInverseSTFT(nn.Module):
    """The inverse real Fourier transform, its window and the overlap-add, as one transposed convolution."""

    def __init__(self, istft: InverseSTFT) -> None:
        super().__init__()
        n_fft, self.hop_length = istft.n_fft, istft.hop_length
        self.trim = (n_fft - self.hop_length) // 2
        bins, samples = torch.arange(n_fft // 2 + 1)[:, None], torch.arange(n_fft)
        angle = (bins * samples % n_fft).double() * (2 * math.pi / n_fft)
        both_sides = torch.full((n_fft // 2 + 1, 1), 2.0, dtype=torch.float64)  # all but 0 and half the rate
        both_sides[0] = both_sides[-1] = 1
        basis = torch.cat([both_sides * angle.cos(), -both_sides * angle.sin()]) / n_fft
        self.basis = nn.Parameter((basis * istft.window.double()).float()[:, None])
        self.weight = nn.Parameter(istft.window.square()[None, None])

    def forward(self, magnitude: Tensor, phase: Tensor) -> Tensor:
        spectrum = torch.cat([magnitude * phase.cos(), magnitude * phase.sin()], dim=1)
        return self._overlap_add(spectrum, self.basis) / self._overlap_add(torch.ones_like(phase[:, :1]), self.weight)

    def _overlap_add(self, frames: Tensor, kernel: Tensor) -> Tensor:
        return F.conv_transpose1d(frames, kernel, stride=self.hop_length, padding=self.trim)


class _PlainHead(nn.Module):
    """Magnitude and phase of at least two frames: one has nothing to reflect."""

    def __init__(self, head: SpectrumHead) -> None:
        super().__init__()
        self.log_magnitude, self.phase = head.log_magnitude, head.phase
        self.ceiling = math.log(head.max_magnitude)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.pad(x, (1, 1), mode="reflect")
        return self.log_magnitude(x).clamp(max=self.ceiling).exp(), self.phase(x)


def _plain_conv(layer: Conv1d) -> nn.Module:
    plain = nn.Conv1d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size[0],
        layer.stride[0],
        layer.padding[0],
        layer.dilation[0],
        bias=layer.bias is not None,
    )
    plain.weight = nn.Parameter(layer.normalised_weight())
    plain.bias = layer.bias
    return plain


def _plain_conv_transpose(layer: ConvTranspose1d) -> nn.Module:
    stride = layer.stride[0]
    plain = nn.ConvTranspose1d(layer.in_channels, layer.out_channels, 2 * stride, stride, padding=layer.padding[0])
    plain.weight, plain.bias = nn.Parameter(layer.normalised_weight()), layer.bias
    return nn.Sequential(plain, nn.ReflectionPad1d((1, 0))) if stride % 2 else plain


_PLAIN = {
    Conv1d: _plain_conv,
    ConvTranspose1d: _plain_conv_transpose,
    Snake: _PlainSnake,
    ResidualUnit: _PlainUnit,
    InverseSTFT: _PlainInverseSTFT,
    SpectrumHead: _PlainHead,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a codec's encoder and decoder as ONNX files.")
    parser.add_argument("model", help="bundled or published name, repository, or folder")
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    for path in export_onnx(load(args.model, device="cpu"), args.folder):
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
