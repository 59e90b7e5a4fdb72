"""Codes and metadata of utterances as output shards."""

import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray


class ShardWriter(Protocol):
    """Writes the utterances of one unit, in their order. The same utterances give the same bytes."""

    suffix: str

    def write(self, key: str, codes: NDArray[np.uint16], metadata: Mapping[str, Any]) -> None:
        """Add an utterance with codes ``[n, L]``."""
        ...

    def close(self) -> None:
        """Write what is still to be written."""
        ...


class TarWriter:
    """`KEY.codes.npy` (uint16 ``[n, L]``) and `KEY.json` in a tar, as webdataset reads it."""

    suffix = ".tar"

    def __init__(self, stream: BinaryIO) -> None:
        self.tar = tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def write(self, key: str, codes: NDArray[np.uint16], metadata: Mapping[str, Any]) -> None:
        array = io.BytesIO()
        np.save(array, codes)
        self._add(f"{key}.codes.npy", array.getvalue())
        self._add(f"{key}.json", json.dumps(metadata, ensure_ascii=False, sort_keys=True).encode())

    def _add(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)  # no time and no owner: the same codes are the same bytes
        member.size = len(content)
        self.tar.addfile(member, io.BytesIO(content))

    def close(self) -> None:
        self.tar.close()


WRITERS = {"tar": TarWriter}
