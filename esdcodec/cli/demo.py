"""`esdcodec demo`: a page to hear the codec, served from here or written as files."""

import argparse
import shlex
from pathlib import Path

from .file_task import load_codec, load_speaker
from .options import CodecSettings, UsageError, add_model_choice, add_speaker
from .parsing import Command, Commands, add_command
from .terminal import printable

EXAMPLES = """  esdcodec demo                  at http://127.0.0.1:7860, for this machine alone
  esdcodec demo --host 0.0.0.0   for all machines that reach this one; browsers record over https alone
Ctrl-C stops it.
  esdcodec demo --static page/   a page that computes in the browser, for any web server (extra [onnx])"""


def add_parser(commands: "Commands[Command]") -> None:
    command = add_command(commands, "demo", "a page to hear the codec (extra [demo])", EXAMPLES, start)
    command.add_argument(
        "--static", type=Path, metavar="DIR", help="write a page of files that needs no server, and end"
    )
    command.add_argument("--host", default="127.0.0.1", help="address to listen at")
    command.add_argument("--port", type=int, default=7860, help="0: one that is free")
    add_speaker(add_model_choice(command))
    group = command.add_argument_group("limits")
    group.add_argument("--max-seconds", type=float, default=30.0, help="of a recording")
    group.add_argument("--max-megabytes", type=float, default=20.0, help="of a file")
    group.add_argument("--max-characters", type=int, default=500, help="of a text that is to be said")
    group.add_argument("--queue", type=int, default=16, help="recordings that wait")


def start(args: argparse.Namespace) -> int:
    return _serve(args) if args.static is None else _write(args)


def _write(args: argparse.Namespace) -> int:
    from ..static_page import write_page

    codec = load_codec(CodecSettings(args.model, "cpu"))
    size = sum(path.stat().st_size for path in write_page(codec, args.static))
    print(f"{printable(codec.name)} in {printable(str(args.static))}, {size / 1e6:.0f} MB; to look at it:")
    print(f"  python -m http.server --bind 127.0.0.1 --directory {shlex.quote(printable(str(args.static)))}")
    return 0


def _serve(args: argparse.Namespace) -> int:
    try:
        from ..app.page import make_page, serve_page
        from ..app.settings import DemoSettings
    except ModuleNotFoundError as error:
        raise UsageError(f'the page needs {error.name}: `pip install "esdcodec[demo]"`') from error
    settings = DemoSettings(args.host, args.port, args.max_seconds, args.max_characters, args.max_megabytes, args.queue)
    codec = load_codec(CodecSettings(args.model, args.device, args.dtype))
    page = make_page(codec, settings, load_speaker(args.tts, codec))
    print(f"{printable(codec.name)} at {serve_page(page, settings)}", flush=True)
    page.block_thread()
    return 0
