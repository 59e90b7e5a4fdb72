"""The network and its objective: torch only, no files."""

from .codec import ESDCodec, Reconstruction

__all__ = ["ESDCodec", "Reconstruction"]
