"""The autoregressive network: a causal language model of `transformers` that goes on from text with codes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .codebooks import turned
from .packing import PackedSequences, block_mask
from .sequence import SpeechVocabulary

KINDS = ("llama", "qwen2", "qwen3")  # their hidden states and head are taken apart here


class TokenLosses(NamedTuple):
    """Sums over the tokens that are to be learnt."""

    loss: Tensor  # cross-entropy, nats
    end: Tensor  # the part of it that belongs to ends
    n_tokens: Tensor
    n_ends: Tensor
    n_right: Tensor  # tokens that the most probable one is


class AutoregressiveModel(nn.Module):
    """A language model with its loss on codes and ends.

    Args:
        language_model: as `make_language_model` makes it.
        end: token that ends a sequence.
    """

    def __init__(self, language_model: Any, end: int) -> None:
        super().__init__()
        self.language_model, self.end = language_model, end

    def save_memory(self) -> None:
        """Compute activations again in the backward pass instead of keeping them."""
        model, options = self.language_model, {"use_reentrant": False}
        if hasattr(model, "activation_checkpointing_enable"):  # its name from transformers 5 on
            model.activation_checkpointing_enable(options)
        else:
            model.gradient_checkpointing_enable(options)

    def forward(self, packed: PackedSequences) -> TokenLosses:
        lm = self.language_model
        hidden = lm.model(
            input_ids=packed.tokens,
            attention_mask=block_mask(packed.segments),
            position_ids=packed.positions,
            use_cache=False,
        ).last_hidden_state
        targets = packed.targets.flatten()[packed.learnt]
        logits = lm.lm_head(hidden.flatten(0, 1)[packed.learnt]).float()
        losses = F.cross_entropy(logits, targets, reduction="none")
        ends = targets == self.end
        right = logits.argmax(-1) == targets
        n_tokens = torch.full_like(targets[:1], len(targets))[0]
        return TokenLosses(losses.sum(), (losses * ends).sum(), n_tokens, ends.sum(), right.sum())


def make_language_model(sizes: Mapping[str, Any], vocabulary: SpeechVocabulary) -> Any:
    """A new language model, by the arguments of its configuration in `transformers`, and its `model_type`.

    Raises:
        ValueError: no such model, or it cannot have these sizes.
    """
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(language_model_config(sizes, vocabulary))


def language_model_config(sizes: Mapping[str, Any], vocabulary: SpeechVocabulary) -> Any:
    """The configuration of `make_language_model`, with the tokens of a vocabulary."""
    from transformers import AutoConfig

    sizes = dict(sizes)
    kind = sizes.pop("model_type", None)
    if kind not in KINDS:
        raise ValueError(f"model_type={kind!r} is no language model that is trained here: {', '.join(KINDS)}")
    known = vars(AutoConfig.for_model(kind))
    unknown = sorted(set(sizes) - set(known))
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: a {kind} has no such setting")
    if sizes.get("hidden_size", 0) % sizes.get("num_attention_heads", 1):
        raise ValueError(
            f"hidden_size={sizes['hidden_size']} must be a multiple of num_attention_heads="
            f"{sizes['num_attention_heads']}"
        )
    return AutoConfig.for_model(kind, vocab_size=vocabulary.size, **sizes, **_ids(vocabulary))


def _ids(vocabulary: SpeechVocabulary) -> dict[str, int]:
    ids = vocabulary.special_ids
    return {"bos_token_id": ids["text"], "eos_token_id": ids["end"], "pad_token_id": ids["padding"]}


def from_text_model(folder: str | Path, vocabulary: SpeechVocabulary) -> Any:
    """The language model in `folder`, made to read and write codes.

    Its text keeps its tokens. Rows of embedding and head beyond are drawn like those of the text.

    Raises:
        OSError: there is no such model.
        ValueError: it is of a kind that is not trained here, or has fewer tokens of text than the vocabulary.
    """
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(folder)).float()
    if model.config.model_type not in KINDS:
        raise ValueError(f"{folder} holds a {model.config.model_type}; {', '.join(KINDS)} can be trained here")
    if model.config.vocab_size < vocabulary.n_text:
        raise ValueError(f"{folder} has {model.config.vocab_size} tokens, its tokenizer {vocabulary.n_text}")
    model.resize_token_embeddings(vocabulary.size, mean_resizing=False)
    for weight in _tables(model):
        _draw_like_text(weight, vocabulary.n_text)
    for holder in (model.config, model.generation_config):
        for name, value in _ids(vocabulary).items():
            setattr(holder, name, value)
    return model


def _tables(model: Any) -> list[nn.Parameter]:
    """Embedding and head, which may be one."""
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    return [embedding] if head is embedding else [embedding, head]


@torch.no_grad()
def _draw_like_text(weight: nn.Parameter, n_text: int) -> None:
    """Rows from `n_text` on with the mean and the deviation of those before, in each column."""
    text = weight[:n_text]
    new = weight[n_text:]
    new.copy_(text.mean(0) + text.std(0) * torch.randn_like(new))


@torch.no_grad()
def start_from_codebook(model: Any, codebook: Tensor, vocabulary: SpeechVocabulary, seed: int = 0) -> None:
    """Embed the codes as the codec does: sounds that are alike begin alike.

    The codebook, without its mean, is turned at random into the width of the model, where it keeps all distances; a
    wider one loses the directions of least variance first. Its deviation becomes that of the text's rows.

    Args:
        codebook: what each code means, ``[N, D]``.
    """
    if len(codebook) != vocabulary.codebook_size:
        raise ValueError(f"a codebook of {len(codebook)} entries, but there are {vocabulary.codebook_size} codes")
    weight = model.get_input_embeddings().weight
    points = turned(codebook, weight.shape[1], torch.Generator().manual_seed(seed))
    scale = weight[: vocabulary.n_text].double().std().cpu() / points.std()
    weight[vocabulary.first_code :].copy_(points * scale)
