"""Puts the page into the documentation's site at `try/`; where it is not built, a page that says how to build it."""

from html import escape
from pathlib import Path
from typing import Any

from esdcodec import load
from esdcodec.static_page import PageNotBuiltError, write_page

FOLDER = "try"


def on_post_build(config: Any) -> None:
    """mkdocs calls this when all pages are written."""
    folder = Path(config["site_dir"]) / FOLDER
    try:
        write_page(load(device="cpu"), folder)
    except PageNotBuiltError as error:
        folder.mkdir(parents=True, exist_ok=True)
        text = f"<!doctype html><title>ESDCodec in the browser</title><p>This page is missing: {escape(str(error))}</p>"
        (folder / "index.html").write_text(text, encoding="utf-8")
