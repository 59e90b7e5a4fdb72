"""What the synthetic voices read: sentences of Jane Austen's novels, and templates in eight languages.

A sentence belongs to one split, by a checksum of it: what is read in a test set is never read in training.
"""

import random
import re
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import yaml

TEST_SHARE = 16  # one sentence in so many is for testing
GAP = r"\{(\w+)\}"
NUMBERS = {"digit": (0, 9), "few": (4, 12), "number": (2, 2999)}
WORDS = (4, 24)  # of a sentence; longer ones tire, shorter ones say little


def split(sentence: str) -> str:
    return "test" if zlib.crc32(sentence.encode()) % TEST_SHARE == 0 else "train"


# ---- novels ----------------------------------------------------------------------------------------------------------


def austen(package: Path) -> list[str]:
    """Sentences of Debian's r-cran-janeaustenr, in the order of the novels."""
    database = (package / "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb").read_bytes()
    return [sentence for novel in _r_objects(database) for sentence in _sentences(_r_strings(novel))]


def _r_objects(database: bytes) -> list[bytes]:
    """R's lazy-load database: for each object its size, four bytes, and a zlib stream."""
    objects, position = [], 0
    while position < len(database):
        stream = zlib.decompressobj()
        objects.append(stream.decompress(database[position + 4 :]))
        position = len(database) - len(stream.unused_data)
    return objects


def _r_strings(serialized: bytes) -> list[str]:
    """Elements of a character vector in R's serialization, version 3: each is flags, length, bytes."""
    position = serialized.index(b"UTF-8") + 5
    kind, count = struct.unpack_from(">II", serialized, position)
    assert kind & 0xFF == 16, f"an R object of type {kind & 0xFF}, not a character vector"
    position += 8
    strings = []
    for _ in range(count):
        _, length = struct.unpack_from(">Ii", serialized, position)
        strings.append(serialized[position + 8 : position + 8 + length].decode())
        position += 8 + length
    return strings


def _sentences(lines: list[str]) -> list[str]:
    text = re.sub(r"(?<=[^\w\s])--", " ", "\n".join(lines)).replace("--", ", ").replace("_", "")
    paragraphs = text.split("\n\n")
    text = " ".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    text = re.sub(r"\b(Mr|Mrs|Dr|St)\.", r"\1", text)  # the point isn't the sentence's
    pieces = re.split(r'(?<=[.!?])["”]?\s+["“]?(?=[A-Z])', text)
    low, high = WORDS
    cleaned = (piece.strip('"“” ') for piece in pieces)
    return [
        piece for piece in cleaned if low <= len(piece.split()) <= high and re.fullmatch(r"[A-Za-z ,;:.!?'-]+", piece)
    ]


# ---- templates -------------------------------------------------------------------------------------------------------


def from_template(language: str, draw: random.Random) -> str:
    """A sentence of `language`, every gap of a template of templates.yaml filled at random."""
    known = _templates()
    templates = known["templates"][language]
    weights = [1 + sum(map(len, template.get("gaps", {}).values())) for template in templates]
    (template,) = draw.choices(templates, weights)

    def fill(match: re.Match[str]) -> str:
        gap = match[1]
        if gap == "name":
            return str(draw.choice(known["names"]))
        if gap in NUMBERS:
            return str(draw.randint(*NUMBERS[gap]))
        return re.sub(GAP, fill, draw.choice(template["gaps"][gap]))

    return re.sub(GAP, fill, template["sentence"])


@cache
def _templates() -> dict[str, Any]:
    return yaml.safe_load(Path(__file__).with_name("templates.yaml").read_text(encoding="utf-8"))
