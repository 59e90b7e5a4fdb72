"""ONNX files of a codec's two halves, for runtimes without PyTorch.

    pip install "esdcodec[onnx]"
    python -m esdcodec.onnx_export 25hz_nano exported/

writes

- `encoder.onnx`: `audio` ``[B, 1, T]`` float32 at the model's rate, T a multiple of its hop length -> `codes`
  ``[B, K, L]`` int64 of all K codebooks; the first n of them are codes of n codebooks,
- `decoder.onnx`: `codes` ``[B, n, L]`` int64 of the first n codebooks, 1 to K -> `audio` ``[B, 1, hop_length · L]``.
  Codebooks that an item doesn't use may also be given as -1,
- `weights.bin`: the weights of both,
- `codec.json`: what a caller needs to know of the model. `name`, `fingerprint`, `sample_rate`, `hop_length` and
  `codebook_sizes` are those of `ESDCodec`. `encoder_context` and `decoder_context` are the frames before (`left`) and
  after (`right`) a frame that it depends on: a window with so much context gives the values of one pass.

Batch, length and n are free. What is computed is float32. What `ESDCodec.encode` and `decode` do around the networks
(resampling, chunks, cutting to length) is left to the caller; `web/` does it in a browser.
"""

import argparse
import copy
import importlib.util
import json
import math
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .codec import ESDCodec, load
from .model_codec.chunking import decoding, encoding
from .model_codec.condition import InverseSTFT, SpectrumHead
from .model_codec.inference import Rules, rewritten
from .model_codec.quantizer import VectorQuantizer
from .onnx_weights import write_models
from .whole_file import whole_file

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 17
DESCRIPTION = "codec.json"


def export_onnx(codec: ESDCodec, folder: str | Path) -> list[Path]:
    """Write the files described above to `folder`, which is made if need be; returns their paths.

    They have the plain network in operators that every runtime has. Weights are stored as the codec's own file has
    them, in half precision where that loses nothing, and both halves share them: their norms, the projected codebooks
    and the Fourier matrix are constants of the graph, which a runtime computes once, when it loads it.

    Raises:
        ImportError: the package `onnx` is not installed.
    """
    spec = importlib.util.find_spec("onnx")
    if spec is None or spec.origin is None:  # a folder of that name can be imported, too
        raise ImportError('ONNX files are written with the package onnx: `pip install "esdcodec[onnx]"`')
    folder = Path(folder)
    description = describe(codec)
    codec = copy.deepcopy(codec).cpu().float().eval()
    audio = torch.zeros(1, 1, 8 * codec.hop_length)
    codes = torch.zeros(1, 1, 8, dtype=torch.int64)
    audio_axes, codes_axes = {0: "batch", 2: "samples"}, {0: "batch", 2: "frames"}
    with torch.no_grad():
        encoder = _model(EncoderGraph(codec), audio, {"audio": audio_axes}, {"codes": codes_axes})
        decoder = _model(DecoderGraph(codec), codes, {"codes": {**codes_axes, 1: "codebooks"}}, {"audio": audio_axes})
    paths = write_models({"encoder.onnx": encoder, "decoder.onnx": decoder}, folder)
    with whole_file(folder / DESCRIPTION) as stream:
        stream.write(json.dumps(description, indent=1).encode())
    return [*paths, folder / DESCRIPTION]


def describe(codec: ESDCodec) -> dict[str, Any]:
    """The content of `codec.json`."""
    contexts = {
        "encoder_context": encoding(codec, codec.n_codebooks, chunk_frames=1).context,
        "decoder_context": decoding(codec, chunk_frames=1).context,
    }
    return {
        "name": codec.name,
        "fingerprint": codec.fingerprint.hex(),
        "sample_rate": codec.sample_rate,
        "hop_length": codec.hop_length,
        "codebook_sizes": list(codec.codebook_sizes),
        **{name: context._asdict() for name, context in contexts.items()},
    }


Axes = dict[str, dict[int, str]]  # the names of an input's or output's axes that are free


def _model(graph: nn.Module, example: Tensor, source: Axes, result: Axes) -> "ModelProto":
    import onnx

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        path = f"{folder}/model.onnx"
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.eval(),
            (example,),
            path,
            input_names=list(source),
            output_names=list(result),
            dynamic_axes={**source, **result},
            opset_version=OPSET,
            dynamo=False,  # the exporter that needs no other package than onnx
            do_constant_folding=False,  # what follows from the weights is not stored
        )
        return onnx.load(path)


class EncoderGraph(nn.Module):
    """Audio to the codes of all codebooks."""

    def __init__(self, codec: ESDCodec) -> None:
        super().__init__()
        self.encoder, self.semantic_decoder = _plain(codec.encoder), _plain(codec.semantic_decoder)
        self.semantic_quantizer, self.acoustic_quantizer = codec.semantic_quantizer, codec.acoustic_quantizer

    def forward(self, audio: Tensor) -> Tensor:
        latent = self.encoder(audio)
        table = self.semantic_quantizer.effective_codebook()
        codes = [_nearest(latent, table)]
        residual = latent - self.semantic_decoder(_entries(codes[0], table))
        for quantizer in self.acoustic_quantizer.quantizers:
            projected = F.normalize(quantizer.in_proj(residual), dim=1)
            codes.append(_nearest(projected, F.normalize(quantizer.codebook.weight, dim=-1)))
            residual = residual - _entries(codes[-1], _table(quantizer))
        return torch.stack(codes, dim=1)


class DecoderGraph(nn.Module):
    """Codes of the first n codebooks, those of unused codebooks -1, to audio."""

    def __init__(self, codec: ESDCodec) -> None:
        super().__init__()
        self.semantic_quantizer, self.acoustic_quantizer = codec.semantic_quantizer, codec.acoustic_quantizer
        self.semantic_decoder = _plain(codec.semantic_decoder)
        self.condition_network, self.decoder = _plain(codec.condition_network), _plain(codec.decoder)

    def forward(self, codes: Tensor) -> Tensor:
        quantizers = self.acoustic_quantizer.quantizers
        unused = -torch.ones_like(codes[:, :1]).expand(-1, 1 + len(quantizers), -1)
        semantic, *acoustic = torch.cat([codes, unused], dim=1)[:, : 1 + len(quantizers)].unbind(1)
        latent = self.semantic_decoder(_entries(semantic, self.semantic_quantizer.effective_codebook()))
        for quantizer, layer in zip(quantizers, acoustic):
            # -1 is looked up as 1, and multiplied away; not every runtime clamps integers
            quantized = _entries(layer.abs(), _table(quantizer))
            latent = latent + quantized * (layer >= 0).float().unsqueeze(1)
        subband, _ = self.condition_network(latent)
        return self.decoder(latent, subband)


def _nearest(latent: Tensor, codebook: Tensor) -> Tensor:
    """Nearest entry ``[B, L]`` of a codebook ``[N, D]`` to each frame of ``[B, D, L]``."""
    return (codebook.square().sum(1) - 2 * latent.transpose(1, 2) @ codebook.t()).argmin(-1)


def _entries(codes: Tensor, table: Tensor) -> Tensor:
    """``[B, L]`` codes to ``[B, D, L]``."""
    return F.embedding(codes, table).transpose(1, 2)


def _table(quantizer: VectorQuantizer) -> Tensor:
    """What each code of an acoustic codebook adds to the latent, ``[N, D]``."""
    table: Tensor = quantizer.out_proj(quantizer.codebook.weight.t()[None])[0].t()
    return table


def _plain(network: nn.Module) -> nn.Module:
    """A copy of `network` in operators that every runtime has."""
    return rewritten(nn.Sequential(network), RULES)[0]


class _ConvolutionInverseSTFT(nn.Module):
    """The inverse real Fourier transform, its window and the overlap-add, as one transposed convolution."""

    samples: Tensor

    def __init__(self, istft: InverseSTFT) -> None:
        super().__init__()
        self.n_fft, self.hop_length = istft.n_fft, istft.hop_length
        self.trim = (self.n_fft - self.hop_length) // 2
        angle = torch.arange(self.n_fft, dtype=torch.float64) * (2 * math.pi / self.n_fft)
        both_sides = torch.full((self.n_fft // 2 + 1, 1), 2.0)  # all but 0 and half the rate
        both_sides[0] = both_sides[-1] = 1
        # the matrix has n_fft values, in another order in each row: that is what is stored
        self.cosine, self.sine = nn.Parameter(angle.cos().float()), nn.Parameter(-angle.sin().float())
        self.scale = nn.Parameter(both_sides / self.n_fft)
        self.window = nn.Parameter(istft.window(torch.device("cpu")))
        self.register_buffer("samples", torch.arange(self.n_fft))

    def forward(self, magnitude: Tensor, phase: Tensor) -> Tensor:
        index = self.samples[: self.n_fft // 2 + 1, None] * self.samples % self.n_fft
        basis = torch.cat([self.scale * part[index] * self.window for part in (self.cosine, self.sine)])[:, None]
        spectrum = torch.cat([magnitude * phase.cos(), magnitude * phase.sin()], dim=1)
        weight = self._overlap_add(torch.ones_like(phase[:, :1]), self.window.square()[None, None])
        return self._overlap_add(spectrum, basis) / weight

    def _overlap_add(self, frames: Tensor, kernel: Tensor) -> Tensor:
        return F.conv_transpose1d(frames, kernel, stride=self.hop_length, padding=self.trim)


class _ReflectingHead(nn.Module):
    """Magnitude and phase, whatever the number of frames; one has nothing to reflect and is repeated."""

    def __init__(self, head: SpectrumHead) -> None:
        super().__init__()
        self.log_magnitude, self.phase = head.log_magnitude, head.phase
        self.ceiling = math.log(head.max_magnitude)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        twice = torch.cat([x, x], dim=-1)
        x = torch.cat([twice[..., 1:2], x, twice[..., -2:-1]], dim=-1)
        return self.log_magnitude(x).clamp(max=self.ceiling).exp(), self.phase(x)


RULES: Rules = {InverseSTFT: _ConvolutionInverseSTFT, SpectrumHead: _ReflectingHead}


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a codec's encoder and decoder as ONNX files.")
    parser.add_argument("model", help="bundled or published name, repository, or folder")
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    for path in export_onnx(load(args.model, device="cpu"), args.folder):
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
