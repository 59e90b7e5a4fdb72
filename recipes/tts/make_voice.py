"""A model that speaks, from an empty folder: data, codes, two trainings, one folder, its scores.

    python recipes/tts/make_voice.py work --hours 3 --jobs 2

Every stage is a documented command, which is printed; stopped, the same command goes on where it was. See README.md.
"""

import argparse
import io
import json
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import voice_corpus

from esdcodec import load
from esdcodec.tts import SpeechSettings, Voice, bundle_tts

STAGES = ("data", "tokens", "ar", "nar", "model", "scores")
PROMPT_SECONDS = (3.0, 4.0)  # of a recording: prompts in training are of 1.6 to 4 s
ORIGIN = "Kokoro-82M (Apache-2.0), voice {}; text of the public domain"
ABOUT = "trained by recipes/tts on speech of Kokoro-82M (Apache-2.0); MIT"


@dataclass(frozen=True)
class Recipe:
    """What is made, and where."""

    work: Path
    codec: str = "25hz_nano"
    voices: Sequence[str] = voice_corpus.VOICES
    hours: float = 3.0  # of each voice
    jobs: int = 1
    config: str = "esdcodec_tts_{}_nano_train"
    settings: dict[str, list[str]] = field(default_factory=dict)  # `ar`, `nar` -> overrides of its configuration

    @property
    def model(self) -> Path:
        return self.work / "25hz_nano_tts"

    def run(self, stage: str) -> None:
        print(f"--- {stage}", flush=True)
        {"data": self.data, "tokens": self.tokens, "model": self.join, "scores": self.scores}.get(
            stage, lambda: self.train(stage)
        )()

    def data(self) -> None:
        voice_corpus.make_corpus(self.work / "data", self.voices, self.hours, self.jobs)

    def tokens(self) -> None:
        for part in ("train", "validation"):
            shards = sorted(str(path) for path in (self.work / "data" / part).glob("*.tar"))
            self._esdcodec(
                "tokenise", *shards, "-o", self.work / "tokens" / part, "--model", self.codec, "--jobs", self.jobs
            )

    def train(self, half: str) -> None:
        """`ar` or `nar`."""
        tokens = self.work / "tokens"
        self._esdcodec(
            "train", f"--config-name={self.config.format(half)}", f"model.codec={self.codec}",
            f"machine.tokens={tokens / 'train'}", f"data.validation={tokens / 'validation'}",
            f"trainer.output_dir={self.work / half}", *self.settings.get(half, []),
        )  # fmt: skip

    def join(self) -> None:
        """Both networks and a recording of each voice, as one folder that `esdcodec.load_tts` takes."""
        codec = load(self.codec, device="cpu")
        made = []
        for name in self.voices:
            audio, text = prompt(self.work / "data/train", name)
            made.append(
                Voice.from_audio(audio, text, codec=codec, name=name, consent="agreed", origin=ORIGIN.format(name))
            )
        bundle_tts(
            self.model, text_to_codes=self.work / "ar/export", acoustic=self.work / "nar/export", codec=self.codec,
            voices=made, dtype="float16", settings=SpeechSettings(), about=ABOUT,
        )  # fmt: skip
        size = sum(path.stat().st_size for path in self.model.rglob("*") if path.is_file())
        print(f"wrote {self.model}, {size / 1e6:.1f} MB")

    def scores(self) -> None:
        sentences = self.work / "data/test/sentences.txt"
        self._esdcodec("evaluate-tts", sentences, "--model", self.model, "--output", self.work / "scores")

    @staticmethod
    def _esdcodec(*arguments: object) -> None:
        words = [str(argument) for argument in arguments]
        print("$", shlex.join(["esdcodec", *words]), flush=True)
        subprocess.run([sys.executable, "-m", "esdcodec.cli", *words], check=True)


def prompt(shards: Path, voice: str) -> tuple[io.BytesIO, str]:
    """A recording of a voice, of a length that suits a prompt, and what is said in it.

    Raises:
        ValueError: there is none.
    """
    low, high = PROMPT_SECONDS
    for about, audio in _utterances(sorted(shards.glob(f"{voice}-*.tar"))):
        if low <= about["duration"] <= high:
            return audio, about["text"]
    raise ValueError(f"{shards} has no recording of {voice} with {low} to {high} s: synthesise more of it")


def _utterances(shards: Sequence[Path]) -> Iterator[tuple[dict, io.BytesIO]]:
    for shard in shards:
        with tarfile.open(shard) as tar:
            members = {member.name: member for member in tar}
            for name in sorted(name for name in members if name.endswith(".json")):
                files = [tar.extractfile(members[each]) for each in (name, name[: -len("json")] + "flac")]
                about, audio = (file.read() for file in files if file is not None)
                yield json.loads(about), io.BytesIO(audio)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--codec", default="25hz_nano", help="whose codes: name or folder")
    parser.add_argument("--voices", nargs="+", default=voice_corpus.VOICES)
    parser.add_argument("--hours", type=float, default=3.0, help="of each voice")
    parser.add_argument("--jobs", type=int, default=1, help="processes that synthesise and tokenise")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    for half in ("ar", "nar"):
        parser.add_argument(f"--{half}", nargs="+", default=[], metavar="KEY=VALUE", help="of this half's training")
    args = parser.parse_args()
    settings = {"ar": args.ar, "nar": args.nar}
    recipe = Recipe(args.work, args.codec, args.voices, args.hours, args.jobs, settings=settings)
    for stage in args.stages:
        recipe.run(stage)


if __name__ == "__main__":
    main()
