"""Every example runs, and prints what its `expected.txt` says, figures aside."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from tests.support import served

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("*/run.sh"))


def words(said: str) -> list[str]:
    """What was printed, without figures, line breaks, and lines about time and machine."""
    steady = re.sub(r"^(time|machine)\b.*\n(?: +.*\n)*", "", said, flags=re.MULTILINE)
    return re.sub(r"[0-9a-f]{12}…|[-+]?[0-9][0-9a-f.,e+-]*", "#", steady).split()


@pytest.mark.skipif(shutil.which("sh") is None, reason="the examples are shell scripts")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_it_prints_what_is_expected(example, tmp_path):
    shutil.copytree(ROOT / "models", tmp_path / "models")
    there = tmp_path / "examples" / example.name
    shutil.copytree(example, there, ignore=shutil.ignore_patterns("out", "__pycache__"))
    programs = tmp_path / "bin"
    programs.mkdir()
    python = shlex.quote(sys.executable)
    # The last as a process of its own, as a reader starts it.
    program = f"{python} -m onnxtweak" if example == EXAMPLES[-1] else served.PROGRAM
    for name, command in (("onnxtweak", program), ("python", python)):
        (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (programs / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    ran = served.run(["sh", str(there / "run.sh")], environment)
    assert ran.returncode == 0, ran.stderr
    assert words(ran.stdout) == words((example / "expected.txt").read_text(encoding="utf-8"))


def test_a_slow_machine_makes_no_difference():
    quick = "samples 5\ntime     all 0.1 s\nchecks 3\n"
    slow = "samples 5\ntime     collect 12.1 s, fit 160.4 s, test: tweaked\n         10.1 s\nchecks 3\n"
    assert words(quick) == words(slow) == ["samples", "#", "checks", "#"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_it_is_explained_and_listed(example):
    assert (example / "README.md").read_text(encoding="utf-8").startswith("# ")
    assert f"]({example.name}/)" in (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
