"""Members of a tar that belong together: those of one key, an item (audio, codes) and a json with its metadata."""

import tarfile
from collections.abc import Sequence

from ..audio import EXTENSIONS
from .metadata import LARGEST

_USUAL = ("mp3", "flac", "wav", "ogg", "opus")  # of several items of a key the first of these is taken
AUDIO = (*_USUAL, *sorted(extension[1:] for extension in EXTENSIONS if extension[1:] not in _USUAL))
METADATA = "json"
LARGEST_ITEM = (1 << 32) - 1  # bytes
_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
TWICE = "key occurs twice in its shard"


def split_name(name: str) -> tuple[str, str]:
    """Key and extension of a member, as WebDataset has them: the name is cut at its first dot, folders belong to it.

    The key of what is hidden is empty.
    """
    folder, _, file = name.rpartition("/")
    stem, _, extension = file.partition(".")
    return f"{folder}/{stem}" if folder and stem else stem, extension.lower()


def choose(found: Sequence[str], items: Sequence[str]) -> str | None:
    """Which of the extensions that a key has is its item; None: it has none."""
    return next((extension for extension in items if extension in found), None)


class BoundedTarInfo(tarfile.TarInfo):
    """For `tarfile.open(tarinfo=…)`, which reads a header that is about the next one whole, whatever its size."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "BoundedTarInfo":
        member = super().frombuf(buf, encoding, errors)
        is_about_next = member.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, *_PAX)
        if is_about_next and not 0 <= member.size <= LARGEST:
            raise tarfile.ReadError(f"a header is larger than {LARGEST >> 20} MiB")
        return member


def read_metadata(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """A json member; of one that is larger than `LARGEST`, one byte more than that."""
    stream = tar.extractfile(member)
    return stream.read(LARGEST + 1) if stream else b""
