"""The page's own code, built for node."""

import os
import shutil

import pytest

from tests.conftest import WEB


@pytest.fixture(scope="session")
def programs(node):
    """The folder of the tests in TypeScript, built for node, which finds packages from there."""
    folder = WEB / "build" / str(os.getpid())
    node("build.mjs", "--tests", folder)
    yield folder
    shutil.rmtree(folder)
