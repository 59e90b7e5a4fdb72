"""How speech is made of text."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ...model_tts.acoustic_generation import AcousticSettings
from ...model_tts.decoding import DecodingSettings


@dataclass(frozen=True, kw_only=True)
class SpeechSettings:
    """All that can be chosen.

    Args:
        decoding: of semantic codes.
        acoustic: of acoustic codes.
        pause, paragraph_pause: seconds of silence between sentences, and between paragraphs.
    """

    decoding: DecodingSettings = field(default_factory=DecodingSettings)
    acoustic: AcousticSettings = field(default_factory=AcousticSettings)
    pause: float = 0.3
    paragraph_pause: float = 0.6

    def __post_init__(self) -> None:
        for name in ("pause", "paragraph_pause"):
            if not 0 <= getattr(self, name) <= 10:
                raise ValueError(f"{name}={getattr(self, name)} must be 0 to 10 seconds")

    def changed(self, **changes: Any) -> "SpeechSettings":
        """With some of them changed, by their names.

        `seed` is that of both; `temperature`, `top_k` and `top_p` are those of the semantic codes.

        Raises:
            ValueError: there is none of this name, or it cannot have this value.
        """
        own = {name: value for name, value in changes.items() if name in asdict(self)}
        left = {name: value for name, value in changes.items() if name not in own}
        decoding = {name: value for name, value in left.items() if name in asdict(self.decoding)}
        acoustic = {
            name: value
            for name, value in left.items()
            if name in asdict(self.acoustic) and (name not in decoding or name == "seed")
        }
        if unknown := sorted(set(left) - set(decoding) - set(acoustic)):
            known = sorted({*asdict(self), *asdict(self.decoding), *asdict(self.acoustic)})
            raise ValueError(f"no setting is called {', '.join(unknown)}; there are {', '.join(known)}")
        changed = replace(self, **own)
        return replace(
            changed, decoding=replace(changed.decoding, **decoding), acoustic=replace(changed.acoustic, **acoustic)
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "SpeechSettings":
        """
        Raises:
            TypeError, ValueError: there are no such settings.
        """
        parts = {"decoding": DecodingSettings, "acoustic": AcousticSettings}
        return cls(**{name: parts[name](**value) if name in parts else value for name, value in values.items()})
