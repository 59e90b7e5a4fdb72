"""The network on a signal that comes in pieces, each computed once: the values of one pass over the whole.

- `state`: what is kept of one stream,
- `layers`: how a layer works on pieces, whatever it computes,
- `forms`: what becomes of the layers of an inference form,
- `condition`, `decoder`: the networks that are more than a chain of layers,
- `network`: the figure, for pieces.
"""

from .layers import Together
from .network import StreamingNetwork
from .state import Kept, Piece, State, flat, joined

__all__ = ["Kept", "Piece", "State", "StreamingNetwork", "Together", "flat", "joined"]
