"""`--help` answers at once: it loads no NumPy, no ONNX, no runtime."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from onnxtweak.cli.main import program

HELP = """
import contextlib, io, json, sys, sysconfig
before = set(sys.modules)
from onnxtweak.cli.main import main
with contextlib.redirect_stdout(io.StringIO()):
    code = main({arguments})
loaded = sorted({{name.split(".")[0] for name in set(sys.modules) - before}} - sys.stdlib_module_names)
print(json.dumps([code, loaded, len(sys.modules)]))
"""

# Windows terminals get their colours from colorama, which click then loads.
LIGHT = {"click", "onnxtweak", "colorama"}

MOST_MODULES = 250


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], *([c.name, "--help"] for c in program.commands.values())]
)
def test_help_loads_nothing_heavy(root, arguments):
    ran = subprocess.run(
        [
            sys.executable,
            "-I",
            "-c",
            f"import sys; sys.path.insert(0, {str(root)!r})" + HELP.format(arguments=arguments),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    code, loaded, modules = json.loads(ran.stdout)
    assert code == 0
    assert set(loaded) <= LIGHT
    assert modules <= MOST_MODULES
