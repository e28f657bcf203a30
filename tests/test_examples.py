"""Every example runs, and prints what its `expected.txt` says, figures aside."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("*/run.sh"))


def words(said: str) -> list[str]:
    """What was printed, without figures, line breaks, and lines about time and machine."""
    lines = [line for line in said.splitlines() if not line.startswith(("time", "machine"))]
    return re.sub(r"[-+]?[0-9][0-9a-f.,e+-]*…?", "#", " ".join(lines)).split()


@pytest.mark.skipif(shutil.which("sh") is None, reason="the examples are shell scripts")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_it_prints_what_is_expected(example, tmp_path):
    shutil.copytree(ROOT / "models", tmp_path / "models")
    there = tmp_path / "examples" / example.name
    shutil.copytree(example, there, ignore=shutil.ignore_patterns("out", "__pycache__"))
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, rest in (("onnxtweak", "-m onnxtweak"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {rest} "$@"\n')
        (programs / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    ran = subprocess.run(["sh", str(there / "run.sh")], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert words(ran.stdout) == words((example / "expected.txt").read_text(encoding="utf-8"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_it_is_explained_and_listed(example):
    assert (example / "README.md").read_text(encoding="utf-8").startswith("# ")
    assert f"]({example.name}/)" in (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
