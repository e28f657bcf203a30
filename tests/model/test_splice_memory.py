"""A splice reads no external weights: its memory does not grow with them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "speed" / "large_splice.py"


@pytest.mark.skipif(sys.platform == "win32", reason="needs sparse files and getrusage")
def test_a_model_with_more_than_two_gigabytes_of_external_weights(tmp_path):
    from benchmarks.speed.large_splice import external

    path = external(tmp_path, 2_200_000_000)
    said = subprocess.run(
        [sys.executable, str(SCRIPT), "--one", str(path)], capture_output=True, text=True, check=True
    ).stdout
    assert float(said.split()[0].replace(",", "")) < 300
    assert (tmp_path / "tweaked.onnx").stat().st_size < 100_000
