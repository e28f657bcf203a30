"""Loops are compiled wherever the program runs: without a folder for machine code, and not at all."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from onnxtweak.theta.numba import compiled

FOLD = """
from onnxtweak.engine.backends import folds_correctly, open_backend
from onnxtweak.settings import EngineSettings
made = open_backend(EngineSettings(device="cpu"))
print(made.name, folds_correctly(made))
"""
# The loop that is compiled soonest.
KEEP = """
import numpy as np
from onnxtweak.theta.numba.survivor_kernels import keep_beyond
none, nothing = np.empty(0, np.int32), np.empty(0, np.float32)
print(keep_beyond(none, none, nothing, np.empty((1, 1), np.float32), np.empty((1, 1), np.float32)))
"""
REFUSED = """
try:
    open_backend(EngineSettings(backend="numba"))
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""
LIGHTLY = {"NUMBA_OPT": "1"}  # compiled in half the time; where the machine code lies is the same


def run(code: str, **environment: str) -> subprocess.CompletedProcess:
    """A program in a process of its own; PYTHONPATH is this checkout."""
    root = str(Path(compiled.__file__).parents[3])
    made = {**os.environ, "PYTHONPATH": root, "PYTHONDONTWRITEBYTECODE": "1", **LIGHTLY, **environment}
    return subprocess.run([sys.executable, "-c", code], env=made, capture_output=True, text=True)


def no_place(loop):
    raise RuntimeError("cannot cache function: no locator available")


def test_without_a_place_a_loop_is_compiled_and_it_is_said_once(monkeypatch):
    monkeypatch.setattr(compiled, "_Kept", no_place)
    compiled.say_no_place.cache_clear()

    def double(x):
        return x * 2

    loop = compiled.compiled(double)
    with pytest.warns(UserWarning, match="set NUMBA_CACHE_DIR to a folder") as said:
        assert loop(3) == 6
        assert loop(1.5) == 3.0
    assert len(said) == 1 and not compiled.kept()
    compiled.say_no_place.cache_clear()


@pytest.mark.skipif(
    not (os.name == "posix" and os.geteuid() == 0 and shutil.which("setpriv")), reason="no root"
)
def test_another_user_without_a_home_scores(tmp_path):
    """What root has installed, run by a user who can write nowhere."""
    root = str(Path(compiled.__file__).parents[3])
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    environment = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "HOME")}
    environment |= {"PYTHONPATH": root, "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nonexistent", **LIGHTLY}
    there = {"env": environment, "cwd": "/"}
    try:
        ran = subprocess.run([*user, sys.executable, "-c", FOLD], capture_output=True, text=True, **there)
    except OSError as error:
        pytest.skip(f"setpriv does not start: {error}")
    if ran.returncode:
        readable = subprocess.run([*user, sys.executable, "-c", "import numba"], check=False, **there)
        if readable.returncode or "Permission denied" in ran.stderr:
            pytest.skip("this Python belongs to root alone")
    assert ran.stdout == "numba True\n" and ran.stderr.count("NUMBA_CACHE_DIR") == 1


def test_the_place_that_is_named_is_used(tmp_path):
    ran = run(KEEP, NUMBA_CACHE_DIR=str(tmp_path))
    assert (ran.stdout, ran.stderr) == ("0\n", "")
    assert list(tmp_path.rglob("*.nbi"))


def test_damaged_machine_code_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path / "kept"))
    module = tmp_path / "loops.py"
    module.write_text("def double(x):\n    return x * 2\n")

    def found() -> tuple[int, int]:
        """What a program that calls the loop finds, and does not find."""
        loop = compiled.compiled(runpy.run_path(str(module))["double"])
        assert loop(3) == 6
        return sum(loop.stats.cache_hits.values()), sum(loop.stats.cache_misses.values())

    assert [found(), found()] == [(0, 1), (1, 0)]
    held = list((tmp_path / "kept").rglob("*.nb?"))
    assert {path.suffix for path in held} == {".nbi", ".nbc"}
    # An index that cannot be read is begun anew, and written by the next program.
    for suffix, programs in ((".nbc", [(0, 1), (1, 0)]), (".nbi", [(0, 1), (0, 1), (1, 0)])):
        for path in held:
            if path.suffix == suffix:
                path.write_bytes(path.read_bytes()[:40])
        assert [found() for _ in programs] == programs


def test_without_compiling_numpy_scores_and_it_is_said():
    ran = run(FOLD + REFUSED, NUMBA_DISABLE_JIT="1")
    scored, refused = ran.stdout.splitlines()
    assert scored == "numpy True"
    assert "NUMBA_DISABLE_JIT is set: scores are computed by NumPy" in ran.stderr
    assert refused.startswith("MachineError: Numba does not compile where NUMBA_DISABLE_JIT is set")


def test_survivors_are_counted_without_compiling_too():
    from onnxtweak.theta.numba.survivor_kernels import keep_beyond

    plain = getattr(keep_beyond, "py_func", keep_beyond)
    found = [np.array([0, 0], np.int32), np.array([0, 1], np.int32), np.array([1, 3], np.float32)]
    assert plain(*found, np.full((1, 2), 2, np.float32), np.zeros((1, 2), np.float32)) == 1
    assert found[2][0] == 3
