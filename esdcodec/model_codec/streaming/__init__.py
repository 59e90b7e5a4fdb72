"""The network on a signal that comes in pieces, each computed once: the values of one pass over the whole.

- `state`: what is kept of one stream,
- `pieces`: pieces of a signal, and which positions are asked for,
- `layers`: how a layer works on pieces, whatever it computes,
- `forms`, `convolution`: what becomes of the layers of an inference form,
- `condition`, `decoder`, `parts`: the parts of the figure,
- `steps`: how a part gives frames, with all its look-ahead or with less,
- `network`: encoding and decoding.
"""

from .network import StreamingNetwork, StreamingSteps
from .state import State
from .steps import Frames, joined

__all__ = ["Frames", "State", "StreamingNetwork", "StreamingSteps", "joined"]
