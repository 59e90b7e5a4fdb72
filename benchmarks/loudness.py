"""At which level the codec codes best: scores of recordings that are brought to several levels and coded.

    python benchmarks/loudness.py VOICES/train-kokoro-00{05,25}.tar VOICES/train-{im_carlo,rf_ivrvoice}.tar
    python benchmarks/loudness.py VOICES/test/real VOICES/test/quiet --levels -46 -36 -20 -16 -10 -6 --added all

Sources are shards, or folders of audio. Levels are those of `esdcodec.loudness` (dBFS, pauses left out). With `--added`
noise, clicks, a constant offset or pauses are mixed in first, and amplified with the speech. Scores compare with what
was encoded, both at one level. Columns have the mean, and the difference to the level in use with two standard errors.
"""

import argparse
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from esdcodec import ESDCodec, gain_for
from esdcodec.audio import audio_files, read
from esdcodec.dataset.members import AUDIO, choose
from esdcodec.dataset.tar_stream import utterances
from esdcodec.evaluation.metrics import Scorer, installed_scorers
from esdcodec.evaluation.pair import Pair
from esdcodec.loudness import LEVEL

RATE = 24000
SCORED_AT = -20.0  # dBFS
COLUMNS = {"stoi": "stoi", "distillmos": "distillmos", "pesq": "pesq_wb", "spectral": "mel"}  # of each metric


def ratio(decibels: float) -> np.float32:
    return np.float32(10 ** (decibels / 20))


def at_level(waveform: np.ndarray, level: float) -> np.ndarray:
    return waveform * ratio(level - LEVEL + gain_for(waveform, RATE))


def noise(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return waveform + ratio(SCORED_AT - 10) * rng.standard_normal(len(waveform)).astype(np.float32)


def clicks(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    waveform = waveform.copy()
    waveform[rng.integers(0, len(waveform), 2 * len(waveform) // RATE)] = ratio(SCORED_AT + 40)
    return waveform


def offset(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return waveform + ratio(SCORED_AT + 20)


def pauses(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.concatenate([waveform, np.zeros(3 * len(waveform), np.float32)])


ADDED = {
    "nothing": lambda waveform, rng: waveform,
    "noise 10 dB below": noise,
    "clicks 40 dB above": clicks,
    "an offset 20 dB above": offset,
    "three times its length of silence": pauses,
}


def recordings(source: str, n: int, seconds: float) -> Iterator[np.ndarray]:
    """`n` recordings of a source at equal distances, those that last a second or more, and the beginning of each."""
    if Path(source).is_dir():
        contents = [file.read_bytes() for file in audio_files(Path(source)).files]
    else:
        found = [(sample, choose(list(sample), AUDIO)) for sample in utterances(source)]
        contents = [sample[extension] for sample, extension in found if extension]
    waveforms = (read(io.BytesIO(content), RATE)[0] for content in contents)
    long_enough = [waveform[: round(seconds * RATE)] for waveform in waveforms if len(waveform) >= RATE]
    for i in sorted({round(i) for i in np.linspace(0, len(long_enough) - 1, n)}):
        yield long_enough[i]


def scores(codec: ESDCodec, original: np.ndarray, level: float, n: int, scorers: dict[str, Scorer]) -> list[float]:
    """The metrics of a recording at `SCORED_AT` that is coded at another level."""
    gain = level - SCORED_AT
    codes = codec.encode(original, RATE, n_quantizers=n, gain_db=gain)
    estimate = codec.decode(codes, gain_db=gain)[0, 0].numpy()[: len(original)]
    return [score(Pair(original, estimate, RATE))[COLUMNS[name]] for name, score in scorers.items()]


def cells(rows: np.ndarray, in_use: np.ndarray) -> str:
    """Of each column of ``[n, columns]`` the mean, and the difference to the same recordings at the level in use."""
    differences = rows - in_use
    errors = 2 * differences.std(0, ddof=1) / np.sqrt(len(rows))
    return " | ".join(
        f"{mean:.3f} ({difference:+.3f} ± {error:.3f})"
        for mean, difference, error in zip(rows.mean(0), differences.mean(0), errors)
    )


def table(
    codec: ESDCodec, originals: Sequence[np.ndarray], levels: Sequence[float], n: int, scorers: dict[str, Scorer]
) -> None:
    found: dict[float, list[list[float]]] = {level: [] for level in (LEVEL, *levels)}
    for original in tqdm(originals, leave=False):
        values = {level: scores(codec, original, level, n, scorers) for level in found}
        if np.isfinite(list(values.values())).all():  # a metric may be undefined for a recording
            for level, row in values.items():
                found[level].append(row)
    print(f"{len(found[LEVEL])} of {len(originals)} recordings have all scores\n")
    print("| coded at, dBFS | " + " | ".join(scorers) + " |\n| ---" + " | ---" * len(scorers) + " |")
    for level in sorted(found):
        print(f"| {level:g} | {cells(np.array(found[level]), np.array(found[LEVEL]))} |")
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--model", default="25hz_nano")
    parser.add_argument("--n-quantizers", type=int, default=3)
    parser.add_argument("--each", type=int, default=10, help="recordings of each source (default 10)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each, at most (default 4)")
    parser.add_argument("--levels", type=float, nargs="+", default=[-28, -24, -20, -16, -12])
    parser.add_argument("--metrics", nargs="+", choices=COLUMNS, default=["stoi", "distillmos"])
    parser.add_argument("--added", nargs="+", choices=[*ADDED, "all"], default=["nothing"])
    args = parser.parse_args()
    codec = ESDCodec.from_pretrained(args.model)
    scorers, missing = installed_scorers(args.metrics)
    if missing:
        parser.error("; ".join(missing))
    speech = [waveform for source in args.sources for waveform in recordings(source, args.each, args.seconds)]
    for name in ADDED if "all" in args.added else args.added:
        rng = np.random.default_rng(0)
        print(f"{args.model}, {args.n_quantizers} codebooks; added to the speech: {name}")
        originals = [at_level(ADDED[name](at_level(waveform, SCORED_AT), rng), SCORED_AT) for waveform in speech]
        table(codec, originals, args.levels, args.n_quantizers, scorers)


if __name__ == "__main__":
    main()
