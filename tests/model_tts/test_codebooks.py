"""Embeddings that begin where a codec has its codes."""

import torch

from esdcodec.model_tts.acoustic import AcousticModel
from esdcodec.model_tts.codebooks import start_acoustic_from_codebooks


def test_the_embedding_of_a_frame_is_as_far_from_others_as_in_the_codec():
    random = torch.Generator().manual_seed(0)
    semantic, *acoustic = (torch.randn(n, 12, generator=random) for n in (40, 20, 20, 20))
    model = AcousticModel(codebook_sizes=(40, 20, 20, 20), dim=16, hidden=16, blocks=1, heads=2)
    start_acoustic_from_codebooks(model, semantic, acoustic)
    codes = torch.stack([torch.zeros(20).long(), *(torch.randperm(20, generator=random) for _ in range(3))])[None]
    embedded = model.embed(codes, torch.tensor([3]))[0].detach()
    points = acoustic[0][codes[0, 1]] + acoustic[1][codes[0, 2]]
    ratio = torch.pdist(embedded) / torch.pdist(points)
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-3, atol=0)
    semantic_ratio = torch.pdist(model.embeddings[0].weight.detach()) / torch.pdist(semantic)
    torch.testing.assert_close(semantic_ratio, semantic_ratio.mean().expand_as(semantic_ratio), rtol=1e-3, atol=0)


def test_acoustic_codes_are_rated_along_their_embeddings():
    random = torch.Generator().manual_seed(0)
    tables = [torch.randn(20, 12, generator=random) for _ in range(3)]
    model = AcousticModel(codebook_sizes=(20, 20, 20), dim=16, hidden=16, blocks=1, heads=2)
    start_acoustic_from_codebooks(model, tables[0], tables[1:])
    for embedding, head in zip(list(model.embeddings)[1:], model.codebook_heads):
        similarity = torch.cosine_similarity(embedding.weight, head, dim=-1)
        torch.testing.assert_close(similarity, torch.ones_like(similarity))
