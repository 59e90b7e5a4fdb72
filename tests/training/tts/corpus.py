"""What the tests of this folder train on."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.token_corpora import spoken_items, write_tokens

SMOKE = "esdcodec_tts_ar_smoke"
N_UTTERANCES, CODEBOOK = 12, 256


def items() -> dict:
    return spoken_items(range(N_UTTERANCES), codebook=CODEBOOK)


def write_corpus(folder: Path, fingerprint: str) -> Path:
    """Two shards of utterances."""
    for shard in range(2):
        half = dict(list(items().items())[shard * 6 : shard * 6 + 6])
        write_tokens(folder, f"{shard}", half, fingerprint=fingerprint)
    return folder


def weights(folder: Path, step: int) -> dict[str, torch.Tensor]:
    """Of the network, at a checkpoint."""
    return load_file(folder / f"checkpoint-{step:08d}/model.safetensors")


def assert_gradient_checkpoints_change_nothing(train: Callable[..., object], folder: Path) -> None:
    for name, value in (("with", "true"), ("without", "false")):
        train(f"trainer.gradient_checkpointing={value}", folder=folder / name)
    left, right = (weights(folder / name, 2) for name in ("with", "without"))
    for name in left:
        torch.testing.assert_close(left[name], right[name])
