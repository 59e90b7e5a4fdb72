"""Text to semantic codes, as a folder that `AutoModelForCausalLM` and `AutoTokenizer` of `transformers` load too."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ESDCodecError
from .decoding import DecodingSettings
from .generate import CodeStream, GeneratedCodes, generate
from .sequence import SPECIAL, Pace, SpeechVocabulary, SpokenText
from .text import TextFrontEnd, make_text

KEY = "esdcodec"  # of `config.json`
FORMAT = "esdcodec-text-to-codes-1"


class CodecMismatchError(ESDCodecError, ValueError):
    """Codes of one codec were given to what was trained on those of another."""


def check_fingerprint(expected: str, found: str, what: str, remedy: str) -> None:
    """Refuse codes of another codec.

    Args:
        expected, found: fingerprints, in hexadecimal.
        what: was trained on codes of the first, or holds them.

    Raises:
        CodecMismatchError: they differ; the message ends with what to do.
    """
    if expected != found:
        raise CodecMismatchError(
            f"{what} is of the codec with the fingerprint {expected[:16]}, this one has {found[:16]}: the same codes "
            f"mean other sounds. {remedy}"
        )


@dataclass(frozen=True, kw_only=True)
class SpeechTokens:
    """What the tokens of a text-to-codes model are; in its `config.json` as `esdcodec`."""

    codec: str  # its name
    fingerprint: str  # hexadecimal
    frame_rate: float  # codes a second
    codebook_size: int
    n_text: int  # tokens of text, the first ones
    text: Mapping[str, Any]  # front end
    codes_per_text: float  # the length that is expected of a text: so many codes,
    codes_per_text_token: float  # and so many for each of its tokens; of the training data
    shared_positions: bool = False  # text has the positions of the codes that are expected to say it
    format: str = FORMAT

    @property
    def pace(self) -> Pace:
        return Pace(self.codes_per_text, self.codes_per_text_token)

    @property
    def vocabulary(self) -> SpeechVocabulary:
        return SpeechVocabulary(self.n_text, self.codebook_size, self.pace if self.shared_positions else None)

    def as_config(self) -> dict[str, Any]:
        """With the tokens that follow from it."""
        vocabulary = self.vocabulary
        return {**asdict(self), "special_ids": dict(vocabulary.special_ids), "first_code": vocabulary.first_code}


def exported_tokens(folder: str | Path) -> SpeechTokens | None:
    """What the tokens of an export are; None: the folder holds another language model.

    Raises:
        OSError: there is none.
        ValueError: a newer version wrote it.
    """
    from transformers import AutoConfig

    values = dict(getattr(AutoConfig.from_pretrained(str(folder)), KEY, None) or {})
    if not values:
        return None
    if values.get("format") != FORMAT:
        raise ValueError(f"{folder} has format {values.get('format')!r}, this version reads {FORMAT!r}: upgrade")
    for name in ("special_ids", "first_code"):
        values.pop(name)
    return SpeechTokens(**values)


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Where `transformers` shows some for what takes a moment."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


class TextToCodes:
    """A trained language model with its text front end and its vocabulary.

    Args:
        language_model: of `transformers`.
        front_end: of the text; None: the one that `tokens` describe.
    """

    def __init__(self, language_model: Any, tokens: SpeechTokens, front_end: TextFrontEnd | None = None) -> None:
        self.language_model, self.tokens = language_model, tokens
        self.front_end = make_text(tokens.text) if front_end is None else front_end
        self.vocabulary = tokens.vocabulary

    @classmethod
    def load(
        cls, folder: str | Path, fingerprint: bytes, *, device: str | torch.device = "cpu", dtype: Any = torch.float32
    ) -> "TextToCodes":
        """From an export.

        Args:
            fingerprint: of the codec that is to decode the codes, `ESDCodec.fingerprint`.

        Raises:
            CodecMismatchError: the model was trained on codes of another codec.
            OSError, ValueError: there is no such export in the folder.
        """
        from transformers import AutoModelForCausalLM

        tokens = exported_tokens(folder)
        if tokens is None:
            raise ValueError(f"{folder} holds a language model, but none of text to codes: give a training's export")
        check_fingerprint(
            tokens.fingerprint, fingerprint.hex(), str(folder), f"Load the codec {tokens.codec}, or train on its codes"
        )
        with _no_progress_bars():
            model: Any = AutoModelForCausalLM.from_pretrained(str(folder))
        model = model.to(device=device, dtype=dtype).eval()
        config = dict(tokens.text)
        if config["kind"] == "tokenizer":  # the export holds it, with the codes added
            config |= {"path": str(folder), "n_tokens": tokens.n_text}
        return cls(model, tokens, make_text(config))

    def save(self, folder: str | Path, weights: Mapping[str, Tensor] | None = None) -> None:
        """Write the model and the tokenizer, files of which every one is whole.

        Args:
            weights: of the language model, in place of those that it has now.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
            self.language_model.save_pretrained(partial, state_dict=None if weights is None else self._untied(weights))
            self.tokenizer().save_pretrained(partial)
            config = Path(partial) / "config.json"
            content = json.loads(config.read_text(encoding="utf-8")) | {KEY: self.tokens.as_config()}
            config.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
            for path in sorted(Path(partial).iterdir()):
                os.replace(path, folder / path.name)

    def _untied(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Without a head that is the embedding, of which there would be two."""
        tied = self.language_model.config.tie_word_embeddings
        return {name: tensor for name, tensor in weights.items() if not (tied and name == "lm_head.weight")}

    def tokenizer(self) -> Any:
        """A tokenizer of `transformers` with all tokens of the vocabulary: `<|tts_text|>`, …, `<|code_0|>`, …

        Raises:
            ValueError: it cannot give them the numbers that they have here.
        """
        from tokenizers import AddedToken

        tokenizer = self.front_end.tokenizer()
        names = [f"<|tts_{name}|>" for name in SPECIAL]
        names += [f"<|code_{code}|>" for code in range(self.tokens.codebook_size)]
        missing = [name for name in names if tokenizer.get_vocab().get(name) is None]
        tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in missing])
        expected = list(range(self.tokens.n_text, self.vocabulary.size))
        if tokenizer.convert_tokens_to_ids(names) != expected:
            raise ValueError(
                f"the tokenizer numbers {names[0]} … {names[-1]} otherwise than {expected[0]} … {expected[-1]}: it has "
                "such names, or numbers without a token"
            )
        tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token = names[0], names[2], names[3]
        return tokenizer

    # ---- generation -------------------------------------------------------------------------------------------------

    def voice(self, text: str, codes: Tensor) -> SpokenText:
        """A speaker prompt: what was said, and its semantic codes ``[L]``."""
        return SpokenText(self.front_end.ids(text), codes.long().cpu())

    def expected_codes(self, text: Sequence[int], voice: SpokenText | None = None) -> float:
        """Codes that a text is expected to have, at the speed of the training data, or of the voice."""
        usual = self.tokens.pace.of(len(text))
        return usual if voice is None else usual * self.tokens.pace.slower(len(voice.text), len(voice.codes))

    def __call__(
        self,
        texts: Sequence[str],
        voices: Sequence[SpokenText | None] | SpokenText | None = None,
        settings: DecodingSettings | None = None,
        *,
        use_cache: bool = True,
    ) -> list[GeneratedCodes]:
        """Semantic codes of texts, each as if it were alone.

        Args:
            voices: speaker prompts, as `voice` makes them: one for all, or one for each.

        Raises:
            ValueError: a text is empty, too long, or holds what the front end does not know.
        """
        each = list(voices) if isinstance(voices, Sequence) else [voices] * len(texts)
        if len(each) != len(texts):
            raise ValueError(f"{len(each)} voices for {len(texts)} texts: give one for each, or one for all")
        ids = [self.front_end.ids(text) for text in texts]
        given = [self.vocabulary.given(text, voice) for text, voice in zip(ids, each)]
        expected = [self.expected_codes(text, voice) for text, voice in zip(ids, each)]
        settings = settings or DecodingSettings()
        return generate(self.language_model, self.vocabulary, given, expected, settings, use_cache=use_cache)

    def stream(
        self, text: str, voice: SpokenText | None = None, settings: DecodingSettings | None = None
    ) -> CodeStream:
        """The codes of one text as they are chosen; arguments and errors as of a call."""
        ids = self.front_end.ids(text)
        given, expected = self.vocabulary.given(ids, voice), self.expected_codes(ids, voice)
        return CodeStream(self.language_model, self.vocabulary, given, expected, settings or DecodingSettings())
