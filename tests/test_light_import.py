"""`--help` answers at once: it loads no NumPy, no ONNX, no runtime."""

from __future__ import annotations

import json
import subprocess
import sys

from onnxtweak.cli.main import program

# Each question in a fork of one process that has loaded the program alone.
HELP = """
import contextlib, io, json, os, sys, sysconfig
before = set(sys.modules)
from onnxtweak.cli.main import main
for arguments in json.loads(sys.argv[1]):
    if os.fork():
        os.wait()
        continue
    with contextlib.redirect_stdout(io.StringIO()):
        code = main(arguments)
    loaded = sorted({name.split(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)
    print(json.dumps([arguments, code, loaded, len(sys.modules)]), flush=True)
    os._exit(0)
"""

# Windows terminals get their colours from colorama, which click then loads.
LIGHT = {"click", "onnxtweak", "colorama"}

MOST_MODULES = 250


def test_help_loads_nothing_heavy(root):
    asked = [["--help"], ["--version"], *([command, "--help"] for command in program.commands)]
    code = f"import sys; sys.path.insert(0, {str(root)!r})" + HELP
    ran = subprocess.run(
        [sys.executable, "-I", "-c", code, json.dumps(asked)], capture_output=True, text=True, check=True
    )
    told = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [arguments for arguments, *_ in told] == asked and len(asked) > 20
    heavy = [one for one in told if one[1] or not set(one[2]) <= LIGHT or one[3] > MOST_MODULES]
    assert not heavy


def test_a_command_loads_its_own_job_and_no_other():
    """In tests everything is loaded at once: that a function is found by its name is seen here alone."""
    code = (
        "import sys, onnxtweak.commands.run; from onnxtweak import commands;"
        "print(*(callable(getattr(commands, name)) for name in ('run', 'inspect')),"
        " *(f'onnxtweak.commands.{name}' in sys.modules for name in ('inspect', 'doctor')))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["True", "True", "True", "False"]


def test_a_command_that_scores_nothing_loads_neither_numba_nor_learners(root):
    model, data = f"{root}/models/digits_cnn3.onnx", f"{root}/models/digits.npz#test[:50]"
    code = (
        "import sys; from onnxtweak.cli.main import main;"
        f"assert main(['evaluate', {model!r}, '-d', {data!r}, '-q']) == 0;"
        "print(*({'numba', 'onnxtweak.method.fit.fit', 'onnxtweak.method.augment'} & {*sys.modules}))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == ""
