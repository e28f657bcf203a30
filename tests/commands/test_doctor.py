"""Doctor: each trouble is found, and told with its remedy."""

from __future__ import annotations

import sys

import pytest

from onnxtweak.commands.doctor import doctor, run_probe

WELL = {
    "onnx": "1.23.0", "numpy": "2.4.0", "click": "8.5.0", "protobuf": "7.0.0", "onnx-graphsurgeon": "0.6.1",
    "numba": "0.68.0", "safetensors": "0.8.0", "onnxruntime": "1.32.0",
}  # fmt: skip
BARE = {name: version for name, version in WELL.items() if name != "onnxruntime"}
GPU = {**BARE, "onnxruntime-gpu": "1.32.0"}
ANSWERS = {
    "cpu": {"version": "1.32.0", "cuda": "", "used": {"CPUExecutionProvider": 1}, "right": True},
    "cuda": {"version": "1.32.0", "cuda": "13.0", "used": {"CUDAExecutionProvider": 1}, "right": True},
    "numba": {"name": "numba", "right": True},
    "cupy": {"name": "cupy", "right": True},
}


def found(installed=WELL, gpus=0, **answers):
    tried = {**ANSWERS, **answers}
    made = doctor(installed=installed, probe=tried.__getitem__, gpus=gpus)
    return {finding.name: finding for finding in made.findings}, made


def test_a_machine_in_order():
    seen, made = found()
    assert not made.problems
    assert seen["GPU"].detail == "none, and none is needed"
    seen, made = found(GPU, gpus=2)
    assert not made.problems
    assert seen["model on the GPU"].detail == "runs (built for CUDA 13.0)"


@pytest.mark.parametrize(
    ("case", "name", "state", "said", "hint"),
    [
        (
            {"installed": {**WELL, "onnxruntime-gpu": "1.30.0"}},
            "runtime",
            "problem",
            "overwrite",
            "pip uninstall -y onnxruntime onnxruntime-gpu",
        ),
        ({"installed": BARE}, "runtime", "problem", "not installed", "onnxtweak[cpu]"),
        (
            {"installed": {k: v for k, v in WELL.items() if k != "numba"}},
            "numba",
            "problem",
            "is not installed",
            "pip install",
        ),
        (
            {"cpu": {"failed": "ImportError: DLL"}},
            "model on the CPU",
            "problem",
            "DLL",
            "install ONNX Runtime again",
        ),
        (
            {"cpu": {**ANSWERS["cpu"], "right": False}},
            "model on the CPU",
            "problem",
            "wrong results",
            "again",
        ),
        (
            {"numba": {"failed": "SystemError: llvm"}},
            "scores on the CPU",
            "problem",
            "llvm",
            "--backend numpy",
        ),
        ({"installed": GPU}, "GPU", "warning", "shows no GPU", "--gpus all"),
        ({"gpus": 1}, "model on the GPU", "warning", "built for CPUs", "onnxtweak[gpu]"),
        (
            {"installed": GPU, "gpus": 1, "cuda": {"failed": "libcudnn.so.9 is missing"}},
            "model on the GPU",
            "problem",
            "cudnn",
            "onnxruntime-gpu[cuda,cudnn]",
        ),
        (
            {"installed": GPU, "gpus": 1, "cuda": ANSWERS["cpu"]},
            "model on the GPU",
            "problem",
            "nodes run on CPUExecutionProvider",
            "suit",
        ),
        (
            {"installed": GPU, "gpus": 1, "cupy": {"failed": "no kernel"}},
            "scores on the GPU",
            "warning",
            "no kernel",
            "CuPy",
        ),
    ],
)
def test_each_trouble_has_its_remedy(case, name, state, said, hint):
    seen, made = found(**case)
    assert seen[name].state == state
    assert said in seen[name].detail
    assert hint in seen[name].hint
    assert (seen[name] in made.problems) == (state == "problem")


def test_the_real_probes_answer():
    assert run_probe("cpu")["right"]
    assert run_probe("numba") in [{"name": "numba", "right": True, "kept": kept} for kept in (True, False)]
    assert "failed" in run_probe("nothing of this name")


def test_kernels_that_cannot_be_kept_are_a_warning():
    seen, made = found(numba={"name": "numba", "right": True, "kept": False})
    assert seen["kernels on disk"].state == "warning" and "NUMBA_CACHE_DIR" in seen["kernels on disk"].hint
    assert not made.problems
    assert "kernels on disk" not in found(numba={"name": "numba", "right": True, "kept": True})[0]


def test_a_machine_that_starts_no_process_is_told(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    assert run_probe("cpu") == {"failed": "no process can be started: No such file or directory"}
    made = doctor(installed=WELL, gpus=0)
    assert made.problems
