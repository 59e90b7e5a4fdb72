"""`get_model` and `Inference`: the calls that scripts written for DualCodec make, on an ESDCodec."""

from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor

from ..bundled import NEWEST
from ..codec import ESDCodec, load
from ..weights import PUBLISHED


def get_model(model_id: str = "25hz_v1", path: str | Path | None = None) -> ESDCodec:
    """Load model `model_id`, or what lies at `path`, as `load` takes it. On the CPU, in evaluation mode.

    Raises:
        ValueError: there is no such model id.
        ModelNotFoundError, WeightsError: as `esdcodec.load`.
    """
    known = [*NEWEST, *PUBLISHED]
    if model_id not in known:
        raise ValueError(
            f"model_id={model_id!r} is none of {', '.join(known)}; `esdcodec.load` takes folders and Hub ids"
        )
    return load(model_id if path is None else path, device="cpu")


class Inference:
    """Encode and decode with semantic and acoustic codes apart.

    Args:
        esdcodec_model: from `get_model` or `esdcodec.load`; or leave it out and give
        esdcodec_path: anything that `esdcodec.load` takes.
        device: where to run. Default: where the model is, or CUDA, MPS or CPU for a path.
        autocast: run the convolutions in bfloat16.
    """

    def __init__(
        self,
        esdcodec_model: ESDCodec | None = None,
        esdcodec_path: str | Path | None = None,
        device: str | torch.device | None = None,
        autocast: bool = False,
    ) -> None:
        if esdcodec_model is None and esdcodec_path is None:
            raise ValueError("give esdcodec_model, as from `get_model`, or esdcodec_path, as for `esdcodec.load`")
        model = load(esdcodec_path, device=device) if esdcodec_model is None else esdcodec_model  # type: ignore[arg-type]
        self.model = model.to(device or model.device).eval()
        self.autocast = autocast

    def _context(self) -> torch.autocast | nullcontext[None]:
        return torch.autocast(self.model.device.type, torch.bfloat16) if self.autocast else nullcontext()

    def encode(self, audio: Tensor, n_quantizers: int = 8) -> tuple[Tensor, Tensor]:
        """Audio ``[B, 1, T]`` at 24 kHz -> semantic codes ``[B, 1, L]``, acoustic codes ``[B, n_quantizers - 1, L]``.

        `n_quantizers` counts the semantic codebook. Both are int64.
        """
        with self._context():
            codes = self.model.encode(audio.to(self.model.device), n_quantizers=n_quantizers)
        return codes[:, :1], codes[:, 1:]

    def decode(self, semantic_codes: Tensor, acoustic_codes: Tensor | None = None) -> Tensor:
        """Codes, as `encode` gave them, -> audio ``[B, 1, T]`` at 24 kHz; the acoustic ones may be left out."""
        codes = semantic_codes if acoustic_codes is None else torch.cat([semantic_codes, acoustic_codes], dim=1)
        with self._context():
            return self.model.decode(codes.to(self.model.device))
