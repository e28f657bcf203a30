"""The recipe that `init` writes reads back as what was asked for, whatever classes and tensors are called."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from onnxtweak.recipe import read_recipe
from onnxtweak.recipe.template import template
from onnxtweak.settings import Preprocess


def written(folder, name: str, **changes) -> str:
    values = {
        "model": name,
        "data": {"data": [f"{name}.npz#fit"], "val": [], "test": ["t.npz"], "names": None, "seed": None},
        "preprocess": Preprocess(resize=(8, 9), pixel_scale=1 / 255, mean=(0.5, 0.25), color="RGB"),
        "targets": [name],
        "classes": [name] * 20,
        "samples": {"fit": 10},
        "taps": [(name, 4)],
    }
    path = folder / "tweak.toml"
    path.write_text(template(**(values | changes)), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", ["plain", 'qu"o\\te', "new\nline\r\x7f\t", "ünïcödé ≠", "# [x] = 1", ""])
def test_it_reads_back(tmp_path, name):
    path = written(tmp_path, name or "m")
    asked = read_recipe(path)
    assert asked.model == str(tmp_path / (name or "m"))
    assert asked.data.data == (str(tmp_path / f"{name or 'm'}.npz#fit"),)
    assert asked.data.preprocess == Preprocess(
        resize=(8, 9), pixel_scale=1 / 255, mean=(0.5, 0.25), color="RGB"
    )
    assert asked.tweaks[0].targets.targets == (name or "m",)


def test_without_targets_it_asks_for_the_worst(tmp_path):
    assert read_recipe(written(tmp_path, "m", targets=[])).tweaks[0].targets.worst == 3


def test_every_line_that_is_commented_out_is_valid_too(tmp_path):
    text = Path(written(tmp_path, "m", preprocess=Preprocess())).read_text(encoding="utf-8")
    lines = [re.sub(r"^# (?=[a-zA-Z-]+ = )", "", line) for line in text.splitlines()]
    (tmp_path / "all.toml").write_text("\n".join(lines), encoding="utf-8")
    asked = read_recipe(str(tmp_path / "all.toml"))
    assert asked.tweaks[0].options["settings"].max_class_drop == 5.0
    assert asked.gates.max_E == 2.0 and asked.gates.min_mcnemar == 0.95
    assert asked.data.preprocess.mean == (0.485, 0.456, 0.406)
