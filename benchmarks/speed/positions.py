"""How much memory does a segmenter of 21 classes take, and how long is a capture beside plain inference?

    python benchmarks/speed/positions.py FOLDER [--samples 500] [--size 512] [--memory 2GB] [--unequal]
        [--written] [--command fit]

A net of seven convolutions, whose scores (N, 21, size/4, size/4) are resized to the picture before a softmax,
and random pictures and labels, kept in FOLDER. With --unequal height and width of each picture are drawn
between three and five quarters of the size, and stored as numbered arrays. Labels are what the net shows, so
that the base is the answer; with --written what another net shows, which has a hidden layer behind the last
map, so that there is something to learn and a file is written. The peak is that of a process of its own that
runs the command, looked at every 10 ms, with what it started; it is told for each line that the command says,
of the time since the line before. Then the same pictures are run by ONNX Runtime alone, one thread each, and
by a pass that reads every channel at the positions drawn.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from threading import Event, Thread

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from onnxtweak import quantities
from onnxtweak.method.table import all_neurons
from onnxtweak.settings import DataSettings, EngineSettings, Preprocess, TapSettings
from onnxtweak.stages.gather import gather_table
from onnxtweak.stages.open_job import prepare

CLASSES, CHANNELS = 21, (3, 16, 24, 32, 48, 48, 64)
STRIDES = (2, 1, 2, 1, 1, 1)


def segmenter(path: Path, size: int | None, *, other: bool = False) -> None:
    """Write the net. size : of pictures; None where it takes any.

    other : behind its last map is another net, of one hidden layer, with units and classes equally frequent.
    """
    rng, nodes, weights, last = np.random.default_rng(0), [], [], "x"

    def conv(name: str, inputs: int, outputs: int, kernel: int, stride: int) -> str:
        scale = np.sqrt(2 / (inputs * kernel**2))
        array = rng.normal(0, scale, (outputs, inputs, kernel, kernel)).astype(np.float32)
        weights.append(numpy_helper.from_array(array, f"{name}/w"))
        weights.append(numpy_helper.from_array(np.zeros(outputs, np.float32), f"{name}/b"))
        shape = {"kernel_shape": [kernel, kernel], "pads": [kernel // 2] * 4, "strides": [stride, stride]}
        nodes.append(helper.make_node("Conv", [last, f"{name}/w", f"{name}/b"], [name], name, **shape))
        return name

    def evenly(name: str) -> str:
        """A map whose channels have the mean 0 and the deviation 1 over each picture."""
        ones = np.ones(len(numpy_helper.to_array(weights[-1])), np.float32)
        weights.append(numpy_helper.from_array(ones, f"{name}/one"))
        weights.append(numpy_helper.from_array(0 * ones, f"{name}/zero"))
        given, made = [name, f"{name}/one", f"{name}/zero"], f"{name}/even"
        nodes.append(helper.make_node("InstanceNormalization", given, [made], made))
        return made

    for number, stride in enumerate(STRIDES):
        conv(f"conv{number}", CHANNELS[number], CHANNELS[number + 1], 3, stride)
        last = f"relu{number}"
        nodes.append(helper.make_node("Relu", [f"conv{number}"], [last], last))
    if other:
        last = evenly(conv("hidden", CHANNELS[-1], CHANNELS[-1], 1, 1))
        nodes.append(helper.make_node("Relu", [last], ["units"], "units"))
        last = "units"
    last = conv("scores", CHANNELS[-1], CLASSES, 1, 1)
    last = evenly(last) if other else last
    weights.append(numpy_helper.from_array(np.array([1, 1, 4, 4], np.float32), "scales"))
    nodes.append(helper.make_node("Resize", [last, "", "scales"], ["large"], "large", mode="linear"))
    nodes.append(helper.make_node("Softmax", ["large"], ["answer"], "answer", axis=1))
    area = [size or "H", size or "W"]
    shapes = ["N", 3, *area], ["N", CLASSES, *area]
    given, shown = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip(("x", "answer"), shapes, strict=True)
    )
    graph = helper.make_graph(nodes, "segmenter", [given], [shown], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def samples(model: Path, sizes: np.ndarray, noise: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pictures of some sizes (N, 2), and as labels what a model shows. noise : pixels of any other class."""
    rng, session = np.random.default_rng(1), started(model)
    for high, wide in sizes.tolist():
        coarse = rng.integers(0, 256, (3, -(-high // 16), -(-wide // 16)), np.uint8)
        x = coarse.repeat(16, axis=1).repeat(16, axis=2)[:, :high, :wide] // 2
        x += rng.integers(0, 128, x.shape, np.uint8)
        (shown,) = session.run(None, {"x": x[None].astype(np.float32) / np.float32(255)})
        other = rng.random((high, wide)) < noise
        y = np.where(other, rng.integers(0, CLASSES, other.shape), shown[0].argmax(axis=0))
        yield x, y.astype(np.uint8)


def write(folder: Path, count: int, size: int, *, unequal: bool, written: bool) -> None:
    """Write net and samples."""
    shown, sizes, noise = folder / "net.onnx", np.full((count, 2), size), 0.2
    segmenter(shown, None if unequal else size)
    if written:
        shown, noise = folder / "other.onnx", 0.05
        segmenter(shown, None if unequal else size, other=True)
    if not unequal:
        x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.uint8, (count, 3, size, size))
        y = np.lib.format.open_memmap(folder / "y.npy", "w+", np.uint8, (count, size, size))
        for k, (picture, labels) in enumerate(samples(shown, sizes, noise)):
            x[k], y[k] = picture, labels
        return
    sizes = 4 * np.random.default_rng(2).integers(3 * size // 16, 5 * size // 16 + 1, (count, 2))
    with zipfile.ZipFile(folder / "pictures.npz", "w") as archive:  # as numpy.savez, one after the other
        for k, pair in enumerate(samples(shown, sizes, noise)):
            for name, array in zip("xy", pair, strict=True):
                with archive.open(f"{name}_{k}.npy", "w") as file:
                    np.save(file, array)


def stored(folder: Path) -> Path:
    """Where the samples are."""
    return next(path for name in ("pictures.npz", "x.npy") if (path := folder / name).exists())


def pictures(folder: Path) -> Iterator[np.ndarray]:
    """One after the other."""
    held = np.load(stored(folder), mmap_mode="r")
    if isinstance(held, np.ndarray):
        yield from held
        return
    yield from (held[f"x_{k}"] for k in range(len(held.files) // 2))


def started(model: Path) -> ort.InferenceSession:
    """A session of one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(model), options)


def carried_out(command: str, folder: Path, memory: str) -> tuple[float, list[tuple[str, float]]]:
    """CPU seconds of a command in a process of its own; what it said, with the peak until then in MiB."""
    words = [sys.executable, "-m", "onnxtweak", command, str(folder / "net.onnx"), "-d", str(stored(folder))]
    words += ["--pixel-scale", "1/255", "--memory", memory, "--threads", "1", "--anyway", "--force"]
    words += ["-o", str(folder / "new.onnx"), "--format", "json"]
    said: list[tuple[str, float]] = []
    with (folder / f"{command}.json").open("w") as out:
        process = subprocess.Popen(words, stdout=out, stderr=subprocess.PIPE, text=True)
        watch = Watch(process.pid)
        watch.start()
        assert process.stderr is not None
        for line in process.stderr:
            said.append((line.rstrip(), watch.peak() / 2**20))
        said.append(("until the end", watch.peak() / 2**20))
        _, status, usage = os.wait4(process.pid, 0)
        watch.ended.set()
        watch.join()
    if status:
        raise SystemExit("\n".join(line for line, _ in said))
    return usage.ru_utime + usage.ru_stime, said


class Watch(Thread):
    """Looks every 10 ms at how much memory a process and what it started take."""

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self.process, self.ended, self._most = process, Event(), 0

    def run(self) -> None:
        while not self.ended.wait(0.01):
            self._most = max(self._most, sum(map(resident, [self.process, *started_by(self.process)])))

    def peak(self) -> int:
        """The most bytes since this was asked last."""
        found, self._most = self._most, 0
        return found


def resident(process: int) -> int:
    """Bytes of memory; 0 where the process is gone."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


def started_by(process: int) -> Iterator[int]:
    """What a process started, and what that did."""
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{process}/task").iterdir():
            for child in map(int, (thread / "children").read_text().split()):
                yield child
                yield from started_by(child)


def plain(folder: Path, count: int) -> float:
    """CPU seconds of ONNX Runtime alone over the first pictures, one thread, reading and scaling included."""
    session, begin = started(folder / "net.onnx"), time.process_time()
    for x in islice(pictures(folder), count):
        session.run(None, {"x": x[None].astype(np.float32) * np.float32(1 / 255)})
    return time.process_time() - begin


class CpuSeconds:
    """A progress that tells how much time of the processor each pass took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._what, self._began = "", 0.0

    def start(self, what: str, total: int, unit: str = "samples") -> None:
        self._what, self._began = what, time.process_time()

    def advance(self, count: int) -> None: ...

    def finish(self) -> None:
        self.seconds[self._what] = time.process_time() - self._began

    def reuse(self, what: str) -> None: ...

    def remake(self, what: str) -> None: ...


def captured(folder: Path, memory: str) -> tuple[dict[str, float], int]:
    """CPU seconds of each pass up to that which reads all channels at fit's positions; its pictures."""
    data = DataSettings(data=(str(stored(folder)),), preprocess=Preprocess(pixel_scale=1 / 255))
    engine, passes = EngineSettings(memory=quantities.size(memory), threads=1), CpuSeconds()
    job = prepare(str(folder / "net.onnx"), data, engine, TapSettings(), passes)
    gather_table(job, job.splits.fit, all_neurons(job.taps), "collect")
    return passes.seconds, len(job.splits.fit.samples)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("folder", type=Path)
    asked.add_argument("--samples", type=int, default=500)
    asked.add_argument("--size", type=int, default=512)
    asked.add_argument("--memory", default="2GB")
    asked.add_argument("--unequal", action="store_true")
    asked.add_argument("--written", action="store_true")
    asked.add_argument("--command", default="fit")
    given = asked.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if not any(given.folder.iterdir()):
        write(given.folder, given.samples, given.size, unequal=given.unequal, written=given.written)
    seconds, said = carried_out(given.command, given.folder, given.memory)
    for line, peak in said:
        print(f"{peak:6,.0f} MiB  {line}")
    peak = max(peak for _, peak in said)
    print(f"{given.command}: peak {peak:,.0f} MiB, {seconds:,.0f} CPU s", flush=True)
    passes, count = captured(given.folder, given.memory)
    alone, counting = plain(given.folder, count), passes.get("find positions", 0.0)
    print(
        f"capture of {count} pictures: {passes['collect']:.1f} CPU s, plain inference {alone:.1f},"
        f" {passes['collect'] / alone:.2f} times as long; finding positions of all before it {counting:.1f}"
    )
    print(f"peak of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB")


if __name__ == "__main__":
    main()
