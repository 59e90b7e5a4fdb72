"""A corpus of speech to codes: shard by shard, repeatable, in any number of processes."""

from .run import Summary, tokenise
from .settings import TokeniseSettings
from .sources import Unit
from .verify import verify
from .work import ShardManifest

__all__ = ["ShardManifest", "Summary", "TokeniseSettings", "Unit", "tokenise", "verify"]
