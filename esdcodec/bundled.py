"""Models that come with the package: their versions, and how to get one that this package does not have."""

import re
from pathlib import Path

_ASSETS = Path(__file__).parent / "assets"
NEWEST = {"25hz_nano": "25hz_nano_v1"}  # name -> the version that it stands for
FOLDERS = {version: _ASSETS / name for name, version in NEWEST.items()}
EARLIER = {  # version, or the name before there were versions -> how to get it
    "25hz_nano": "no release had it: check out the version of the repository that wrote them",
    "25hz_nano_v0": "no release had it: check out a version of the repository from before 25hz_nano_v1",
}


def with_version(name: str) -> str:
    """`25hz_nano` -> `25hz_nano_v1`, the newest; other names are left as they are."""
    return NEWEST.get(name, name)


def how_to_get(name: str) -> str | None:
    """What to do about a bundled model of another version, in a sentence; None: it is none, or it is here."""
    stem, version = re.fullmatch(r"(.*?)(?:_v(\d+))?", name, re.DOTALL).groups()  # type: ignore[union-attr]
    if name in FOLDERS or stem not in NEWEST:
        return None
    if name in EARLIER:
        return f"{name} was bundled before {NEWEST[stem]}; {EARLIER[name]}"
    if version is None or int(version) > int(NEWEST[stem].rpartition("_v")[2]):
        return f"{name} is bundled with a newer esdcodec: `pip install --upgrade esdcodec`"
    return f"there is no {name}: {NEWEST[stem]} is bundled"
