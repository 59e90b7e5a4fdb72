"""What a model says, and from what: each rung of the ladder between a recording and speech from its text alone."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from ...audio import Waveform
from ...infer.tts.synthesis import TextToSpeech
from ...infer.tts.voice import Voice
from ...whole_file import whole_file
from ..reference import SAMPLE_RATE, Reference, read_reference
from ..settings import ORIGINAL
from ..systems import model_systems
from .sentences import ListedSentence

RESYNTHESIS, TRUE_CODES, TEXT = "resynthesis", "true codebook 0", "text"
RUNGS = (ORIGINAL, RESYNTHESIS, TRUE_CODES, TEXT)

Maker = Callable[[ListedSentence], tuple[np.ndarray, str | None]]  # samples [T], and why they end


@dataclass(frozen=True)
class Spoken:
    """A sentence as one system said it."""

    sentence: ListedSentence
    system: str
    file: Path
    stop: str | None = None  # "end", "length" or "loop"; None: not known
    seconds: float | None = None  # that making it took

    @classmethod
    def original(cls, sentence: ListedSentence) -> "Spoken":
        """The recording of the sentence."""
        assert sentence.recording is not None
        return cls(sentence, ORIGINAL, sentence.recording)


class Ladder:
    """The rungs of one model: files below `folder` that are made once.

    Args:
        tts: as `esdcodec.load_tts` gives it.
        folder: for these files; of this model and this seed alone.
    """

    def __init__(self, tts: TextToSpeech, folder: Path, seed: int = 0) -> None:
        self.tts, self.folder, self.seed = tts, folder, seed
        self._voices: dict[str, Voice] = {}
        self._resynthesis = model_systems(tts.codec, [tts.codec.n_codebooks])[0]

    def rungs(self, sentence: ListedSentence) -> list[Spoken]:
        """The sentence on each rung that it can be on.

        Raises:
            ValueError: the model does not know the voice, or cannot say the text.
        """
        text = self._made(sentence, TEXT, self._text)
        if sentence.recording is None:
            return [text]
        return [
            Spoken.original(sentence),
            self._made(sentence, RESYNTHESIS, self._resynthesised),
            self._made(sentence, TRUE_CODES, self._from_true_codes),
            text,
        ]

    def _made(self, sentence: ListedSentence, system: str, make: Maker) -> Spoken:
        audio, about = (self.folder / system / f"{sentence.name}{suffix}" for suffix in (".wav", ".json"))
        if not about.exists():
            audio.parent.mkdir(parents=True, exist_ok=True)
            start = time.perf_counter()
            waveform, stop = make(sentence)
            known = {"stop": stop, "seconds": time.perf_counter() - start}
            with whole_file(audio) as stream:
                soundfile.write(stream, np.clip(waveform, -1, 1), SAMPLE_RATE, subtype="PCM_16", format="WAV")
            with whole_file(about) as stream:  # after the audio: where it is, all is there
                stream.write(json.dumps(known).encode())
        return Spoken(sentence, system, audio, **json.loads(about.read_text()))

    def _resynthesised(self, sentence: ListedSentence) -> tuple[np.ndarray, None]:
        return self._resynthesis.run(self._reference(sentence)).waveform, None

    def _from_true_codes(self, sentence: ListedSentence) -> tuple[np.ndarray, str | None]:
        assert sentence.recording is not None
        speech = self.tts.convert(sentence.recording, self.voice(sentence))
        return speech.audio.numpy(), None

    def _text(self, sentence: ListedSentence) -> tuple[np.ndarray, str | None]:
        speech = self.tts(sentence.text, voice=self.voice(sentence), seed=self.seed)
        return speech.audio.numpy(), speech.stop

    @staticmethod
    def _reference(sentence: ListedSentence) -> Reference:
        assert sentence.recording is not None
        return read_reference(sentence.recording, sentence.recording.parent)

    # ---- voices -----------------------------------------------------------------------------------------------------

    def voice(self, sentence: ListedSentence) -> Voice | str | None:
        """The voice of a sentence, as the model takes it; one of a recording is made with what is said in it."""
        if sentence.voice is None or sentence.voice_text is None:
            return sentence.voice or self.tts.default_voice
        if sentence.voice not in self._voices:
            made = Voice.from_audio(sentence.voice, sentence.voice_text, codec=self.tts.codec)
            self._voices[sentence.voice] = made
        return self._voices[sentence.voice]

    def prompt(self, sentence: ListedSentence) -> Waveform | None:
        """What the model hears of a sentence's voice ``[T]``, at `SAMPLE_RATE`; None: it has none."""
        codec, voice = self.tts.codec, self.voice(sentence)
        if voice is None:
            return None
        audio: Waveform = codec.decode(self.tts.voice(voice).codes[None].to(codec.device))[0, 0].float().cpu().numpy()
        return audio
