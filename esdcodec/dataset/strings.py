"""Many texts as two arrays, which can be mapped into memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Strings:
    """Texts, one behind the other in UTF-8; bytes that are none, as in old names of files, are kept."""

    data: np.ndarray  # uint8
    ends: np.ndarray  # int64 [n]: where each ends

    @classmethod
    def join(cls, texts: Sequence[str]) -> "Strings":
        parts = [text.encode(errors="surrogateescape") for text in texts]
        ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
        return cls(np.frombuffer(b"".join(parts), np.uint8), ends)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: int) -> str:
        first = int(self.ends[i - 1]) if i else 0
        return self.data[first : int(self.ends[i])].tobytes().decode(errors="surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    def part(self, first: int, last: int) -> "Strings":
        """Those from `first` to before `last`."""
        start = int(self.ends[first - 1]) if first else 0
        end = int(self.ends[last - 1]) if last else 0
        return Strings(self.data[start:end], self.ends[first:last] - start)
