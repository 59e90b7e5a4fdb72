"""The network with a form for inference and a fingerprint, both made anew when the weights change."""

import hashlib
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .inference import inference_form
from .network import Network
from .snapshot import Snapshot
from .streaming import StreamingNetwork

_COMPILED = "_orig_mod."  # what `torch.compile` puts into the names of a module's parameters
_MAKING = threading.Lock()  # an inference form: once, however many threads ask


class InferenceNetwork(Network):
    """`Network`, with what is computed once from its weights and kept until they change."""

    _inference_form: tuple[Snapshot, Network] | None = None
    _streaming_form: StreamingNetwork | None = None
    _fingerprint: tuple[Snapshot, bytes] | None = None

    def inference_form(self) -> Network:
        """The network as `encode` and `decode` run it: with the same steps, made once of faster layers.

        It is made anew when the weights change. While the codec is trained, with gradients, under autocast, and while
        it is compiled, exported or traced, it is the codec itself.
        """
        plain = self.training or torch.is_grad_enabled() or torch.is_autocast_enabled(self.device.type)
        if plain or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return self
        kept = self._inference_form
        if kept is None or not kept[0].is_still(self):
            with _MAKING:
                kept = self._inference_form
                if kept is None or not kept[0].is_still(self):
                    # its memory is free before the next one takes as much
                    self._inference_form = self._streaming_form = None
                    self._inference_form = kept = Snapshot(self), inference_form(self)
        return kept[1]

    @torch.no_grad()
    def streaming_form(self) -> StreamingNetwork:
        """The inference form for pieces, made once as well."""
        form = self.inference_form()
        if form is self:  # nothing is kept in training and under autocast
            return StreamingNetwork(inference_form(self))
        kept = self._streaming_form
        if kept is None or kept.network is not form:
            self._streaming_form = kept = StreamingNetwork(form)
        return kept

    @property
    def fingerprint(self) -> bytes:
        """32 bytes that identify the weights that decoding uses: SHA-256 of them as float32.

        Codes can be decoded by any codec with the same fingerprint. A codec converted by `load(dtype=...)` has that of
        the weights it was loaded from, until they change. What is written to `parameter.data` of a codec in
        evaluation mode is not seen: call `train()` and `eval()` after that.
        """
        kept = self._fingerprint
        if kept is None or not kept[0].has_weights_of(self):
            self._fingerprint = kept = Snapshot(self), self._hash()
        return kept[1]

    def _hash(self) -> bytes:
        digest = hashlib.sha256()
        for name, tensor in sorted(self.plain_state_dict().items()):
            if not name.startswith("encoder.") and ".in_proj." not in name:
                digest.update(f"{name} {list(tensor.shape)}\n".encode())
                digest.update(tensor.detach().float().cpu().contiguous().numpy().astype("<f4").tobytes())
        return digest.digest()

    def plain_state_dict(self) -> dict[str, Tensor]:
        """The state dict under the names that it has when no part is compiled."""
        return {name.replace(_COMPILED, ""): tensor for name, tensor in self.state_dict().items()}

    def train(self, mode: bool = True) -> "InferenceNetwork":
        if mode:
            self._inference_form = self._streaming_form = self._fingerprint = None
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "InferenceNetwork":
        kept, dtype = self._fingerprint, self.dtype
        fingerprint = kept[1] if kept is not None and kept[0].has_weights_of(self) else None
        self._inference_form = self._streaming_form = self._fingerprint = None
        super()._apply(fn, recurse)
        if fingerprint is not None and self.dtype == dtype:
            self.keep_fingerprint(fingerprint)
        return self

    def keep_fingerprint(self, fingerprint: bytes) -> None:
        """Use this fingerprint, of the weights that these were converted from, until they change."""
        self._fingerprint = Snapshot(self), fingerprint

    def __getstate__(self) -> dict[str, Any]:  # a copy makes its own inference form
        kept = self._fingerprint
        fingerprint = kept[1] if kept is not None and kept[0].has_weights_of(self) else None
        return {**vars(self), "_inference_form": None, "_streaming_form": None, "_fingerprint": fingerprint}

    def __setstate__(self, state: dict[str, Any]) -> None:
        fingerprint = state.pop("_fingerprint")
        super().__setstate__({**state, "_fingerprint": None})
        if fingerprint is not None:
            self.keep_fingerprint(fingerprint)
