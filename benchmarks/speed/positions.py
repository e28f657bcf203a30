"""How much memory does a segmenter of 21 classes take, and how long is a capture beside plain inference?

    python benchmarks/speed/positions.py FOLDER [--samples 500] [--size 512] [--memory 2GB]

A net of seven convolutions, whose scores (N, 21, size/4, size/4) are resized to the picture before a softmax,
and random pictures and labels, kept in FOLDER. The peak is that of a process of its own which runs `fit`;
then the same pictures are run by ONNX Runtime alone, one thread each, and by a pass that reads every channel
at the positions drawn.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from onnxtweak import quantities
from onnxtweak.method.table import all_neurons
from onnxtweak.settings import DataSettings, EngineSettings, Preprocess, TapSettings
from onnxtweak.stages.gather import gather_table
from onnxtweak.stages.open_job import prepare
from onnxtweak.types import silent

CLASSES, CHANNELS = 21, (3, 16, 24, 32, 48, 48, 64)
STRIDES = (2, 1, 2, 1, 1, 1)


def segmenter(path: Path, size: int) -> None:
    """Write the net."""
    rng, nodes, weights, last = np.random.default_rng(0), [], [], "x"

    def conv(name: str, inputs: int, outputs: int, kernel: int, stride: int) -> str:
        scale = np.sqrt(2 / (inputs * kernel**2))
        array = rng.normal(0, scale, (outputs, inputs, kernel, kernel)).astype(np.float32)
        weights.append(numpy_helper.from_array(array, f"{name}/w"))
        weights.append(numpy_helper.from_array(np.zeros(outputs, np.float32), f"{name}/b"))
        shape = {"kernel_shape": [kernel, kernel], "pads": [kernel // 2] * 4, "strides": [stride, stride]}
        nodes.append(helper.make_node("Conv", [last, f"{name}/w", f"{name}/b"], [name], name, **shape))
        return name

    for number, stride in enumerate(STRIDES):
        conv(f"conv{number}", CHANNELS[number], CHANNELS[number + 1], 3, stride)
        last = f"relu{number}"
        nodes.append(helper.make_node("Relu", [f"conv{number}"], [last], last))
    last = conv("scores", CHANNELS[-1], CLASSES, 1, 1)
    weights.append(numpy_helper.from_array(np.array([1, 1, 4, 4], np.float32), "scales"))
    nodes.append(helper.make_node("Resize", [last, "", "scales"], ["large"], "large", mode="linear"))
    nodes.append(helper.make_node("Softmax", ["large"], ["answer"], "answer", axis=1))
    shapes = ["N", 3, size, size], ["N", CLASSES, size, size]
    given, shown = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip(("x", "answer"), shapes, strict=True)
    )
    graph = helper.make_graph(nodes, "segmenter", [given], [shown], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def samples(folder: Path, model: Path, count: int, size: int) -> None:
    """Write pictures, and as labels what the model shows of them, one pixel in five another class."""
    rng, session = np.random.default_rng(1), ort.InferenceSession(str(model))
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.uint8, (count, 3, size, size))
    y = np.lib.format.open_memmap(folder / "y.npy", "w+", np.uint8, (count, size, size))
    for k in range(count):
        coarse = rng.integers(0, 256, (3, size // 16, size // 16), np.uint8)
        x[k] = coarse.repeat(16, axis=1).repeat(16, axis=2) // 2 + rng.integers(0, 128, x[k].shape, np.uint8)
        (shown,) = session.run(None, {"x": x[k : k + 1].astype(np.float32) / np.float32(255)})
        other = rng.random(y[k].shape) < 0.2
        y[k] = np.where(other, rng.integers(0, CLASSES, y[k].shape), shown[0].argmax(axis=0))


def fitted(folder: Path, memory: str) -> dict[str, float]:
    """Run `fit` in a process of its own: its peak in MiB, its time, and that of its passes by name."""
    made = folder / "fit.json"
    command = [
        sys.executable,
        "-m",
        "onnxtweak",
        "fit",
        str(folder / "net.onnx"),
        "-d",
        str(folder / "x.npy"),
    ]
    command += ["--pixel-scale", "1/255", "--memory", memory, "--threads", "1", "--format", "json"]
    begin = time.perf_counter()
    with made.open("w") as out:
        process = subprocess.Popen(
            [*command, "-o", str(folder / "new.onnx"), "--force"], stdout=out, env=os.environ
        )
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("fit failed")
    seconds = json.loads(made.read_text())["seconds"]
    return {"peak": usage.ru_maxrss / 1024, "all": time.perf_counter() - begin, **seconds}


def plain(folder: Path, rows: np.ndarray) -> float:
    """CPU seconds of ONNX Runtime alone over some pictures, one thread, reading and scaling included."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(folder / "net.onnx"), options)
    x, begin = np.load(folder / "x.npy", mmap_mode="r"), time.process_time()
    for k in rows:
        session.run(None, {"x": x[k : k + 1].astype(np.float32) * np.float32(1 / 255)})
    return time.process_time() - begin


def captured(folder: Path, memory: str) -> tuple[float, int]:
    """CPU seconds of the pass that reads every channel at the positions of fit, and its pictures."""
    data = DataSettings(data=(str(folder / "x.npy"),), preprocess=Preprocess(pixel_scale=1 / 255))
    engine = EngineSettings(memory=quantities.size(memory), threads=1)
    job = prepare(str(folder / "net.onnx"), data, engine, TapSettings(), silent)
    begin = time.process_time()
    gather_table(job, job.splits.fit, all_neurons(job.taps), "collect")
    return time.process_time() - begin, len(job.splits.fit.samples)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("folder", type=Path)
    asked.add_argument("--samples", type=int, default=500)
    asked.add_argument("--size", type=int, default=512)
    asked.add_argument("--memory", default="2GB")
    given = asked.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if not (given.folder / "y.npy").exists():
        segmenter(given.folder / "net.onnx", given.size)
        samples(given.folder, given.folder / "net.onnx", given.samples, given.size)
    found = fitted(given.folder, given.memory)
    print("fit:", ", ".join(f"{name} {value:,.0f}" for name, value in found.items()), flush=True)
    with_taps, count = captured(given.folder, given.memory)
    alone = plain(given.folder, np.arange(count))
    print(
        f"capture of {count} pictures: {with_taps:.1f} CPU s, plain inference {alone:.1f},"
        f" {with_taps / alone:.2f} times as long"
    )
    print(f"peak of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")


if __name__ == "__main__":
    main()
