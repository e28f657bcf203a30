"""House rules that a machine can check: who imports whom, one door per package, size and names."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "onnxtweak"
SUPPORT = ROOT / "tests" / "support"
PAGE = ROOT / "docs" / "architecture.md"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))

# A part may import parts of a lower level, never a sibling.
LEVELS = {
    "_version": 0,
    "errors": 0,
    "bounded": 1,
    "boxes": 4,
    "ctc": 3,
    "disk_space": 2,
    "in_memory": 0,
    "printable": 2,
    "temporary_files": 2,
    "input_files": 2,
    "intervals": 0,
    "sample_counts": 2,
    "quantities": 0,
    "settings": 2,
    "types": 2,
    "demo_files": 3,
    "goal": 4,
    "head": 3,
    "listed": 3,
    "metric": 3,
    "other_answers": 3,
    "patch": 3,
    "plans": 4,
    "registry": 3,
    "verdict": 3,
    "results": 4,
    "standings": 5,
    "model": 6,
    "data": 6,
    "theta": 6,
    "recipe": 6,
    "report": 6,
    "engine": 7,
    "method": 8,
    "stages": 9,
    "commands": 10,
    "cli": 11,
    "api": 11,
    "__init__": 12,
    "__main__": 12,
}

# The files or folders through which a package enters; every other import of it is an error.
DOORS = {
    "onnxruntime": ("engine/session.py", "engine/runtimes/onnxruntime.py", "model/edit/slot.py"),
    "openvino": ("engine/runtimes/openvino.py",),
    "cv2": ("engine/runtimes/opencv.py",),
    "onnx_graphsurgeon": (
        "model/edit/positions/context_nodes.py",
        "model/edit/positions/interpolation.py",
        "model/edit/positions/level_nodes.py",
        "model/edit/positions/place_nodes.py",
        "model/edit/patch_nodes.py",
        "model/edit/piece_builder.py",
        "model/edit/positions/position_nodes.py",
        "model/edit/positions/read_nodes.py",
    ),
    "onnx": ("model/", "engine/", "stages/checks.py"),
    "google": ("model/",),
    "numba": ("theta/numba/",),
    "llvmlite": ("theta/numba/",),
    "cupy": ("theta/cupy/", "engine/"),
    "distributed": ("engine/workers/dask_cluster.py",),
    "click": ("cli/",),
    "PIL": ("data/preprocess/", "data/thumbnails.py"),
    "pyarrow": ("data/sources/memory/arrow.py", "data/sources/parquet.py"),
    "pandas": ("api/",),
    "mlflow": ("api/mlflow_log.py",),
    "safetensors": ("model/edit/tweak_file.py",),
    "threadpoolctl": ("engine/machine/single_thread.py",),
}
EVERYWHERE = {"numpy", "ml_dtypes"} | sys.stdlib_module_names

MOST_LINES = 350
MOST_MODULES = 12
# Folders whose modules all answer one question: what does this command do, what do several of them do?
ONE_QUESTION = {"onnxtweak", "commands", "stages"}  # at the root: which nouns does everything speak?
# These are about other commands: a recipe's, the demo's, the one whose plan is shown.
CARRY_OUT_OTHERS = {"run", "demo", "dry_run"}
MOST_PARAMETERS = 7
# Where a parameter is an option of a user's: jobs take groups of settings, click and the API hand them in.
MANY_PARAMETERS = ("commands/", "cli/commands/", "api")
KERNELS = ("theta/",)  # loops over arrays, of which compiled code takes nothing but arrays
# As every numerical or plotting library has them: data, penalties and tolerances; cells and captions.
SOLVERS_AND_CHARTS = {"multinomial", "one_target", "heat"}
FOLDERS = sorted({PACKAGE, *(path.parent for path in PACKAGE.rglob("*.py"))})
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "tools"}


@cache
def tree(path: Path) -> ast.Module:
    """A file's syntax."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def statements(path: Path) -> list[ast.AST]:
    """Of all that a file consists of, what one of the rules below is about."""
    kinds = ast.Import | ast.ImportFrom | ast.Call | ast.FunctionDef | ast.ClassDef
    return [node for node in ast.walk(tree(path)) if isinstance(node, kinds)]


@cache
def imports(path: Path) -> list[tuple[int, str]]:
    """Line and full dotted name of everything that a file imports, wherever in the file."""
    found = []
    for node in statements(path):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write the whole name of the module"
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            if "import_module" not in (getattr(node.func, "id", ""), getattr(node.func, "attr", "")):
                continue
            found += [(node.lineno, name.value) for name in node.args[:1] if isinstance(name, ast.Constant)]
    return found


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


# A rule is one test over all modules, which tells every breach: a test for each takes seconds to begin.
def test_imports_point_downward():
    breaches = []
    for path in MODULES:
        own = part_of(path)
        assert own in LEVELS, f"{own} has no level; give it one here and in docs/architecture.md"
        for line, name in imports(path):
            if not name.startswith("onnxtweak."):
                continue
            other = name.split(".")[1]
            assert other in LEVELS, f"{path}:{line}: {name}"
            if other != own and LEVELS[other] >= LEVELS[own]:
                breaches.append(f"{path}:{line}: {own} must not know {other}")
    assert not breaches


def test_packages_enter_through_their_door():
    breaches = []
    for path in MODULES:
        place = path.relative_to(PACKAGE).as_posix()
        for line, name in imports(path):
            root = name.split(".")[0]
            if root == "onnxtweak" or root in EVERYWHERE:
                continue
            assert root in DOORS, f"{path}:{line}: {root} is no dependency"
            if not place.startswith(DOORS[root]):
                breaches.append(f"{path}:{line}: {root} enters through {' or '.join(DOORS[root])}")
    assert not breaches


def test_a_module_answers_one_question():
    breaches = []
    for path in MODULES:
        if path.read_text(encoding="utf-8").count("\n") > MOST_LINES:
            breaches.append(f"{path} answers more than one question")
        if VAGUE & set(path.stem.split("_")):
            breaches.append(f"{path}: name it after its question")
        if not (ast.get_docstring(tree(path)) or "").strip():
            breaches.append(f"{path}: the first line says which question")
    assert not breaches


@cache
def modules_of(name: str) -> str:
    """The module that a dotted name lies in: `a.b.f` is in `a.b` where there is a file of that name."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        place = PACKAGE.parent.joinpath(*parts[:end])
        if place.with_suffix(".py").is_file() or (place / "__init__.py").is_file():
            return ".".join(parts[:end])
    return name


def arrows(folder: Path) -> dict[str, set[str]]:
    """Which children of a folder, modules and folders alike, import which others."""
    inside = ".".join(folder.relative_to(PACKAGE.parent).parts) + "."
    found: dict[str, set[str]] = {}
    for path in folder.rglob("*.py"):
        if path.name == "__init__.py" and path.parent == folder:
            continue  # a door, which names what is behind it
        own = path.relative_to(folder).parts[0].removesuffix(".py")
        for _, name in imports(path):
            module = modules_of(name)
            if module.startswith(inside):
                found.setdefault(own, set()).add(module.removeprefix(inside).split(".")[0])
    return {own: others - {own} for own, others in found.items()}


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """One circle of arrows, or nothing."""
    done: set[str] = set()

    def walk(place: str, way: list[str]) -> list[str]:
        if place in way:
            return [*way[way.index(place) :], place]
        if place in done:
            return []
        for other in sorted(arrows.get(place, ())):
            if found := walk(other, [*way, place]):
                return found
        done.add(place)
        return []

    return next((found for place in sorted(arrows) if (found := walk(place, []))), [])


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(PACKAGE).as_posix())
def test_no_circle_inside_a_folder(folder):
    assert not (found := circle(arrows(folder))), " imports ".join(found)


def test_a_circle_is_seen():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert not circle({"a": {"b", "c"}, "b": {"c"}})
    assert arrows(PACKAGE / "engine")["passes"] >= {"machine", "session"}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.relative_to(PACKAGE).as_posix())
def test_a_folder_can_be_taken_in_at_a_glance(folder):
    flat = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    most = 25 if folder.name in ONE_QUESTION else MOST_MODULES
    assert len(flat) <= most, f"{folder}: {len(flat)} modules; group them by the question they answer"


def test_commands_are_made_of_stages_not_of_each_other():
    for name, others in arrows(PACKAGE / "commands").items():
        assert not others or name in CARRY_OUT_OTHERS, f"{name} imports {', '.join(sorted(others))}"


def test_nothing_imports_the_root_for_its_version():
    for path in MODULES:
        for line, name in imports(path):
            assert name != "onnxtweak" and name != "onnxtweak.__version__", f"{path}:{line}: use _version"


def parameters(function: ast.FunctionDef) -> int:
    """How many parameters a function takes, `self` and `cls` aside."""
    names = [a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def test_functions_hand_on_objects_not_long_lists():
    breaches = []
    for path in MODULES:
        if path.relative_to(PACKAGE).as_posix().startswith(MANY_PARAMETERS + KERNELS):
            continue
        for node in statements(path):
            if not isinstance(node, ast.FunctionDef) or node.name in SOLVERS_AND_CHARTS:
                continue
            if parameters(node) > MOST_PARAMETERS:
                breaches.append(f"{path}:{node.lineno}: {node.name} takes {parameters(node)} parameters")
    assert not breaches


def test_no_two_classes_share_a_name():
    places: dict[str, list[str]] = {}
    for path in MODULES:
        for node in statements(path):
            if isinstance(node, ast.ClassDef):
                name = node.name.lstrip("_")
                places.setdefault(name, []).append(path.relative_to(PACKAGE).as_posix())
    assert not {name: where for name, where in places.items() if len(where) > 1}


def test_the_rules_see_the_package():
    assert {"cli", "model", "data", "theta", "engine"} <= {part_of(path) for path in MODULES}
    assert any(name.startswith("click") for _, name in imports(PACKAGE / "cli" / "main.py"))


def named_in(docstring: str) -> list[str]:
    """What a package's docstring lists: `name   what it is`, at the beginning of a line."""
    lines = re.findall(r"^([a-z_]+(?:, [a-z_]+)*)  +\S", docstring, re.MULTILINE)
    return [name for line in lines for name in line.split(", ")]


@pytest.mark.parametrize(
    "folder", [*FOLDERS, SUPPORT], ids=lambda folder: folder.relative_to(ROOT).as_posix()
)
def test_a_package_names_what_is_in_it(folder):
    said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    there = modules | {path.parent.name for path in folder.glob("*/__init__.py")}
    assert sorted(named_in(said)) == sorted(there), f"{folder}: list its modules and folders, a line each"


def test_the_page_has_the_levels_and_its_glossary_in_order():
    page = PAGE.read_text(encoding="utf-8")
    block = re.search(r"```\n(_version, .*?)```", page, re.DOTALL)[1]
    said = [sorted(re.split(r",\s*", level.strip())) for level in block.split("<")]
    inside = {name: level for name, level in LEVELS.items() if not name.startswith("__")}
    held = [sorted(n for n, at in inside.items() if at == level) for level in sorted({*inside.values()})]
    assert said == held, "write LEVELS into docs/architecture.md"
    terms = re.findall(r"^\| ([^|`]+) \|", page.split("## Glossary")[1], re.MULTILINE)[1:]
    assert [t.lower() for t in terms] == sorted(t.lower() for t in terms)
