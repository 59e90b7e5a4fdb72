"""The documentation knows all parts of the package."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "docs" / "samples"
PACKAGE = ROOT / "esdcodec"
WITHOUT_REFERENCE = {
    "auto_classes": "names in the files of a saved model",
    "cli": "described by its guide and by --help",
    "errors": "its class is there",
    "lazy": "of the package's own `__init__` files",
    "pretrained": "an old name",
    "published": "names inside the published checkpoint",
    "train": "started by `accelerate launch -m`",
}
PARTS = sorted(
    path.stem
    for path in PACKAGE.iterdir()
    if (path.suffix == ".py" or (path / "__init__.py").exists()) and not path.stem.startswith("_")
)


@pytest.mark.parametrize("part", [part for part in PARTS if part not in WITHOUT_REFERENCE])
def test_every_public_part_is_in_the_reference(part):
    reference = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs/api").glob("*.md"))
    assert f"::: esdcodec.{part}" in reference


def map_of_the_readme() -> set[str]:
    """The paths in the first column of its table."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Where things are")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {path for row in rows for path in re.findall(r"`([^`]+)`", row)}


def test_every_folder_is_in_the_map_of_the_readme_and_all_that_it_names_exists():
    named = map_of_the_readme()
    assert {f"esdcodec/{part}" for part in PARTS if (PACKAGE / part).is_dir()} <= named
    assert not [path for path in named if not (ROOT / path).exists()]


def test_the_front_page_plays_the_bundled_model():
    """Each recording, and what each number of codebooks makes of it, in files that are there and small."""
    page = (ROOT / "docs/index.md").read_text("utf-8")
    script = runpy.run_path(str(ROOT / "benchmarks/samples.py"))
    played = set(re.findall(r'<audio [^>]*src="samples/([^"]+)"', page))
    assert played == {f"{name}.flac" for name in script["RECORDINGS"]} | {
        f"{name}-{n}.mp3" for name in script["RECORDINGS"] for n in script["NUMBERS"]
    }
    assert played == {file.name for file in SAMPLES.iterdir()} - {"README.md"}
    assert sum((SAMPLES / name).stat().st_size for name in played) < 1_500_000
    assert f"weights {script['weights_of_bundled_model']()}" in page, "run `python benchmarks/samples.py`"
