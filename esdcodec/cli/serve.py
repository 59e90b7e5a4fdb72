"""`esdcodec serve`: the codec over HTTP."""

import argparse
import ipaddress
import os
import sys
from pathlib import Path

from .file_task import load_codec, load_speaker
from .options import CodecSettings, UsageError, add_model_choice, add_speaker
from .parsing import Command, Commands, add_command
from .terminal import printable

TOKEN = "ESDCODEC_TOKEN"
EXAMPLES = """  esdcodec serve                                      this machine alone can ask, at http://127.0.0.1:8024
  esdcodec serve --host 0.0.0.0 --token-file token    all machines, with the token in that file
  curl --data-binary @talk.wav "127.0.0.1:8024/v1/codec/encode?n=3" -o talk.esd
  curl --data-binary @talk.esd "127.0.0.1:8024/v1/codec/decode?format=flac" -o talk.flac
Ctrl-C, or SIGTERM, finishes what has begun."""


def add_parser(commands: "Commands[Command]") -> None:
    command = add_command(commands, "serve", "the codec over HTTP (extra [serve])", EXAMPLES, start)
    command.add_argument("--host", default="127.0.0.1", help="address to listen at")
    command.add_argument("--port", type=int, default=8024, help="0: one that is free")
    command.add_argument(
        "--token-file", type=Path, metavar="FILE", help=f"the token that clients must send; {TOKEN} may have it, too"
    )
    add_speaker(add_model_choice(command))
    group = command.add_argument_group("limits")
    group.add_argument("--max-megabytes", type=float, default=64.0, help="of a file that is sent")
    group.add_argument("--max-seconds", type=float, default=600.0, help="of audio in a file")
    group.add_argument("--max-characters", type=int, default=4096, help="of a text that is to be said")
    group.add_argument("--workers", type=int, default=1, help="files that are coded at once")
    group.add_argument("--queue", type=int, default=32, help="files that wait")
    group.add_argument("--streams", type=int, default=8, help="live ones at once")
    group.add_argument("--stream-seconds", type=float, default=3600.0, help="of audio in a live stream")
    group.add_argument(
        "--timeout", type=float, default=60.0, help="seconds for a file to arrive, to be coded, to be taken"
    )


def start(args: argparse.Namespace) -> int:
    try:
        from ..serve.server import CodecServer
        from ..serve.settings import ServerSettings
    except ModuleNotFoundError as error:
        raise UsageError(f'the server needs {error.name}: `pip install "esdcodec[serve]"`') from error
    settings = ServerSettings(
        host=args.host,
        port=args.port,
        token=_token(args.token_file),
        max_megabytes=args.max_megabytes,
        max_seconds=args.max_seconds,
        max_characters=args.max_characters,
        workers=args.workers,
        queue=args.queue,
        streams=args.streams,
        stream_seconds=args.stream_seconds,
        timeout=args.timeout,
    )
    codec = load_codec(CodecSettings(args.model, args.device, args.dtype))
    tts = load_speaker(args.tts, codec)
    if settings.token is None and not _is_loopback(settings.host):
        print(f"esdcodec: anybody who reaches {settings.host} may ask: set a token with --token-file", file=sys.stderr)
    CodecServer(codec, settings, lambda url: print(f"{printable(codec.name)} at {url}", flush=True), tts).run()
    return 0


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(TOKEN) or None
    token = file.read_text(encoding="utf-8").strip()
    if not token:
        raise UsageError(f"{file} is empty: write the token into it")
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
