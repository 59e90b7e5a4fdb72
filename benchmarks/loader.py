"""How fast one loader worker makes training segments, beside the plain way, on the same shards in the same run.

    python benchmarks/loader.py [SHARDS] [--format mp3] [--segment-seconds 3.2] [--rounds 3]

Ours seeks to the utterance, decodes the segment and resamples it. The plain way reads the shard through, decodes whole
utterances, resamples them, and crops. "Ours, teacher" computes what w2v-BERT reads of each segment besides, as a run
with `model.teacher` does. Without SHARDS it makes some: utterances of 10 to 20 s from the bundled sample.
"""

import argparse
import io
import json
import random
import statistics
import tarfile
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import soundfile
import webdataset
from transformers import SeamlessM4TFeatureExtractor

from esdcodec.audio import read
from esdcodec.dataset.batch import collate
from esdcodec.dataset.filters import Filters
from esdcodec.dataset.loader import Loaders, Source
from esdcodec.dataset.members import AUDIO
from esdcodec.dataset.shards import list_shards
from esdcodec.dataset.skip_counts import SkipCounts
from esdcodec.dataset.stream import Segment, shuffle
from esdcodec.training.teacher import FeatureExtraction

SAMPLE_RATE = 24000
BATCH_SIZE = 12


def make_shards(folder: Path, audio_format: str, rate: int, n_shards: int = 4, per_shard: int = 50) -> str:
    """Utterances of 10 to 20 s in one format."""
    sample, _ = read(Path(__file__).parents[1] / "esdcodec/assets/sample.flac", rate)
    rng = random.Random(0)
    for number in range(n_shards):
        with tarfile.open(folder / f"{number:06d}.tar", "w") as tar:
            for i in range(per_shard):
                seconds = rng.uniform(10, 20)
                buffer = io.BytesIO()
                repeated = np.resize(np.roll(sample, rng.randrange(len(sample))), int(seconds * rate))
                soundfile.write(buffer, repeated, rate, format=audio_format.upper())
                metadata = json.dumps({"duration": seconds, "language": "en"}).encode()
                for extension, content in ((audio_format, buffer.getvalue()), ("json", metadata)):
                    member = tarfile.TarInfo(f"{number}_{i:03d}.{extension}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return str(folder)


def plain(shards: list[str], length: int, seed: int) -> Iterator:
    """Batches the plain way, endless."""
    rng = random.Random(seed)

    def segments() -> Iterator[Segment]:
        while True:
            for sample in webdataset.tariterators.tarfile_samples({"url": s} for s in rng.sample(shards, len(shards))):
                content = next(sample[name] for name in AUDIO if name in sample)
                json.loads(sample["json"])
                waveform, _ = read(io.BytesIO(content), SAMPLE_RATE)
                start = rng.randint(0, max(0, len(waveform) - length))
                yield Segment(sample["__key__"], waveform[start : start + length])

    stream = shuffle(segments(), 16, rng)
    while True:
        yield collate(list(islice(stream, BATCH_SIZE)), length)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", nargs="?")
    parser.add_argument("--format", default="mp3", choices=["mp3", "flac", "wav", "ogg"])
    parser.add_argument(
        "--rate", type=int, default=SAMPLE_RATE, help="of the shards that are made (default: %(default)s)"
    )
    parser.add_argument("--segment-seconds", type=float, default=3.2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=20, help="of 12 segments in each round (default: %(default)s)")
    args = parser.parse_args()
    length = round(args.segment_seconds * SAMPLE_RATE)

    with tempfile.TemporaryDirectory() as folder:
        source = args.shards or make_shards(Path(folder), args.format, args.rate)
        started = time.perf_counter()
        loaders = Loaders(Filters(), sample_rate=SAMPLE_RATE, batch_size=BATCH_SIZE, num_workers=0, max_broken_share=1)
        SeamlessM4TFeatureExtractor().save_pretrained(f"{folder}/features")  # that of w2v-BERT 2.0
        ours, with_teacher = (
            loaders.training(
                Source.parse(source),
                segment_length=length,
                per_utterance=1,
                shuffle_buffer=1000,
                shuffle_window=200000,
                seed=0,
                skip_counts=SkipCounts(),
                extract=extract,
            )
            for extract in (None, FeatureExtraction(f"{folder}/features", SAMPLE_RATE))
        )
        print(f"index of {len(list_shards(source))} shards: {time.perf_counter() - started:.2f} s, once")
        ways = {
            "plain": plain(list_shards(source), length, 0),
            "ours": ours.batches(0),
            "ours, teacher": with_teacher.batches(0),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(args.rounds):  # in turns, so that a slow moment is everybody's
            for name, batches in ways.items():
                next(batches)
                started = time.perf_counter()
                for _ in range(args.batches):
                    next(batches)
                rates[name].append(args.batches * BATCH_SIZE / (time.perf_counter() - started))
        print(
            f"{'':15}{'utterances/s':>14}{'hours of audio/s':>18}   per worker, segments of {args.segment_seconds:g} s"
        )
        for name, values in rates.items():
            rate = statistics.median(values)
            print(f"{name:15}{rate:14.0f}{rate * args.segment_seconds / 3600:18.3f}")
        ratio = statistics.median(o / p for o, p in zip(rates["ours"], rates["plain"]))
        print(f"ours is {ratio:.1f} times as fast")


if __name__ == "__main__":
    main()
