"""Which files below a folder are audio, and which are left out."""

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

EXTENSIONS = frozenset(
    {
        ".wav", ".wave", ".w64", ".rf64", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".sph", ".nist", ".voc",
        ".flac", ".ogg", ".oga", ".opus", ".spx", ".mp3", ".mp2", ".mpga",
        ".m4a", ".m4b", ".mp4", ".mov", ".3gp", ".aac", ".webm", ".mka", ".mkv", ".wma", ".amr", ".ac3", ".wv", ".tta",
        ".avi", ".flv",
    }
)  # fmt: skip


@dataclass(frozen=True)
class FolderContent:
    """Files below a folder: those that were looked for, and the rest with the reason why it is left out."""

    files: list[Path]  # sorted
    left_out: dict[Path, str]

    def report(self) -> list[str]:
        """What is left out: for each reason a line with its number and up to three examples."""
        kinds: dict[str, list[Path]] = {}
        for path, reason in self.left_out.items():
            kinds.setdefault(reason, []).append(path)
        return [
            f"{reason}: {len(paths)} ({', '.join(map(str, paths[:3]))}{', …' if len(paths) > 3 else ''})"
            for reason, paths in kinds.items()
        ]


def is_failure(path: Path, reason: str, extensions: Iterable[str] = EXTENSIONS) -> bool:
    """Whether what is left out should have been read: a file with one of `extensions`, or a folder."""
    if "folder" in reason:
        return "cannot be listed" in reason
    return path.suffix.lower() in extensions and not path.name.startswith("._")


def audio_files(folder: Path, extensions: Iterable[str] = EXTENSIONS) -> FolderContent:
    """Audio files, or those with other `extensions` in any case, in `folder` and the folders below it.

    Links to files and to folders are followed; each folder is searched once, under its own name if that is below
    `folder` too. Left out, with a reason, are other extensions, links to nothing and in a circle, folders that cannot
    be listed, what is no regular file, and the `._NAME` files of macOS. Hidden files of other kinds are not counted.
    """
    if not folder.is_dir():
        return FolderContent([], {folder: "no such folder"})
    wanted = frozenset(extension.lower() for extension in extensions)
    files: list[Path] = []
    left_out: dict[Path, str] = {}
    above = {_identity(parent) for parent in (folder.resolve(), *folder.resolve().parents)}
    searched: set[tuple[int, int]] = set()
    folders = [folder]
    linked: list[Path] = []  # they wait until no folder is left
    while folders or linked:
        current = folders.pop() if folders else linked.pop(0)
        try:
            identity = _identity(current)
            if identity in searched:
                left_out[current] = "folder that is searched under another name"
                continue
            searched.add(identity)
            entries = sorted(os.scandir(current), key=lambda entry: entry.name)
        except OSError as error:
            left_out[current] = f"folder cannot be listed ({error.strerror})"
            continue
        for entry in entries:
            path = current / entry.name
            kind = _kind(entry, wanted)
            if kind == "file":
                files.append(path)
            elif kind == "folder":
                if not entry.is_symlink():
                    folders.append(path)
                elif _identity(path) in above:
                    left_out[path] = "link in a circle"
                else:
                    linked.append(path)
            elif kind:
                left_out[path] = kind
    return FolderContent(sorted(files), dict(sorted(left_out.items())))


def _kind(entry: "os.DirEntry[str]", wanted: frozenset[str]) -> str:
    """What an entry is: "file" to take, "folder" to search, or why it is left out; empty: it does not count."""
    try:
        os.stat(entry.path)  # follows a link
    except OSError as error:
        return "link in a circle" if error.errno == errno.ELOOP else "link to nothing"
    if entry.is_dir():
        return "folder"
    extension = os.path.splitext(entry.name)[1].lower()
    if extension not in wanted:
        return "" if entry.name.startswith(".") else f"extension {extension}" if extension else "no extension"
    if entry.name.startswith("._"):
        return "attributes that macOS keeps beside a file"
    return "file" if entry.is_file() else "no regular file"


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
