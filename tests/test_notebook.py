"""The notebook in docs/ runs from top to bottom. Run this file to write its outputs anew."""

from __future__ import annotations

import ast
import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "notebook.ipynb"
_NEEDS = "needs-"  # begins the tag of a cell that needs an optional package


def run_cells(
    document: dict[str, Any], learnt: int | None = None
) -> list[tuple[dict[str, Any], dict[str, str] | None]]:
    """The code cells that can run here, in order, and what the last line of each shows by media type.

    learnt : of the samples that are learnt from, the first so many; None: all.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    found = []
    for cell in document["cells"]:
        needs = [tag.removeprefix(_NEEDS) for tag in cell["metadata"].get("tags", ())]
        if cell["cell_type"] != "code" or not all(map(find_spec, needs)):
            continue
        code = ast.parse("".join(cell["source"]))
        last = code.body.pop() if isinstance(code.body[-1], ast.Expr) else None
        exec(compile(code, cell["id"], "exec"), names)
        if learnt is not None and {"x", "y"} <= names.keys():
            names["x"], names["y"] = names["x"][:learnt], names["y"][:learnt]
        value = None if last is None else eval(compile(ast.Expression(last.value), cell["id"], "eval"), names)
        found.append((cell, None if value is None else shown(value)))
    return found


def shown(value: Any) -> dict[str, str]:
    """What a notebook shows of a value."""
    html = {"text/html": value._repr_html_()} if hasattr(value, "_repr_html_") else {}
    return {**html, "text/plain": repr(value)}


def test_the_cells_run_and_show_what_the_page_shows():
    from tests.support.few_folds import three_folds  # which are not found where this file is run
    from tests.support.short_trainings import short_trainings

    text = NOTEBOOK.read_text(encoding="utf-8")
    with three_folds(), short_trainings():
        ran = run_cells(json.loads(text), learnt=200)
    assert len(ran) >= 8
    assert not re.search(r"/(tmp|home|root|work|Users)/", text), "paths of one machine are no use on others"
    for cell, data in ran:
        kinds = [set(output["data"]) for output in cell["outputs"]]
        assert kinds == ([] if data is None else [set(data)]), f"{cell['id']}: write the outputs anew"
    results = [data["text/plain"] for _, data in ran if data and "text/html" in data]
    assert any(text.startswith("<Result of fit on test: targets 66.0% -> ") for text in results)
    assert "3 listed, 0 of them cannot be put right" in str(ran[-1][1])


def write_outputs() -> None:
    """The notebook with the outputs of this run."""
    document = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    ran = run_cells(document)
    for number, (cell, data) in enumerate(ran, 1):
        cell["execution_count"] = number
        cell["outputs"] = []
        if data is not None:
            lines = {kind: text.splitlines(keepends=True) for kind, text in data.items()}
            output = {
                "data": lines,
                "execution_count": number,
                "metadata": {},
                "output_type": "execute_result",
            }
            cell["outputs"].append(output)
    text = json.dumps(document, indent=1, ensure_ascii=False)
    NOTEBOOK.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_outputs()
