"""The json member of an utterance, checked."""

import json
import math
from dataclasses import dataclass
from typing import Any

LARGEST = 1 << 20  # bytes of a json member that is read
LONGEST = 86_400.0  # seconds: a larger duration is no utterance's, and would be counted as millions of segments
LONGEST_LANGUAGE = 35  # characters of a language tag, as BCP 47 recommends to allow for
DAMAGED = "json member is damaged"


class MetadataError(ValueError):
    """An utterance comes without the metadata it should have."""


@dataclass(frozen=True)
class Metadata:
    """What is known of an utterance."""

    duration: float  # seconds
    dnsmos: float  # 0 where nobody rated it
    language: str  # lower case

    @classmethod
    def parse(cls, content: bytes | None) -> "Metadata":
        """The `KEY.json` of an utterance.

        Raises:
            MetadataError: it is missing, is no JSON object, or a field is not what it should be; the message is the
                same for all of a kind.
        """
        if content is None:
            raise MetadataError("no json member")
        fields = parse_fields(content)
        if "duration" not in fields:
            raise MetadataError("no duration in the json member")
        duration, score = _number(fields["duration"]), fields.get("dnsmos")
        score = 0.0 if score is None else _number(score)
        if not 0 <= duration <= LONGEST:  # NaN neither
            raise MetadataError(f"duration in the json member is not between 0 and {LONGEST:,.0f} s")
        return cls(duration, score if math.isfinite(score) else 0.0, _language(fields))


def parse_fields(content: bytes) -> dict[str, Any]:
    """A json member.

    Raises:
        MetadataError: it is no JSON object, or larger than `LARGEST`.
    """
    if len(content) > LARGEST:
        raise MetadataError(f"json member is larger than {LARGEST >> 20} MiB")
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise MetadataError(DAMAGED) from error
    if not isinstance(fields, dict):
        raise MetadataError(DAMAGED)
    return fields


def language_code(language: str) -> str:
    """`en` for `EN`, ` en` and `en` alike."""
    return language.strip().lower() or "unknown"


def _language(fields: dict[str, Any]) -> str:
    language = fields.get("language") or "unknown"
    if not isinstance(language, str) or not language.isascii() or len(language) > LONGEST_LANGUAGE:
        raise MetadataError("language in the json member is no code")
    return language_code(language)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MetadataError(DAMAGED)
    try:
        return float(value)
    except OverflowError:
        return math.inf
