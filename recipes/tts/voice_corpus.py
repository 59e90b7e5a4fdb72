"""Sentences in chosen voices by recipes/speech_data: shards for training, and recordings to test on.

    python recipes/tts/voice_corpus.py data/voices --voices af_heart am_michael --hours 3 --jobs 2

Shard k of a voice is that of its name and k, so any process may make any of them, and a run that was stopped goes on
with those that are missing. A sentence is in one part, by a checksum of it: what is tested is never read in training.
"""

import argparse
import math
import multiprocessing
import random
import sys
import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import soundfile

sys.path.insert(0, str(Path(__file__).parents[1] / "speech_data"))

import prepare
import synthesis
import texts
import voices

from esdcodec.dataset.make_shards import Utterance

VOICES = ("af_heart", "am_michael", "bf_emma", "bm_george")
SHARDS_PER_HOUR = 16  # of 50 sentences
PARTS = {0: "test", 1: "validation"}  # of the checksums modulo `texts.TEST_SHARE`; all others: train
TEMPLATES = 0.25  # of the sentences, beside those of novels
N_TEST = 15  # sentences of each voice


def part(sentence: str) -> str:
    """The one part that a sentence is in."""
    return PARTS.get(zlib.crc32(sentence.encode()) % texts.TEST_SHARE, "train")


def draw_sentences(novels: Sequence[str], wanted: str, n: int, draw: random.Random) -> Iterator[str]:
    """`n` sentences of a part, of novels and templates.

    Args:
        novels: sentences of any part.
    """
    while n > 0:
        sentence = texts.from_template("en", draw) if draw.random() < TEMPLATES else draw.choice(novels)
        if part(sentence) == wanted:
            yield sentence
            n -= 1


@cache
def _synthesiser(packages: Path) -> tuple[synthesis.Synthesiser, list[str]]:
    made = synthesis.Synthesiser(packages)
    return made, [sentence for each in made.sentences.values() for sentence in each]


def utterances(packages: Path, voice: str, wanted: str, number: int, n: int) -> Iterator[Utterance]:
    """Sentences of a part as `voice` says them; name, part and number decide which."""
    synthesiser, novels = _synthesiser(packages)
    draw = random.Random(f"{voice}/{wanted}/{number}")
    for i, text in enumerate(draw_sentences(novels, wanted, n, draw)):
        speed = draw.uniform(*synthesis.SPEEDS) if wanted == "train" else 1.0
        waveform = synthesiser.speak(text, synthesiser.styles[voice], speed, voice[0])
        yield Utterance(f"{voice}_{number:04d}_{i:02d}", waveform, synthesis.SAMPLE_RATE, voice, "en", text)


def make_shard(packages: Path, shard: Path, voice: str, number: int) -> str:
    wanted = shard.parent.name
    prepare.write_shard(utterances(packages, voice, wanted, number, synthesis.PER_SHARD), shard)
    return f"wrote {shard}"


def make_test(packages: Path, folder: Path, voice: str) -> str:
    """`test/VOICE_00.wav` and on, with their texts beside them."""
    for i, utterance in enumerate(utterances(packages, voice, "test", 0, N_TEST)):
        file = folder / f"{voice}_{i:02d}.wav"
        soundfile.write(file, utterance.waveform, utterance.sample_rate)
        file.with_suffix(".txt").write_text(utterance.text + "\n", encoding="utf-8")
    return f"wrote {folder}/{voice}_*.wav"


def write_list(folder: Path) -> None:
    """`sentences.txt`, as `esdcodec evaluate-tts` takes it."""
    lines = [
        f"{file.with_suffix('.txt').read_text(encoding='utf-8').strip()}|{file.stem.rpartition('_')[0]}|{file.name}\n"
        for file in sorted(folder.glob("*.wav"))
    ]
    (folder / "sentences.txt").write_text("".join(lines), encoding="utf-8")


def make_corpus(output: Path, names: Sequence[str], hours: float, jobs: int) -> None:
    """`train/` and `validation/` with shards, `test/` with recordings and their list: all that is missing.

    Raises:
        ValueError: a voice is only for testing codecs.
    """
    reserved = sorted(set(names) & {*voices.TEST, *voices.RESERVED})
    if reserved:
        raise ValueError(f"{', '.join(reserved)}: these voices test what was never heard, take others")
    packages = output / "packages"
    synthesis.fetch(packages)
    tasks: list[tuple[Any, tuple[Any, ...]]] = []
    for number in range(math.ceil(hours * SHARDS_PER_HOUR)):
        for voice in names:
            wanted = [output / "train" / f"{voice}-{number:04d}.tar"]
            wanted += [output / "validation" / f"{voice}-{number:04d}.tar"] * (number == 0)
            tasks += [(make_shard, (packages, shard, voice, number)) for shard in wanted if not shard.exists()]
    tasks += [
        (make_test, (packages, output / "test", voice))
        for voice in names
        if not (output / "test" / f"{voice}_{N_TEST - 1:02d}.txt").exists()
    ]
    for folder in ("train", "validation", "test"):
        (output / folder).mkdir(parents=True, exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for result in [pool.apply_async(*task) for task in tasks]:
            print(result.get(), flush=True)
    write_list(output / "test")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--voices", nargs="+", default=VOICES)
    parser.add_argument("--hours", type=float, default=3.0, help="of each voice")
    parser.add_argument("--jobs", type=int, default=1, help="processes that synthesise, one thread each")
    args = parser.parse_args()
    make_corpus(args.output, args.voices, args.hours, args.jobs)


if __name__ == "__main__":
    main()
