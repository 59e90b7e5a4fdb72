"""Sequences of different lengths in few rows, with attention kept inside each."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from .sequence import TokenSequence

IGNORED = -100  # as a target
PADDING = -1  # as a segment


@dataclass(frozen=True)
class PackedSequences:
    """R rows of N tokens."""

    tokens: Tensor  # [R, N] int64
    targets: Tensor  # [R, N]: the token after each, where it is to be learnt; elsewhere -100
    segments: Tensor  # [R, N]: which sequence of its row a token belongs to; -1 where there is none
    positions: Tensor  # [R, N]: of a token, as its sequence has it
    learnt: Tensor  # [M]: where targets are to be learnt, in the rows one behind the other

    def to(self, device: torch.device) -> "PackedSequences":
        return PackedSequences(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))


def pack(sequences: Sequence[TokenSequence], row_length: int, padding: int) -> PackedSequences:
    """Put the longest first into the first row that has room; rows are as long as the longest needs.

    Args:
        row_length: tokens of a row, at most; a longer sequence makes all rows as long as it is.
        padding: the token that fills up.
    """
    rows = _fill(sequences, max(row_length, *map(len, sequences)))
    width = max(sum(len(sequences[i]) for i in row) for row in rows)
    tokens = torch.full((len(rows), width), padding)
    targets = torch.full_like(tokens, IGNORED)
    segments = torch.full_like(tokens, PADDING)
    positions = torch.zeros_like(tokens)
    for r, row in enumerate(rows):
        start = 0
        for number, i in enumerate(row):
            sequence = sequences[i]
            end = start + len(sequence)
            tokens[r, start:end] = sequence.tokens
            targets[r, start + sequence.n_given - 1 : end - 1] = sequence.tokens[sequence.n_given :]
            segments[r, start:end] = number
            positions[r, start:end] = sequence.positions
            start = end
    learnt = (targets != IGNORED).flatten().nonzero()[:, 0]
    return PackedSequences(tokens, targets, segments, positions, learnt)


def _fill(sequences: Sequence[TokenSequence], row_length: int) -> list[list[int]]:
    """Which sequences each row has."""
    rows: list[list[int]] = []
    room: list[int] = []
    for i in sorted(range(len(sequences)), key=lambda i: (-len(sequences[i]), i)):
        need = len(sequences[i])
        r = next((r for r, left in enumerate(room) if left >= need), len(rows))
        if r == len(rows):
            rows.append([])
            room.append(row_length)
        rows[r].append(i)
        room[r] -= need
    return rows


def block_mask(segments: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """What is added to attention ``[R, 1, N, N]``: 0 for tokens of the same sequence that do not come later.

    Padding sees padding, so that no row is empty.
    """
    n = segments.shape[1]
    same = segments[:, :, None] == segments[:, None, :]
    seen = same & torch.ones(n, n, dtype=torch.bool, device=segments.device).tril()
    mask = torch.zeros(seen.shape, dtype=dtype, device=segments.device)
    return mask.masked_fill(~seen, torch.finfo(dtype).min)[:, None]
