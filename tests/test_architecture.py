"""House rules that a machine can hold: who imports whom, one door per package, size and names."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "onnxtweak"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
NAMES = [path.relative_to(PACKAGE).as_posix() for path in MODULES]

# A part may import parts of a lower level, never a sibling. `onnxtweak` itself (its version) is open to all.
LEVELS = {
    "errors": 0,
    "types": 1,
    "settings": 1,
    "quantities": 1,
    "outcomes": 2,
    "embedded": 2,
    "model": 2,
    "data": 2,
    "theta": 2,
    "engine": 3,
    "method": 4,
    "verify": 5,
    "recipe": 5,
    "report": 5,
    "pipeline": 6,
    "cli": 7,
    "api": 7,
    "__init__": 8,
    "__main__": 8,
}

# The files or folders through which a package enters; every other import of it is an error.
DOORS = {
    "onnxruntime": ("engine/session.py", "model/slot.py"),
    "onnx_graphsurgeon": ("model/piece.py",),
    "onnx": ("model/", "engine/", "verify.py", "pipeline/"),
    "google": ("model/",),
    "numba": ("theta/",),
    "llvmlite": ("theta/",),
    "cupy": ("theta/", "engine/"),
    "distributed": ("engine/spread.py",),
    "click": ("cli/",),
    "PIL": ("data/",),
    "pyarrow": ("data/",),
    "safetensors": ("model/tweak_file.py",),
}
EVERYWHERE = {"numpy", "ml_dtypes"} | sys.stdlib_module_names

MOST_LINES = 350
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "tools"}


def imports(path: Path) -> list[tuple[int, str]]:
    """Line and full dotted name of everything that a file imports, wherever in the file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write the whole name of the module"
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "import_module",
            "importlib.import_module",
        ):
            found += [(node.lineno, name.value) for name in node.args[:1] if isinstance(name, ast.Constant)]
    return found


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_imports_point_downward(path):
    own = part_of(path)
    assert own in LEVELS, f"{own} has no level; give it one here and in docs/architecture.md"
    for line, name in imports(path):
        if not name.startswith("onnxtweak."):
            continue
        other = name.split(".")[1]
        if other not in LEVELS:
            assert other == "__version__", f"{path}:{line}: {name}"
        else:
            assert other == own or LEVELS[other] < LEVELS[own], f"{path}:{line}: {own} must not know {other}"


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_packages_enter_through_their_door(path):
    place = path.relative_to(PACKAGE).as_posix()
    for line, name in imports(path):
        root = name.split(".")[0]
        if root == "onnxtweak" or root in EVERYWHERE:
            continue
        assert root in DOORS, f"{path}:{line}: {root} is no dependency"
        assert place.startswith(DOORS[root]), (
            f"{path}:{line}: {root} enters through {' or '.join(DOORS[root])}"
        )


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_a_module_answers_one_question(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= MOST_LINES, f"{path} answers more than one question"
    assert not VAGUE & set(path.stem.split("_")), f"{path}: name it after its question"
    said = ast.get_docstring(ast.parse(text)) or ""
    assert said.strip(), f"{path}: the first line says which question"


def test_the_rules_see_the_package():
    assert {"cli", "model", "data", "theta", "engine"} <= {part_of(path) for path in MODULES}
    assert any(name.startswith("click") for _, name in imports(PACKAGE / "cli" / "main.py"))
