"""Metrics through whole commands."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

import onnxtweak
from onnxtweak import commands
from onnxtweak.cli.main import main
from onnxtweak.errors import ModelError, UsageError
from tests.support.weak_class import run


def test_evaluate_measures_what_is_asked_for(mlp, capsys, tmp_path):
    model, data = mlp
    with np.load(data) as held:
        x, y = held["x"], held["y"]
    import onnx

    predicted = run(onnx.load(model), x).argmax(axis=1)
    found = onnxtweak.evaluate(model, data=data, metrics=["balanced", "f1", "worst"])
    values = {one.name: one for one in found.readings}
    assert values["balanced"].value == pytest.approx(balanced_accuracy_score(y, predicted))
    assert values["f1"].value == pytest.approx(f1_score(y, predicted, average="macro"))
    assert values["worst"].value == pytest.approx(found.metrics.per_class.min())
    for one in found.readings:
        low, high = one.interval
        assert low < one.value < high and high - low < 0.2
    costs = tmp_path / "costs.csv"
    classes = found.metrics.confusion.shape[0]
    np.savetxt(costs, 1 - np.eye(classes), delimiter=",")
    assert main(["evaluate", str(model), "-d", str(data), "--metric", f"cost:{costs}", "-f", "json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["readings"]
    assert told["value"] == pytest.approx(1 - found.metrics.overall) and told["sign"] == -1
    assert main(["evaluate", str(model), "-d", str(data), "--metric", "balanced"]) == 0
    assert f"{values['balanced'].value * 100:.1f}" in capsys.readouterr().out


def test_evaluate_refuses_what_the_model_does_not_have(mlp):
    model, data = map(str, mlp)
    with pytest.raises(ModelError, match="this model has"):
        onnxtweak.evaluate(model, data=data, metrics="recall@fpr=0.1")
    with pytest.raises(UsageError, match="unknown metric"):
        commands.evaluate(model="nowhere.onnx", data=None, metrics=("acc",))
