"""A splice reads no external weights: its memory does not grow with them."""

from __future__ import annotations

import sys

import pytest

from tests.support import forked

# The digest of two gigabytes takes seconds, and `test_model_file` looks at the memory that it takes.
SPLICED = """
import sys
from pathlib import Path
from benchmarks.speed.large_splice import spliced
from onnxtweak.model.file.external_data import ExternalFile
ExternalFile.sha256 = 64 * "0"
spliced(Path(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs sparse files and getrusage")
def test_a_model_with_more_than_two_gigabytes_of_external_weights(tmp_path):
    from benchmarks.speed.large_splice import external

    path = external(tmp_path, 2_200_000_000)
    ran = forked.run(SPLICED, path)
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout.split()[0].replace(",", "")) < 300
    assert (tmp_path / "tweaked.onnx").stat().st_size < 100_000
