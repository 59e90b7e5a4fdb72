"""A corpus of speech to codes: shard by shard, repeatable, in any number of processes."""

from .run import Summary, tokenise
from .settings import TokeniseSettings
from .verify import verify

__all__ = ["Summary", "TokeniseSettings", "tokenise", "verify"]
