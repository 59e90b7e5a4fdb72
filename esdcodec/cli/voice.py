"""`esdcodec voice`: a recording and what is said in it become a voice."""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .file_task import CodecFileTask, named_or_seekable
from .options import SOURCES, CodecSettings, FileSettings, UsageError, add_files, add_model_choice
from .parsing import Command, Commands, add_command

if TYPE_CHECKING:
    from ..infer.files import CodedFile

EXAMPLES = """  esdcodec voice talk.wav --text "What I say in it." -o me.voice --consent agreed
  esdcodec voice recordings/ -o voices/                     with talk.txt beside each talk.wav
  esdcodec speak "Something else." --voice me.voice -o else.wav

Make voices of people who agreed to it, and let nobody take generated speech for a person's own words."""


def add_parser(commands: "Commands[Command]") -> None:
    command = add_command(commands, "voice", "a recording and its text to a voice", EXAMPLES, start)
    add_files(command, SOURCES, None)
    command.add_argument("--text", help="what is said, word for word (default: that of talk.txt beside talk.wav)")
    command.add_argument("--name", help="of the voice (default: that of the file)")
    command.add_argument(
        "--consent", choices=("agreed", "unknown"), default="unknown", help="whether the speaker agreed to it"
    )
    command.add_argument("--origin", default="", help="where the recording comes from, and its licence")
    add_model_choice(command)
    command.reads_audio = True


def start(args: argparse.Namespace) -> int:
    from ..audio import EXTENSIONS
    from .many_files import run
    from .speech_model import check_text

    files = FileSettings.of(args)
    several = len(files.sources) > 1 or Path(files.sources[0]).is_dir()
    if several and (args.text is not None or args.name is not None):
        raise UsageError("--text and --name are of one recording: write talk.txt beside each talk.wav")
    text = None if args.text is None else check_text(args.text)
    codec = CodecSettings(args.model, args.device, args.dtype)
    return run(files, MakeVoice(codec, text, args.name, args.consent, args.origin), EXTENSIONS, ("voice",))


@dataclass
class MakeVoice(CodecFileTask):
    """Audio to `.voice`."""

    text: str | None = None  # None: that of the file beside it
    name: str | None = None
    consent: Literal["agreed", "unknown"] = "unknown"
    origin: str = ""

    @property
    def suffixes(self) -> tuple[str, ...]:
        return (".voice",)

    def check(self, source: Path) -> None:
        from ..audio import probe

        self._text_of(source)
        probe(source)

    def run(self, source: Path, targets: list[Path]) -> "CodedFile":
        from ..infer.files import CodedFile
        from ..pipes import output
        from ..tts import Voice

        text = self._text_of(source)
        name = self.name or targets[0].stem
        with named_or_seekable(source) as audio, output(targets[0]) as target:
            spent = -time.perf_counter()
            voice = Voice.from_audio(
                audio,
                text,
                codec=self.codec,
                name=name,
                consent=self.consent,
                origin=self.origin,
            )
            spent += time.perf_counter()
            data = voice.to_bytes()
            target.write(data)
        return CodedFile(voice.codes.shape[1] / self.codec.frame_rate, len(data), encode_seconds=spent)

    def _text_of(self, source: Path) -> str:
        if self.text is not None:
            return self.text
        file = source.with_suffix(".txt")
        try:
            return file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{file} is not UTF-8: convert it, such as by `iconv -t UTF-8`") from error
        except OSError as error:
            raise ValueError(f"what is said in it is not known: give --text, or write it into {file}") from error
