"""`esdcodec speak`: text to speech."""

from __future__ import annotations

import argparse

from .options import AUDIO_FORMATS, UsageError, add_existing, format_of
from .parsing import Command, Commands, add_command
from .speech_model import SpeechModelChoice, add_speech_model
from .terminal import printable

EXAMPLES = """  esdcodec speak "Something to say." -o said.wav            in the model's own voice
  esdcodec speak "The same." --voice me.voice -o me.flac    in one that `esdcodec voice` made
  esdcodec speak - -o chapter.mp3 < chapter.txt             a text of any length
  esdcodec speak --lines texts.txt -o said/                 a file for each line: said/00001.wav, …
  esdcodec speak "As it comes." --stream -o - | aplay
A line may end with |NAME, the voice that says it. Files say in their metadata that they were generated."""


def add_parser(commands: Commands[Command]) -> None:
    command = add_command(commands, "speak", "text to speech (extra [tts])", EXAMPLES, start)
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("text", nargs="?", metavar="TEXT", help="what is said, or - for a pipe")
    what.add_argument("--lines", metavar="FILE", help="a text in each line, or - for a pipe; --output is a folder")
    what.add_argument("--list-voices", action="store_true", help="print those of the model, and say nothing")
    group = command.add_argument_group("files")
    group.add_argument("-o", "--output", help="file, folder/, or - for a pipe (default: speech.wav; of a pipe, a pipe)")
    group.add_argument("--format", choices=AUDIO_FORMATS, help="of what is written (default: that of --output, or wav)")
    add_existing(group)
    group = command.add_argument_group("stream")
    group.add_argument("--stream", action="store_true", help="write wav as it is generated")
    group.add_argument(
        "--look-ahead-ms", type=float, default=120.0, help="of the decoder: what less costs is in docs/live.md"
    )
    add_speech_model(command, decoding=True)


def start(args: argparse.Namespace) -> int:
    from ..pipes import STDOUT
    from .speaking import Speaking, run
    from .speech_lines import lines_of, text_of

    if args.list_voices:
        return _list_voices(args.model)
    if args.overwrite and args.skip_existing:
        raise UsageError("--overwrite and --skip-existing exclude each other")
    format = format_of(args.output, args.format, AUDIO_FORMATS)
    if args.stream and (args.lines or format != "wav"):
        raise UsageError("--stream writes one text, as wav")
    if args.lines:
        lines, refused = lines_of(args.lines, args.output, format, args.voice)
    else:
        lines, refused = [text_of(args.text, args.output, format, args.voice)], []
    if args.json and any(line.target == STDOUT for line in lines):
        raise UsageError("--json and the result would both go to the standard output: give --output a file")
    settings = Speaking(
        SpeechModelChoice.of(args),
        format,
        tag=not args.no_tag,
        look_ahead_ms=args.look_ahead_ms if args.stream else None,
        output=args.output,
        overwrite=args.overwrite,
        skip_existing=args.skip_existing,
        json=args.json,
    )
    return run(settings, lines, refused)


def _list_voices(model: str) -> int:
    from ..infer.tts.folder import SpeechModelConfig, find_folder, voice_files
    from ..tts import Voice

    folder = find_folder(model)
    default = SpeechModelConfig.read(folder).default_voice
    for name, file in voice_files(folder).items():
        voice = Voice.load(file)
        consent = "its speaker agreed" if voice.consent == "agreed" else "not known whether its speaker agreed"
        about = [consent, *[voice.origin] * bool(voice.origin), *["the default"] * (name == default)]
        print(printable(f"{name:16} {'; '.join(about)}"))
    return 0
