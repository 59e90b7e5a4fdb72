"""Text to audio: semantic codes, acoustic codes, samples; whole or as they come."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...codec import ESDCodec
from ...model_tts.acoustic import AcousticModel
from ...model_tts.acoustic_generation import AcousticPrompt, AcousticStream, acoustic_codes
from ...model_tts.generate import GeneratedCodes, Stop
from ...model_tts.sequence import SpokenText
from ...model_tts.text_to_codes import TextToCodes
from .conversion import SpeechSource, convert
from .sentences import Sentence, clean_text, sentences
from .settings import SpeechSettings
from .silence import SilenceTrimmer, silence
from .speech import Speech, SpeechStream
from .voice import Voice

BATCH = 8  # sentences that go through the language model together
LOOK_AHEAD_MS = 120.0  # of a stream
KEPT_VOICES = 8  # whose prompts stay read

VoiceChoice = Voice | str | Path | None


@dataclass(frozen=True)
class Prompt:
    """A voice as the two networks take it; nothing where there is none."""

    spoken: SpokenText | None = None
    acoustic: AcousticPrompt | None = None


class TextToSpeech:
    """A model that speaks; made by `load_tts`.

    Voices are named as in the folder of the model, or are a `Voice` or the path of one's file. None is the default
    voice; a model without voices then speaks as it likes. Settings are changed by name (`SpeechSettings.changed`):
    `seed=1, temperature=0.7, n_quantizers=8`.

    Attributes:
        voices: the names of those that come with it.
        settings: those that are used where nothing else is said.
        about: what it was trained on, and its licence.
    """

    def __init__(
        self,
        codec: ESDCodec,
        text_to_codes: TextToCodes,
        acoustic: AcousticModel,
        *,
        voices: Mapping[str, Path] | None = None,
        default_voice: str | None = None,
        language: str = "en",
        settings: SpeechSettings | None = None,
        about: str = "",
        name: str = "unnamed",
    ) -> None:
        self.codec, self.text_to_codes, self.acoustic = codec, text_to_codes, acoustic
        self.default_voice, self.language, self.about, self.name = default_voice, language, about, name
        self.settings = settings or SpeechSettings()
        self._files = dict(voices or {})
        self._prompts: dict[str, Prompt] = {}

    @property
    def voices(self) -> tuple[str, ...]:
        return tuple(self._files)

    @property
    def sample_rate(self) -> int:
        """Hz of what is given."""
        return self.codec.sample_rate

    # ---- speech -----------------------------------------------------------------------------------------------------

    def __call__(self, text: str, voice: VoiceChoice = None, **changes: Any) -> Speech:
        """Say a text of any length.

        Raises:
            ValueError: the text is empty, too long, or holds what the model does not know; or there is no such voice
                or setting.
        """
        return self.batch([text], voice, **changes)[0]

    def batch(
        self,
        texts: Sequence[str],
        voice: VoiceChoice | Sequence[VoiceChoice] = None,
        *,
        batch_size: int = BATCH,
        **changes: Any,
    ) -> list[Speech]:
        """Say several texts; each sounds as it does alone.

        Args:
            voice: one for all, or one for each.
            batch_size: sentences that go through the language model together.

        Raises:
            ValueError: as of a call; the message says which text.
        """
        if isinstance(texts, str):
            raise ValueError("texts is one str: give a list of them, or call the model with it")
        settings, prompts = self.settings.changed(**changes), self._prompts_of(voice, len(texts))
        said = [(i, sentence) for i, text in enumerate(texts) for sentence in self._sentences(text, i, len(texts))]
        order = sorted(range(len(said)), key=lambda n: len(said[n][1].text))  # equally long ones go together
        codes: dict[int, GeneratedCodes] = {}
        for start in range(0, len(order), max(1, batch_size)):
            group = order[start : start + max(1, batch_size)]
            given = [prompts[said[n][0]].spoken for n in group]
            results = self.text_to_codes([said[n][1].text for n in group], given, settings.decoding)
            codes |= dict(zip(group, results))
        pieces: list[list[Tensor]] = [[] for _ in texts]
        stops: list[list[Stop]] = [[] for _ in texts]
        for n, (i, sentence) in enumerate(said):
            pieces[i].append(self._sound(codes[n].codes, prompts[i], settings))
            stops[i].append(codes[n].stop)
            if n + 1 < len(said) and said[n + 1][0] == i:
                pieces[i].append(self._pause(sentence, settings))
        return [Speech(torch.cat(own), self.sample_rate, tuple(why)) for own, why in zip(pieces, stops)]

    def stream(
        self, text: str, voice: VoiceChoice = None, *, look_ahead_ms: float | None = LOOK_AHEAD_MS, **changes: Any
    ) -> SpeechStream:
        """Say a text of any length, as it is generated; memory does not grow with it.

        A piece is given as soon as a chunk of the acoustic network is complete and `look_ahead_ms` after it.

        Args:
            look_ahead_ms: of the decoder, as `ESDCodec.stream_decoder` takes it. None: the samples are those of a call.
                Where a sentence ends by "loop", what was given of the repetition stays.

        Raises:
            ValueError: as of a call; what the model does not know is found when its sentence comes.
        """
        settings, prompt = self.settings.changed(**changes), self._prompt(voice)
        text = clean_text(text)
        self.codec.stream_decoder(look_ahead_ms=look_ahead_ms)  # raises for a wrong value
        stops: list[Stop] = []
        return SpeechStream(self._stream(text, prompt, settings, look_ahead_ms, stops), stops, self.sample_rate)

    def convert(
        self, audio: SpeechSource, voice: VoiceChoice = None, sample_rate: int | None = None, **changes: Any
    ) -> Speech:
        """The same words at the same speed in another voice, as long and as loud as they were.

        Args:
            audio: a file, or samples ``[T]`` (tensor or array).
            sample_rate: of samples, in Hz. Default: the codec's.

        Raises:
            AudioFileError, ValueError: this is no audio; or there is no such voice or setting.
        """
        pieces = list(self.convert_pieces(audio, voice, sample_rate, **changes))
        return Speech(torch.cat(pieces), self.sample_rate, ("end",))

    def convert_pieces(
        self,
        audio: SpeechSource,
        voice: VoiceChoice = None,
        sample_rate: int | None = None,
        *,
        problems: list[str] | None = None,
        **changes: Any,
    ) -> Iterator[Tensor]:
        """What `convert` gives, in pieces ``[T]``: memory does not grow with the recording.

        Args:
            problems: what turns out to be missing or damaged in the recording is added here.
        """
        settings, prompt = self.settings.changed(**changes), self._prompt(voice)
        return convert(self.codec, self.acoustic, audio, sample_rate, prompt.acoustic, settings.acoustic, problems)

    # ---- voices -----------------------------------------------------------------------------------------------------

    def voice(self, choice: Voice | str | Path) -> Voice:
        """A voice by its name or its file.

        Raises:
            ValueError: there is none, or it is of another codec.
        """
        if isinstance(choice, Voice):
            voice = choice
        elif str(choice) in self._files:
            voice = Voice.load(self._files[str(choice)])
        elif Path(choice).is_file():
            voice = Voice.load(choice)
        else:
            known = ", ".join(self._files) or "none of its own"
            raise ValueError(
                f"there is no voice {str(choice)!r}: this model has {known}; or give the file of one, which "
                "`esdcodec voice` makes of a recording"
            )
        voice.check_codec(self.codec)
        return voice

    def _prompt(self, choice: VoiceChoice) -> Prompt:
        choice = self.default_voice if choice is None else choice
        if choice is None:
            return Prompt()
        key = choice if isinstance(choice, str) and choice in self._files else None
        if key is None or key not in self._prompts:
            voice = self.voice(choice)
            spoken = self.text_to_codes.voice(voice.text, voice.codes[0])
            prompt = Prompt(spoken, AcousticPrompt(self.acoustic, voice.codes))
        else:
            prompt = self._prompts.pop(key)
        if key is not None:
            self._prompts[key] = prompt  # the last one is the newest
            for oldest in list(self._prompts)[:-KEPT_VOICES]:
                del self._prompts[oldest]
        return prompt

    def _prompts_of(self, voice: VoiceChoice | Sequence[VoiceChoice], n: int) -> list[Prompt]:
        if voice is None or isinstance(voice, str | Path | Voice):
            return [self._prompt(voice)] * n
        if len(voice) != n:
            raise ValueError(f"{len(voice)} voices for {n} texts: give one for each, or one for all")
        return [self._prompt(each) for each in voice]

    # ---- its steps --------------------------------------------------------------------------------------------------

    def _sentences(self, text: str, i: int, n_texts: int) -> list[Sentence]:
        """
        Raises:
            ValueError: a text cannot be said.
        """
        try:
            found = list(sentences(clean_text(text), self.language))
            for sentence in found:
                self.text_to_codes.front_end.ids(sentence.text)  # before the first is said
        except ValueError as error:
            if n_texts == 1:
                raise
            raise ValueError(f"text {i + 1} of {n_texts}: {error}") from error
        return found

    def _sound(self, semantic: Tensor, prompt: Prompt, settings: SpeechSettings) -> Tensor:
        """Audio ``[T]`` of a sentence with the semantic codes ``[L]``."""
        codes = acoustic_codes(self.acoustic, semantic, prompt.acoustic, settings.acoustic)
        audio = self.codec.decode(codes[None].to(self.codec.device))[0, 0].cpu()
        trimmer = SilenceTrimmer(self.sample_rate)
        return torch.cat([trimmer.push(audio), trimmer.finish()])

    def _stream(
        self, text: str, prompt: Prompt, settings: SpeechSettings, look_ahead_ms: float | None, stops: list[Stop]
    ) -> Iterator[Tensor]:
        before: Sentence | None = None
        for sentence in sentences(text, self.language):
            if before is not None:
                yield self._pause(before, settings)
            generated = self.text_to_codes.stream(sentence.text, prompt.spoken, settings.decoding)
            yield from self._sound_of(generated, prompt, settings, look_ahead_ms)
            assert generated.stop is not None  # it has ended
            stops.append(generated.stop)
            before = sentence

    def _sound_of(
        self, semantic: Iterable[int], prompt: Prompt, settings: SpeechSettings, look_ahead_ms: float | None
    ) -> Iterator[Tensor]:
        """The pieces of a sentence whose semantic codes come one by one."""
        acoustic = AcousticStream(self.acoustic, prompt.acoustic, settings.acoustic)
        decoder = self.codec.stream_decoder(look_ahead_ms=look_ahead_ms)
        trimmer = SilenceTrimmer(self.sample_rate)

        def audio(codes: Tensor) -> Tensor:
            return trimmer.push(decoder.push(codes[None].to(self.codec.device))[0, 0].cpu())

        for code in semantic:
            codes = acoustic.push(torch.tensor([code]))
            if codes.shape[1] and len(piece := audio(codes)):
                yield piece
        rest = [audio(acoustic.finish()), trimmer.push(decoder.finish()[0, 0].cpu()), trimmer.finish()]
        yield torch.cat(rest)

    def _pause(self, after: Sentence, settings: SpeechSettings) -> Tensor:
        return silence(settings.paragraph_pause if after.ends_paragraph else settings.pause, self.sample_rate)
