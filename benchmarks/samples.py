"""What the documentation lets people hear and see: its recordings, from numbers of codebooks of the bundled model.

    python benchmarks/samples.py

Reads the originals in docs/samples (`NAME.flac`), writes `NAME-N.mp3` beside them, the players into docs/index.md
(between its two markers) and the picture docs/spectrogram.png. To be repeated after each change of the bundled model.
"""

import argparse
import hashlib
import io
from pathlib import Path

import esdcodec
from esdcodec.cli.main import main as command
from esdcodec.infer.files import decode_file, encode_file
from esdcodec.infer.sinks import sink_into

DOCS = Path(__file__).parents[1] / "docs"
NUMBERS = (1, 3, 8, 12)
RECORDINGS = {  # name -> speaker and words; docs/samples/README.md has the sources
    "asterisk": ("A telephone prompt", "The number you have dialed is not in service. Please check the number …"),
    "river": ("River", "I go to Lady Stornaway after Easter; she seems in high spirits, and very happy."),
    "lily": ("Lily", "You had better order the carriage directly, my love, said she."),
    "onyx": ("Onyx", "The train to Istanbul leaves at 2 oh five from platform 21."),
    "lewis": ("Lewis", "The temperature in Helsinki fell to 10 degrees, and nobody could measure the kitchen lamp."),
}
BEGIN, END = "<!-- samples: {} -->", "<!-- end of samples -->"
GRID = "display:grid;grid-template-columns:repeat(auto-fill,minmax(8rem,1fr));gap:.5rem .8rem"


def weights_of_bundled_model() -> str:
    """What tells one version of its weights from another."""
    (file,) = (Path(esdcodec.__file__).parent / "assets").glob("25hz_nano*/model.safetensors")
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def decode(codec: esdcodec.ESDCodec, name: str, n_quantizers: int, folder: Path) -> tuple[int, float]:
    """Write what n codebooks make of a recording; bytes of the `.esd` file, and seconds of audio."""
    coded = io.BytesIO()
    result = encode_file(codec, folder / f"{name}.flac", coded, n_quantizers)
    coded.seek(0)
    with open(folder / f"{name}-{n_quantizers}.mp3", "wb") as file:
        decode_file(codec, coded, sink_into(file, "mp3"))
    return result.coded_bytes, result.audio_seconds


def player(file: str, title: str, size: str) -> str:
    """A player with its title and size, as HTML."""
    return (
        f"<div><b>{title}</b><br><small>{size}</small><br>"
        f'<audio controls preload="none" style="width:100%" aria-label="{title}" src="samples/{file}">'
        f'<a href="samples/{file}">{file}</a></audio></div>'  # where pages have no players
    )


def players(codec: esdcodec.ESDCodec, folder: Path) -> str:
    """All recordings, as a part of a page."""
    parts = []
    for name, (speaker, words) in RECORDINGS.items():
        row = [player(f"{name}.flac", "original", "16-bit samples")]
        for n in NUMBERS:
            n_bytes, seconds = decode(codec, name, n, folder)
            row.append(player(f"{name}-{n}.mp3", f"n = {n}", f"{n_bytes:,} bytes, {8 * n_bytes / seconds:,.0f} bit/s"))
        parts.append(f'**{speaker}**: “{words}”\n\n<div style="{GRID}">\n' + "\n".join(row) + "\n</div>")
    return "\n\n".join(parts)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter).parse_args()
    codec = esdcodec.load(device="cpu")
    page = DOCS / "index.md"
    before, _, rest = page.read_text("utf-8").partition(BEGIN.partition("{}")[0])
    _, _, after = rest.partition(END)
    begin = BEGIN.format(f"of the weights {weights_of_bundled_model()}, by benchmarks/samples.py")
    middle = players(codec, DOCS / "samples")
    page.write_text(f"{before}{begin}\n\n{middle}\n\n{END}{after}", "utf-8")
    picture = str(DOCS / "spectrogram.png")
    command(["plot", str(DOCS / "samples" / "asterisk.flac"), "-o", picture, "-n", "3", "--overwrite"])


if __name__ == "__main__":
    main()
