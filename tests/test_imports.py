"""The package's layout: imports go down, or sideways within a folder; never up, never in a circle."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "esdcodec"

FLOORS = {  # longest matching prefix of a module's path; a lower number stands below
    "errors": 0, "config": 0, "bundled": 0, "published": 0, "auto_classes": 0, "lazy": 0,  # names and places alone
    "whole_file": 0, "processes": 0,  # files are written, and audio is read, by all that stands above
    "dataset.patterns": 0,  # functions of tensors alone
    "audio": 1, "pipes": 1, "precision": 1, "weights": 1, "bitstream": 1, "model_codec": 1, "model_tts": 1,
    "onnx_weights": 1,
    "model_tts.acoustic_folder": 2,  # weights in files
    "loudness": 2, "streams": 2, "dataset": 2,
    "codec": 3, "concealment": 3,
    "infer": 4, "onnx_export": 4,
    "tts": 5,  # public names
    "static_page": 5,
    "evaluation": 5,
    "training": 6, "app": 6, "serve": 6,
    "cli": 7,
    "train": 8,  # what `accelerate launch -m` starts
}  # fmt: skip
SHIMS = {"", "pretrained", "infer.bitstream"}  # old public names; they import lazily, from anywhere
PUBLIC_FACE_ONLY = ("infer", "cli", "evaluation", "serve", "app")  # of the codec: nothing of the networks below it
FORMULAS = {
    "model_codec.losses",
    "model_codec.spectral",
}  # of signals, no networks: evaluation reports what training lowers


def module_name(file: Path) -> str:
    """`esdcodec/infer/files.py` -> `infer.files`; the package itself is the empty name."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def imports(module: str) -> Iterator[tuple[str, str]]:
    """Modules of the package that `module` imports, wherever in it that stands, and the name taken from each."""
    file = FILES[module]
    folder = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    folder = [part for part in folder if part]
    for node in statements(file):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "esdcodec":
                    yield alias.name.removeprefix("esdcodec").removeprefix("."), ""
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = folder[: len(folder) - node.level + 1]
            elif (node.module or "").split(".")[0] == "esdcodec":
                base = []
            else:
                continue
            tail = (node.module or "").removeprefix("esdcodec").removeprefix(".") if not node.level else node.module
            origin = ".".join([*base, *([tail] if tail else [])])
            for alias in node.names:
                below = f"{origin}.{alias.name}".removeprefix(".")
                yield (below, "") if below in FILES else (origin, alias.name)


def statements(file: Path) -> Iterator[ast.AST]:
    """All that a module says, but for how it finds what had another home: `__getattr__` may look upwards."""
    for statement in ast.parse(file.read_text(encoding="utf-8")).body:
        if not (isinstance(statement, ast.FunctionDef) and statement.name == "__getattr__"):
            yield from ast.walk(statement)


def floor(module: str) -> int:
    parts = module.split(".")
    for n in range(len(parts), 0, -1):
        if ".".join(parts[:n]) in FLOORS:
            return FLOORS[".".join(parts[:n])]
    raise AssertionError(f"esdcodec.{module} has no floor: give it one in FLOORS")


MODULES = sorted(set(FILES) - SHIMS)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_or_sideways_within_a_folder(module):
    for imported, _ in imports(module):
        if not imported:  # the package's own name and version
            continue
        assert imported not in SHIMS, f"{module} imports the old name {imported}"
        same_folder = imported.split(".")[0] == module.split(".")[0]
        assert floor(imported) < floor(module) or same_folder, f"{module} imports {imported}, which is not below it"


def test_no_circles():
    graph = {module: {i for i, _ in imports(module) if i in FILES} - {module} for module in MODULES}
    seen: dict[str, bool] = {}  # False while a module's own imports are being walked

    def walk(module: str, path: list[str]) -> None:
        assert seen.get(module, True), f"circle: {' -> '.join([*path[path.index(module) :], module])}"
        if module in seen:
            return
        seen[module] = False
        for imported in sorted(graph.get(module, ())):
            walk(imported, [*path, module])
        seen[module] = True

    for module in MODULES:
        walk(module, [])


@pytest.mark.parametrize("module", MODULES)
def test_nothing_private_is_imported_across_folders(module):
    for imported, name in imports(module):
        if imported.rpartition(".")[0] != module.rpartition(".")[0]:
            private = [part for part in [*imported.split("."), name] if part.startswith("_") and part != "__version__"]
            assert not private, f"{module} imports {private} of {imported}"


@pytest.mark.parametrize("module", [m for m in MODULES if m.split(".")[0] in PUBLIC_FACE_ONLY])
def test_what_uses_the_codec_uses_its_public_face(module):
    below = "model_codec" if module.startswith("infer.tts") else ("model_codec", "model_tts")  # the face of `model_tts`
    networks = {imported for imported, _ in imports(module) if imported.startswith(below)}
    networks -= FORMULAS if module.startswith("evaluation.") else set()
    assert not networks, f"{module} imports {networks}: use esdcodec.codec"


@pytest.mark.parametrize("module", [m for m in MODULES if m.split(".")[0] == "model_codec"])
def test_the_network_needs_torch_alone(module):
    inside = {imported.split(".")[0] for imported, _ in imports(module)}
    assert inside <= {"model_codec", "errors"}
    names = {
        name.split(".")[0]
        for node in statements(FILES[module])
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
    }
    assert names - set(sys.stdlib_module_names) <= {"torch", "einops", "numpy"}


def test_no_two_public_classes_or_types_have_one_name():
    """Somebody who searches for a name finds one thing."""
    homes: dict[str, list[str]] = {}
    for module in MODULES:
        for statement in ast.parse(FILES[module].read_text(encoding="utf-8")).body:
            names = [statement.name] if isinstance(statement, ast.ClassDef) else []
            if isinstance(statement, ast.Assign):
                names = [target.id for target in statement.targets if isinstance(target, ast.Name)]
            for name in names:
                if re.fullmatch(r"[A-Z]\w*[a-z]\w*", name) and not is_type_variable(statement):
                    homes.setdefault(name, []).append(module)
    assert not {name: modules for name, modules in homes.items() if len(modules) > 1}


def is_type_variable(statement: ast.stmt) -> bool:
    call = statement.value if isinstance(statement, ast.Assign) else None
    return isinstance(call, ast.Call) and getattr(call.func, "id", "") in ("TypeVar", "ParamSpec")
