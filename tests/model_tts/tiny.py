"""Language models and utterances as small as they go."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

from esdcodec.model_tts.autoregressive import AutoregressiveModel, make_language_model
from esdcodec.model_tts.packing import pack
from esdcodec.model_tts.sequence import SpeechVocabulary, SpokenText, TokenSequence
from esdcodec.model_tts.text import ByteText

CODEBOOK = 20
VOCABULARY = SpeechVocabulary(ByteText.n_tokens, CODEBOOK)
SIZES: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 4, "intermediate_size": 96, "max_position_embeddings": 512,
}  # fmt: skip
TEXTS = ("a quiet evening", "no", "speech from text", "numbers: 1, 2, 3")


def language_model(seed: int = 0, **sizes: Any) -> Any:
    torch.manual_seed(seed)
    return make_language_model({**SIZES, **sizes}, VOCABULARY).eval()


def spoken(text: str, seed: int, n_codes: int | None = None) -> SpokenText:
    random = torch.Generator().manual_seed(seed)
    n = int(torch.randint(8, 30, (), generator=random)) if n_codes is None else n_codes
    return SpokenText(ByteText().ids(text), torch.randint(CODEBOOK, (n,), generator=random))


def corpus() -> list[SpokenText]:
    return [spoken(text, seed) for seed, text in enumerate(TEXTS)]


def examples(voiced: bool = True) -> list[TokenSequence]:
    """Each utterance, every other one with the one before as its speaker prompt."""
    items = corpus()
    return [VOCABULARY.example(each, items[i - 1] if voiced and i % 2 else None) for i, each in enumerate(items)]


def fitted(sequences: Sequence[TokenSequence], steps: int = 120, **sizes: Any) -> tuple[Any, float]:
    """A language model that has learnt the sequences, and its loss for each token in the end."""
    model = AutoregressiveModel(language_model(**sizes).train(), VOCABULARY.special_id("end"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    packed = pack(sequences, 128, VOCABULARY.special_id("padding"))
    for _ in range(steps):
        found = model(packed)
        loss = found.loss / found.n_tokens
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.language_model.eval(), loss.item()
