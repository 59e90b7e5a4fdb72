"""Files and functions are short enough to be read in one sitting; what is longer is named here, with the reason."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_LINES = 350  # of a file
MOST_LINES_OF_A_FUNCTION = 60

LONGER_FILES: dict[str, str] = {}  # path -> reason
LONGER_FUNCTIONS: dict[str, str] = {}  # `path:name` -> reason

FILES = {
    str(file.relative_to(ROOT)): file for folder in ("esdcodec", "tests") for file in (ROOT / folder).rglob("*.py")
}


def long_functions(file: Path) -> set[str]:
    functions = (n for n in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(n, ast.FunctionDef))
    return {f.name for f in functions if (f.end_lineno or 0) - f.lineno + 1 > MOST_LINES_OF_A_FUNCTION}


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_and_its_functions_are_short(name):
    n_lines = len(FILES[name].read_text("utf-8").splitlines())
    assert n_lines <= MOST_LINES or name in LONGER_FILES, f"{name} has {n_lines} lines: split it by subject"
    long = {f"{name}:{function}" for function in long_functions(FILES[name])} - set(LONGER_FUNCTIONS)
    assert not long, f"{long} have more than {MOST_LINES_OF_A_FUNCTION} lines: name their steps"


def test_exceptions_are_still_needed():
    for name in LONGER_FILES:
        assert len(FILES[name].read_text("utf-8").splitlines()) > MOST_LINES, f"{name} is short now: strike it out"
    for key in LONGER_FUNCTIONS:
        name, function = key.split(":")
        assert function in long_functions(FILES[name]), f"{key} is short now: strike it out"
