"""How is a file run by another runtime? In a process of its own, which a runtime may crash.

`python -m onnxtweak.engine.runtimes.run_apart NAME FOLDER` reads what is to be run from FOLDER, and writes
what came out there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from onnxtweak.temporary_files import temporary_folder

_TASK, _FED, _FOUND = "task.json", "fed.npz", "found.npz"
_SECONDS = 600
# The module that each runtime is imported from, and the distribution that has it.
PACKAGES = {
    "onnxruntime": ("onnxruntime", "onnxruntime"),
    "onnx": ("onnx", "onnx"),
    "openvino": ("openvino", "openvino"),
    "opencv": ("cv2", "opencv-python-headless"),
}


@dataclass(frozen=True, eq=False)
class RunApart:
    """What came out. values : one array for all batches; None where it failed, for the reason `failed`."""

    version: str
    values: np.ndarray | None
    failed: str = ""


def is_installed(name: str) -> bool:
    """Whether a runtime can be imported here."""
    return find_spec(PACKAGES[name][0]) is not None


def run_apart(name: str, model: Path, output: str, batches: Sequence[Mapping[str, np.ndarray]]) -> RunApart:
    """One output of a file in a runtime, for batches of inputs by name; whatever goes wrong is told."""
    with temporary_folder(Path(tempfile.gettempdir()), private=True) as folder:
        fed: dict[str, Any] = {f"{k} {key}": v for k, batch in enumerate(batches) for key, v in batch.items()}
        np.savez(folder / _FED, **fed)
        task = {"model": str(model.resolve()), "output": output, "batches": len(batches)}
        (folder / _TASK).write_text(json.dumps(task), encoding="utf-8")
        root = str(Path(__file__).resolve().parents[3])
        paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
        try:
            ran = subprocess.run(
                [sys.executable, "-m", __name__, name, str(folder)],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS,
                env={**os.environ, "PYTHONPATH": paths},
            )
        except subprocess.TimeoutExpired:
            return RunApart("", None, f"no answer within {_SECONDS} seconds")
        except OSError as error:
            return RunApart("", None, f"no process can be started: {error.strerror or error}")
        try:
            told = json.loads(ran.stdout.splitlines()[-1])
        except (ValueError, IndexError):
            return RunApart("", None, f"its process ended with code {ran.returncode}")
        if told["failed"]:
            return RunApart(told["version"], None, told["failed"])
        with np.load(folder / _FOUND) as found:
            return RunApart(told["version"], found["values"])


def _child(name: str, folder: Path) -> None:
    """Run what the folder asks for, and say on stdout how it went."""
    told = {"version": "", "failed": ""}
    try:
        module = import_module(f"onnxtweak.engine.runtimes.{name}")
        told["version"] = module.VERSION
        task = json.loads((folder / _TASK).read_text(encoding="utf-8"))
        batches: list[dict[str, np.ndarray]] = [{} for _ in range(task["batches"])]
        with np.load(folder / _FED) as fed:
            for key in fed.files:
                number, _, port = key.partition(" ")
                batches[int(number)][port] = fed[key]
        values = np.concatenate(module.run(task["model"], task["output"], batches))
        np.savez(folder / _FOUND, values=values)
    except Exception as error:  # a runtime may refuse a file in any way, and that is the answer
        lines = f"{type(error).__name__}: {error}".strip().splitlines()
        told["failed"] = " ".join(line.strip() for line in lines if line.strip())[:300]
    sys.stdout.write("\n" + json.dumps(told) + "\n")


if __name__ == "__main__":
    _child(sys.argv[1], Path(sys.argv[2]))
