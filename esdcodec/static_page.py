"""The codec as a page of files alone, which any web server serves: `web/`, once it is built, and a model."""

import hashlib
import json
import shutil
from pathlib import Path

from .codec import ESDCodec
from .errors import ESDCodecError
from .onnx_export import export_onnx
from .whole_file import whole_file

_ASSETS = Path(__file__).parent / "assets"
BUILT = _ASSETS / "web"  # what `npm run build` writes; wheels that are built after it have it
HOW_TO_BUILD = "in a checkout, with Node 20 or newer: `cd web && npm ci && npm run build`"
MODEL, SAMPLE, SERVICE_WORKER = "model", "sample.flac", "service-worker.js"
_DIGITS = 16  # of a file's hash


class PageNotBuiltError(ESDCodecError, FileNotFoundError):
    """This copy of the package has no built page; the message says how to build it."""


def write_page(codec: ESDCodec, folder: str | Path) -> list[Path]:
    """Write the page with `codec` into `folder`, which is made if need be; returns the paths of its files.

    Other files there are left alone. Browsers keep the files of the list in the service worker, by their content, so
    publish all of them again when one has changed.

    Raises:
        PageNotBuiltError: as described there.
        ImportError: the package `onnx` is not installed.
    """
    if not (BUILT / "index.html").exists():
        raise PageNotBuiltError(f"this esdcodec has no built page to write; {HOW_TO_BUILD}")
    folder = Path(folder)
    paths = export_onnx(codec, folder / MODEL)
    sources = {path.relative_to(BUILT): path for path in sorted(BUILT.rglob("*")) if path.is_file()}
    for name, source in (*sources.items(), (Path(SAMPLE), _ASSETS / SAMPLE)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / name)
        paths.append(folder / name)
    files = {path.relative_to(folder).as_posix(): _hash(path) for path in paths if path.name != SERVICE_WORKER}
    with whole_file(folder / SERVICE_WORKER) as stream:
        stream.write(f"self.FILES = {json.dumps(files)};\n".encode() + (BUILT / SERVICE_WORKER).read_bytes())
    return paths


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:_DIGITS]
