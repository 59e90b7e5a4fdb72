"""`spaces/` is a Hugging Face Space: its card is one, and its program builds the page."""

import re
import runpy
from pathlib import Path

import pytest
from huggingface_hub import SpaceCard

SPACE = Path(__file__).parents[1] / "spaces"
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


def test_the_card_is_one_that_the_hub_takes():
    card = SpaceCard.load(SPACE / "README.md").data
    assert card.sdk == "gradio"
    assert (SPACE / card.app_file).is_file()
    assert {card.colorFrom, card.colorTo} <= COLOURS
    assert len(card.short_description) <= 60
    assert card.title
    assert card.license == "mit"
    assert re.fullmatch(r"\d+\.\d+\.\d+", card.sdk_version)
    assert int(card.sdk_version.split(".")[0]) >= 6  # what [demo] asks for
    assert re.fullmatch(r"3\.\d+", card.python_version)


def test_it_installs_the_page_from_the_repository():
    (requirement,) = [line for line in (SPACE / "requirements.txt").read_text().splitlines() if line[0] not in "-#"]
    extra = re.match(r"esdcodec\[(\w+)\] @ git\+https://", requirement)
    assert re.search(rf"^{extra[1]} = \[", (SPACE.parent / "pyproject.toml").read_text("utf-8"), re.MULTILINE)


def test_its_program_builds_the_page(model, monkeypatch):
    pytest.importorskip("gradio")
    monkeypatch.setenv("ESDCODEC_MODEL", model)
    monkeypatch.setenv("ESDCODEC_MAX_SECONDS", "12")
    names = runpy.run_path(str(SPACE / "app.py"))
    assert names["demo"].title == "ESDCodec"
    assert any("up to 12 s" in str(block.value) for block in names["demo"].blocks.values() if hasattr(block, "value"))
