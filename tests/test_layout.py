"""The package's modules import downwards: no circles, and the network knows nothing of what is built on it."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import esdcodec

ROOT = Path(esdcodec.__file__).parent
# of old names; they look upwards, lazily
SHIMS = {"esdcodec", "esdcodec.pretrained", "esdcodec.model_codec", "esdcodec.infer.bitstream"}


def module_name(file: Path) -> str:
    parts = ("esdcodec", *file.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in ROOT.rglob("*.py") if "assets" not in file.parts}


def imports_of(name: str) -> set[str]:
    """Modules of the package that `name` imports, wherever in its text, `TYPE_CHECKING` included."""
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            submodules = {f"{base}.{alias.name}" for alias in node.names} & set(MODULES)
            found |= submodules if len(submodules) == len(node.names) else {*submodules, base}
    return found & set(MODULES) - {name}


GRAPH = {name: imports_of(name) for name in MODULES if name not in SHIMS}


def test_there_are_no_circles():
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    ("room", "may_import"),
    [
        ("esdcodec.errors", ()),
        ("esdcodec.model_codec", ("esdcodec.model_codec", "esdcodec.errors")),
        ("esdcodec.audio", ("esdcodec.audio", "esdcodec.errors", "esdcodec.processes")),
        ("esdcodec.weights", ("esdcodec.published", "esdcodec.errors")),
        ("esdcodec.streams", ("esdcodec.model_codec", "esdcodec.audio")),
        (
            "esdcodec.codec",
            ("esdcodec.model_codec", "esdcodec.audio", "esdcodec.streams", "esdcodec.weights", "esdcodec.precision"),
        ),
    ],
)
def test_a_room_imports_only_what_lies_below_it(room, may_import):
    def inside(name: str, rooms: tuple[str, ...]) -> bool:
        return any(name == each or name.startswith(f"{each}.") for each in rooms)

    upwards = {
        f"{name} imports {imported}"
        for name, imports in GRAPH.items()
        if inside(name, (room,))
        for imported in imports
        if not inside(imported, (room, *may_import))
    }
    assert upwards == set()
