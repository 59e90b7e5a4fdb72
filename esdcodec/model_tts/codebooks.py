"""Networks that read codes begin where the codec has them: sounds that are alike begin alike."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .acoustic import AcousticModel


def turned(points: Tensor, width: int, random: torch.Generator) -> Tensor:
    """`points` ``[N, D]`` without their mean, turned at random into `width` directions, where they keep all distances.

    Fewer directions than `D` lose those of least variance.
    """
    points = points.detach().double().cpu()
    points = points - points.mean(0)
    kept = min(points.shape[1], width)
    directions = torch.linalg.eigh(points.T @ points).eigenvectors[:, -kept:]
    matrix = torch.randn(width, kept, generator=random, dtype=points.dtype)
    return points @ directions @ torch.linalg.qr(matrix).Q.T


@torch.no_grad()
def start_acoustic_from_codebooks(
    model: AcousticModel, semantic: Tensor, acoustic: Sequence[Tensor], seed: int = 0
) -> None:
    """Embed codes as the codec does, and rate acoustic ones by what is near in its latent space.

    All acoustic codebooks are turned alike, so that the sum of a frame's embeddings stays the sum that the codec makes.

    Args:
        semantic: what each semantic code means, ``[N, C]``.
        acoustic: of each acoustic codebook, ``[N, D]``.
    """
    random = torch.Generator().manual_seed(seed)
    width = model.of_prompt.shape[0]
    tables = [turned(semantic, width, random)]
    tables += turned(torch.cat(list(acoustic)), width, random).split([len(each) for each in acoustic])
    for k, table in enumerate(tables):
        scale = tables[min(k, 1)].std()  # acoustic ones keep their proportions
        model.embeddings[k].load_state_dict({"weight": table / scale})
        if k > 0:
            model.codebook_heads[k - 1].copy_(table / table.std() * width**-0.5 / 2)
