"""What works on this machine, and what to do about the rest?"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from onnxtweak._version import __version__
from onnxtweak.engine.machine.gpu import gpu_count
from onnxtweak.engine.runtimes.run_apart import PACKAGES
from onnxtweak.results import Diagnosis
from onnxtweak.types import Finding

# They all install into the folder `onnxruntime`: the last one installed wins, and leaves a mixture.
_RUNTIMES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-training",
    "ort-nightly",
    "ort-nightly-gpu",
)
_NEEDED = ("onnx", "numpy", "click", "protobuf", "onnx-graphsurgeon", "numba", "safetensors")
_SECONDS = 180
_LEAST_DISK = 2**30

# Runs a probe by its name (see `onnxtweak.engine.environment`): what it found, or {"failed": why}.
Probe = Callable[[str], Mapping[str, Any]]


def doctor(
    *, installed: Mapping[str, str] | None = None, probe: Probe | None = None, gpus: int | None = None
) -> Diagnosis:
    """Check versions, the runtime, GPUs, theta's back ends and the disk, and try what can be tried.

    installed : versions by distribution. probe : how things are tried. gpus : how many the driver shows. What
    is not given is found out.
    """
    found = _installed() if installed is None else installed
    tried = run_probe if probe is None else probe
    present = gpu_count() if gpus is None else gpus
    findings = (
        Finding("onnxtweak", "ok", f"{__version__}, Python {sys.version.split()[0]}"),
        *_packages(found),
        *_one_runtime(found),
        _cpu(tried),
        *_gpu(tried, present, found),
        *_numba(tried),
        *_other_runtimes(found),
        *_disk(),
    )
    return Diagnosis(findings)


def _installed() -> dict[str, str]:
    return {
        str(d.metadata["Name"]).lower().replace("_", "-"): d.version
        for d in metadata.distributions()
        if d.metadata["Name"]
    }


def run_probe(name: str) -> Mapping[str, Any]:
    """What a probe finds, in a process of its own."""
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "onnxtweak.engine.environment", name],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"no answer within {_SECONDS} seconds"}
    except OSError as error:
        return {"failed": f"no process can be started: {error.strerror or error}"}
    try:
        return json.loads(ran.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        errors = ran.stderr.strip().splitlines()
        return {"failed": errors[-1][:300] if errors else f"the process ended with code {ran.returncode}"}


def _packages(installed: Mapping[str, str]) -> Iterator[Finding]:
    least = _least()
    for name in _NEEDED:
        if name not in installed:
            yield Finding(name, "problem", "is not installed", "pip install onnxtweak")
        elif name in least and _numbers(installed[name]) < _numbers(least[name]):
            detail = f"{installed[name]} is older than {least[name]}"
            yield Finding(name, "problem", detail, f"pip install -U '{name}>={least[name]}'")
        else:
            yield Finding(name, "ok", installed[name])


def _least() -> dict[str, str]:
    """The oldest versions that onnxtweak works with, where its package says so."""
    try:
        needed = metadata.requires("onnxtweak") or []
    except metadata.PackageNotFoundError:  # a checkout
        return {}
    matches = (re.match(r"([A-Za-z0-9_-]+)>=([0-9.]+)(?:$|[,;])", line.replace(" ", "")) for line in needed)
    return {m[1].lower(): m[2] for m in matches if m and "extra" not in m.string}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:4])


def _one_runtime(installed: Mapping[str, str]) -> Iterator[Finding]:
    present = [name for name in _RUNTIMES if name in installed]
    if len(present) > 1:
        names = ", ".join(f"{name} {installed[name]}" for name in present)
        keep = "onnxruntime-gpu" if "onnxruntime-gpu" in present else present[0]
        hint = f"pip uninstall -y {' '.join(present)} && pip install {keep}"
        yield Finding("runtime", "problem", f"{names} overwrite each other's files", hint)
    elif not present:
        hint = "pip install 'onnxtweak[cpu]', or 'onnxtweak[gpu]' on a machine with an NVIDIA GPU"
        yield Finding("runtime", "problem", "ONNX Runtime is not installed", hint)
    else:
        yield Finding("runtime", "ok", f"{present[0]} {installed[present[0]]}")


def _probed(name: str, found: Mapping[str, Any], works: str, hint: str, level: str = "problem") -> Finding:
    """What a probe means. works : what to say where it passed; level, hint : where it did not."""
    if "failed" in found or not found["right"]:
        return Finding(name, level, found.get("failed", "computes wrong results"), hint)
    return Finding(name, "ok", works)


def _cpu(probe: Probe) -> Finding:
    found = probe("cpu")
    hint = "install ONNX Runtime again; look for a file onnxruntime.py in this folder"
    return _probed("model on the CPU", found, f"runs in ONNX Runtime {found.get('version')}", hint)


def _gpu(probe: Probe, gpus: int, installed: Mapping[str, str]) -> Iterator[Finding]:
    wanted = "onnxruntime-gpu" in installed
    if not gpus:
        if wanted:
            hint = "see `nvidia-smi`; in a container: docker run --gpus all"
            yield Finding("GPU", "warning", "onnxruntime-gpu is installed, but the driver shows no GPU", hint)
        else:
            yield Finding("GPU", "ok", "none, and none is needed")
        return
    yield Finding("GPU", "ok", f"the driver shows {gpus}")
    if not wanted:
        hint = "pip uninstall -y onnxruntime && pip install 'onnxtweak[gpu]'"
        yield Finding("model on the GPU", "warning", "this ONNX Runtime is built for CPUs", hint)
    else:
        yield _on_gpu(probe("cuda"))
    hint = "pip install 'onnxtweak[gpu]'; its CuPy must suit the driver's CUDA (`nvidia-smi`)"
    yield _probed("scores on the GPU", probe("cupy"), "CuPy's kernels run", hint, "warning")


def _on_gpu(found: Mapping[str, Any]) -> Finding:
    """Whether a node really ran there: an available provider does not mean that."""
    hint = "the CUDA and cuDNN libraries must suit onnxruntime-gpu: pip install 'onnxruntime-gpu[cuda,cudnn]'"
    if "failed" in found:
        return Finding("model on the GPU", "problem", found["failed"], hint)
    built = f" (built for CUDA {found['cuda']})" if found["cuda"] else ""
    if not found["used"].get("CUDAExecutionProvider"):
        return Finding("model on the GPU", "problem", f"nodes run on {', '.join(found['used'])}{built}", hint)
    if not found["right"]:
        return Finding("model on the GPU", "problem", f"computes wrong results{built}", "see `nvidia-smi -q`")
    return Finding("model on the GPU", "ok", f"runs{built}")


def _numba(probe: Probe) -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    hint = "pip install -U numba; until then: --backend numpy"
    found = probe("numba")
    yield _probed("scores on the CPU", found, f"Numba's kernels run; {cores} cores", hint)
    if found.get("kept") is False:
        hint = "set NUMBA_CACHE_DIR to a folder that can be written"
        yield Finding("kernels on disk", "warning", "no folder to keep them in: each run compiles them", hint)


def _other_runtimes(installed: Mapping[str, str]) -> Iterator[Finding]:
    for name, (_, distribution) in PACKAGES.items():
        if name not in ("onnxruntime", "onnx"):
            version = installed.get(distribution, installed.get(distribution.removesuffix("-headless")))
            absent = "not installed, and needed by `verify --runtime` alone"
            yield Finding(f"{name}, to compare with", "ok", version or absent)


def _disk() -> Iterator[Finding]:
    places = {"this folder": Path.cwd()}
    try:
        places["temporary files"] = Path(tempfile.gettempdir())
    except FileNotFoundError:
        hint = "set TMPDIR to a folder that can be written"
        yield Finding("disk, temporary files", "warning", "no folder for them can be written", hint)
    for name, place in places.items():
        free = shutil.disk_usage(place).free
        low = free < _LEAST_DISK
        hint = "free some: new models and dumps need room" if low else ""
        detail = f"{free / 2**30:,.1f} GiB free in {place}"
        yield Finding(f"disk, {name}", "warning" if low else "ok", detail, hint)
        if not os.access(place, os.W_OK):
            yield Finding(f"disk, {name}", "warning", f"cannot write to {place}", "work in another folder")
