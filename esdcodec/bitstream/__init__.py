"""The `.esd` file: codes at their exact width, in checked blocks. `docs/format.md` specifies it.

Only numpy is needed here, so that looking into a file takes no time.
"""

from .format import (
    BLOCK_FRAMES,
    END_BYTES,
    MAGIC,
    MAX_BITS,
    MAX_CODEBOOKS,
    MAX_GAIN,
    MAX_NAME,
    MAX_RATE,
    MIN_RATE,
    SPARE_BLOCKS,
    VERSION,
    BitstreamError,
    Block,
    Codes,
    DamagedBlock,
    Header,
    WrongModel,
    pack,
    parse_end,
    read_block,
    read_header,
    unpack,
)
from .reader import PipeReader, Reader
from .transcode import transcode
from .writer import Writer

__all__ = [
    "BLOCK_FRAMES",
    "END_BYTES",
    "MAGIC",
    "MAX_BITS",
    "MAX_CODEBOOKS",
    "MAX_GAIN",
    "MAX_NAME",
    "MAX_RATE",
    "MIN_RATE",
    "SPARE_BLOCKS",
    "VERSION",
    "BitstreamError",
    "Block",
    "Codes",
    "DamagedBlock",
    "Header",
    "PipeReader",
    "Reader",
    "Writer",
    "WrongModel",
    "pack",
    "parse_end",
    "read_block",
    "read_header",
    "transcode",
    "unpack",
]
