"""Does the table of runtimes count what it should, and is what quantising leaves measured?"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.conformance import quantised
from benchmarks.conformance.runtimes import Case, Found, in_runtime, passes, run, table

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "digits_cnn3.onnx"


@pytest.fixture
def case():
    with np.load(ROOT / "models" / "digits.npz") as held:
        x = held["x_test"][:12]
    return Case("digits", x, {"base": MODEL}, {"base": "logits"}, "image")


def test_a_runtime_runs_in_a_process_of_its_own(case, tmp_path):
    usual = run(case, "onnxruntime", sys.executable, tmp_path)
    (found,) = in_runtime(case, "onnx", sys.executable, usual, tmp_path)
    assert found.version and not found.failed and found.differ == 0 and found.apart < 1e-5


def test_what_a_runtime_refuses_is_told_and_so_is_a_process_that_ends(case, tmp_path):
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"no model")
    both = Case(
        "digits", case.samples, {"base": damaged, "join": MODEL}, {"base": "x", "join": "logits"}, "image"
    )
    found = run(both, "onnxruntime", sys.executable, tmp_path)
    assert found["base"][0]["failed"] and found["base"][1] is None
    assert found["join"][1].shape == (12, 10)
    gone = run(both, "onnxruntime", "false", tmp_path)
    assert [told["failed"] for told, _ in gone.values()] == ["its process ended with code 1"] * 2


def test_the_table_counts_what_passes_and_gives_reasons():
    def of(patch, apart, failed="", net="a", runtime="mnn"):
        return Found(net, patch, runtime, "1", apart, None if apart is None else 0, failed)

    readings = [of("base", 1e-7), of("join", 5e-7), of("fit", 0.5), of("base", None, "no such operator", "b")]
    said = table(readings)
    (row,) = [line for line in said.splitlines() if line.startswith("| MNN 1 |")]
    assert row == "| MNN 1 | 1 of 2 | 1 of 1 |  | 0 of 1 |  |  |  | 1e-07 | 5e-01 |"
    assert "- MNN 1, a, fit: values off by 0.5 of the largest, 0 decisions" in said
    assert "- MNN 1 does not run b itself: no such operator" in said
    assert passes(of("fit", 4e-2), of("base", 1e-2)) and not passes(of("fit", 5e-2), of("base", 1e-2))


def test_what_is_left_of_a_patch_after_quantising_is_measured(monkeypatch, capsys):
    words = ["--only", "digits_cnn3", "--ways", "join", "--formats", "dynamic int8"]
    monkeypatch.setattr(sys, "argv", ["quantised.py", *words])
    assert quantised.main() == 0
    cells = [cell.strip() for cell in capsys.readouterr().out.splitlines()[-1].strip("|").split("|")]
    assert cells[:4] == ["digits_cnn3", "join", "dynamic int8", "66.0 → 86.0"]
    assert int(cells[5]) >= 90 and int(cells[7]) >= 90
