"""A result in MLflow: figures, facts, and the model as `save` writes it."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

import pytest

import onnxtweak
from tests.support.weak_class import TARGET, weak_cnn


@pytest.fixture
def made(tmp_path):
    model, data = weak_cnn(tmp_path)
    return onnxtweak.join(model, data=data, target=TARGET, count=5, backend="numpy")


def logged(monkeypatch, made, tmp_path, **options):
    """What a stand-in for MLflow is given."""
    seen: dict[str, dict] = {"files": {}}

    def log_artifacts(folder: str, into: str) -> None:
        seen["files"] |= {f"{into}/{path.name}": path.read_bytes() for path in Path(folder).iterdir()}

    stand_in = types.ModuleType("mlflow")
    stand_in.log_metrics = lambda values: seen.__setitem__("metrics", values)
    stand_in.log_params = lambda values: seen.__setitem__("params", values)
    stand_in.log_artifacts = log_artifacts
    monkeypatch.setitem(sys.modules, "mlflow", stand_in)
    monkeypatch.delitem(sys.modules, "onnxtweak.api.mlflow_log", raising=False)
    importlib.import_module("onnxtweak.api.mlflow_log").log_result(made, **options)
    monkeypatch.delitem(sys.modules, "onnxtweak.api.mlflow_log")
    return seen


def test_everything_that_counts_is_logged(monkeypatch, made, tmp_path):
    seen = logged(monkeypatch, made, tmp_path, folder="patch")
    assert seen["metrics"]["after.target"] == made.after.target
    assert seen["metrics"]["fixed"] == made.measured.fixed
    assert all(isinstance(value, int | float) for value in seen["metrics"].values())
    assert seen["params"]["onnxtweak.goal"] == made.verdict.goal
    assert seen["params"]["onnxtweak.base_sha256"] == made.model.sha256
    assert all(isinstance(value, str) and len(value) <= 250 for value in seen["params"].values())
    made.save(tmp_path / "saved.onnx")
    assert seen["files"]["patch/model.onnx"] == (tmp_path / "saved.onnx").read_bytes()
    assert set(seen["files"]) == {f"patch/{name}" for name in ("model.onnx", "result.json", "result.html")}


def test_a_run_of_mlflow_has_it(made, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="no MLflow: pip install mlflow-skinny")
    from onnxtweak.api.mlflow_log import log_result

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    with mlflow.start_run() as run:
        log_result(made)
    found = mlflow.get_run(run.info.run_id).data
    assert found.metrics["after.overall"] == made.after.overall
    assert len(list((tmp_path / "runs").rglob("artifacts/onnxtweak/model.onnx"))) == 1
