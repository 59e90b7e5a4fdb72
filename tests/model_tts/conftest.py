"""A text tokenizer as small as it goes."""

from pathlib import Path

import pytest

LINES = ["plain words", "naïve café — 北京 🎉", "a <|end|> in words", "tabs\tand\nlines   are spaces"]


@pytest.fixture(scope="session")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a language model's tokenizer that has merges and special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=letters, special_tokens=["<|begin|>", "<|end|>"])
    tokenizer.train_from_iterator([*LINES, "plain words in words"] * 4, trainer)
    folder = tmp_path_factory.mktemp("bpe")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>").save_pretrained(folder)
    return folder
