"""The page's own code, built for node and for a browser; skipped, with the reason, where something for it is missing."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

WEB = Path(__file__).parents[2] / "web"
OLDEST_NODE = 20


def run_node(*arguments):
    """Standard output of node in `web/`."""
    result = subprocess.run(["node", *map(str, arguments)], cwd=WEB, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="session")
def node():
    """`run_node`, where node and what the page is built with are installed."""
    if shutil.which("node") is None:
        pytest.skip(f"needs node {OLDEST_NODE} or newer")
    version = run_node("--version").strip()
    if int(version.removeprefix("v").split(".")[0]) < OLDEST_NODE:
        pytest.skip(f"needs node {OLDEST_NODE} or newer, this is {version}")
    if not (WEB / "node_modules").exists():
        pytest.skip("needs what `npm ci` in web/ installs")
    return run_node


@pytest.fixture(scope="session")
def programs(node):
    """The folder of the tests in TypeScript, built for node, which finds packages from there."""
    folder = WEB / "build" / str(os.getpid())
    node("build.mjs", "--tests", folder)
    yield folder
    shutil.rmtree(folder)
