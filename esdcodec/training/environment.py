"""What a run was started with: command, code and versions."""

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "esdcodec", "torch", "accelerate", "transformers", "webdataset", "hydra-core", "numpy", "soundfile", "soxr",
)  # fmt: skip


def describe_environment() -> dict[str, Any]:
    """Command line, git revision of the code, Python and package versions."""
    return {
        "command": sys.argv,
        "git": git_revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def git_revision() -> str | None:
    """Commit of the working tree that this code is in, marked `-dirty` where it differs; None outside of one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        result = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
