"""What benchmarks/science/fit/halves.py measures, on the package's demo net; no net is downloaded here."""

from __future__ import annotations

import json
import shutil
from functools import partial

import numpy as np
import pytest

from benchmarks.science.fit import halves
from onnxtweak.demo_files import demo_files
from tests.support.few_folds import three_folds


@pytest.fixture
def nets(tmp_path):
    """A folder with one net and its samples."""
    folder = tmp_path / "nets"
    folder.mkdir()
    shutil.copy(demo_files().model, folder / "demo.onnx")
    with np.load(demo_files().data) as file:
        x, y = (np.concatenate([file[f"{axis}_fit"], file[f"{axis}_test"]]) for axis in "xy")
    np.savez(folder / "demo.npz", x=x, y=y)
    return folder


def test_what_it_measures_is_what_the_written_file_does(nets, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(halves.onnxtweak, "fit", partial(halves.onnxtweak.fit, hidden=0, mirror="off"))
    saved = tmp_path / "halves.json"
    command = [str(nets), "--json", str(saved), "--splits", "1", "--several", "0", "--threads", "1"]
    with three_folds():
        halves.main(command)
    printed = capsys.readouterr().out
    (row,) = json.loads(saved.read_text())["rows"]
    assert len(row["targets"]) == 1 and row["learn"] == row["test"] == 550
    assert row["fit"]["target"] > row["base"]["target"] and row["bytes"] > 0 and row["changed"] > 0
    assert f"| demo | {row['base']['overall']:.1%} | {row['base']['target']:.1%} |" in printed

    halves.main(command)  # nothing is left to do, so nothing is measured anew
    assert json.loads(saved.read_text())["rows"] == [row]
    halves.main(["--ratio", str(saved), str(saved)])
    assert "1 fits" in (told := capsys.readouterr().out) and "| 1.00 |" in told
    with pytest.raises(SystemExit, match=r"this is .*'max_class_drop': 0\.0"):
        halves.main([*command, "--max-class-drop", "0"])


def test_a_promise_that_is_named_is_asked_of_fit(nets, tmp_path, monkeypatch):
    asked = {}

    def fit(*_, **settings):
        asked.update(settings)
        raise halves.OnnxtweakError("not now")

    monkeypatch.setattr(halves.onnxtweak, "fit", fit)
    saved = tmp_path / "halves.json"
    promise = ["--max-class-drop", "5", "--margin", "1"]
    halves.main([str(nets), "--json", str(saved), "--splits", "1", "--several", "0", *promise])
    assert (asked["max_class_drop"], asked["margin"]) == (5.0, 1.0)
    assert json.loads(saved.read_text())["promise"] == {"max_class_drop": 5.0, "margin": 1.0}


def test_a_reading_that_differs_from_the_report_stops_it():
    half = np.arange(4)
    reported = halves.onnxtweak.types.Metrics(4, 0.75, 1.0, half, half)
    halves.agree({"overall": 0.75, "target": 1.0}, reported, "net")
    with pytest.raises(AssertionError, match=r"net: overall is 0\.5, reported 0\.75"):
        halves.agree({"overall": 0.5, "target": 1.0}, reported, "net")


def test_targets_are_found_on_the_learning_half_alone():
    y = np.repeat([0, 1, 2], [40, 40, 5])
    right, wrong = y.copy(), np.where(y == 1, 0, y)
    empty = np.empty((85, 1))
    half = halves.Half("net", 0, empty, y, empty, y, found_learn=wrong, found_test=np.where(y == 0, 2, right))
    assert halves.worst(half, 1) == (1,)
    assert halves.worst(half, halves.several(10, 3)) == (1, 0)  # class 2 is too rare to be a target


def test_few_classes_are_not_all_targets():
    assert [halves.several(classes, 3) for classes in (2, 4, 10)] == [0, 2, 3]


def test_classes_that_lost_are_no_targets_and_not_rare():
    y = np.repeat([0, 1, 2], [40, 40, 5])
    found = y.copy()
    found[:4], found[40:60], found[80:] = 1, 0, 0
    empty = np.empty((85, 1))
    half = halves.Half("net", 0, empty, y, empty, y, found_learn=y, found_test=y)
    assert halves.lost(half, found, (1,)) == {"lost": pytest.approx(10.0), "loser": 0}
