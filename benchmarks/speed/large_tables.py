"""What does `fit` cost where its table is larger than `--memory`, against one that memory holds?

    python benchmarks/speed/large_tables.py FOLDER [--rows 125000] [--neurons 1000] [--classes 4]
        [--memory 8GB --memory 500MB ...] [--hidden 96]

FOLDER takes a model with one hidden layer of so many neurons, samples of noise with labels that the model
misses in part (a fifth each for validation and test), and the tables (`TMPDIR`). For each `--memory` a
process runs `onnxtweak fit`; its peak is what the system says of it, mapped files included, and its seconds
are the processor's, user and system. The files that are written have to be the same.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

INPUTS, AT_ONCE = 16, 8192
RUN = """
import resource, sys
from onnxtweak.cli.main import main
assert main(sys.argv[1:]) == 0
used = resource.getrusage(resource.RUSAGE_SELF)
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak) / 2**20, used.ru_utime + used.ru_stime, used.ru_stime)
"""


def make(folder: Path, rows: int, neurons: int, classes: int) -> None:
    """The model and its samples."""
    rng = np.random.default_rng(0)
    w1 = rng.standard_normal((INPUTS, neurons), np.float32)
    w2 = rng.standard_normal((neurons, classes), np.float32) / np.float32(np.sqrt(neurons))
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "w2"], ["logits"]),
    ]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size])
        for name, size in (("x", INPUTS), ("logits", classes))
    ]
    stored = [numpy_helper.from_array(w, name) for w, name in ((w1, "w1"), (w2, "w2"))]
    graph = helper.make_graph(nodes, "wide", ports[:1], ports[1:], stored)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "model.onnx")
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (rows, INPUTS))
    y = np.empty(rows, np.uint8 if classes <= 256 else np.int16)
    for start in range(0, rows, AT_ONCE):
        part = slice(start, min(start + AT_ONCE, rows))
        x[part] = rng.standard_normal((part.stop - part.start, INPUTS), np.float32)
        Z = np.maximum(x[part] @ w1, 0) @ w2
        Z[:, 1] += 0.7 * Z.std() * (x[part, 0] > 0)
        Z += 0.3 * Z.std() * rng.standard_normal(Z.shape, np.float32)
        y[part] = Z.argmax(axis=1)
    x.flush()
    np.save(folder / "y.npy", y)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=125_000)
    parser.add_argument("--neurons", type=int, default=1000)
    parser.add_argument("--classes", type=int, default=4)
    parser.add_argument("--memory", action="append")
    parser.add_argument("--hidden", type=int, default=96)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    make(args.folder, args.rows, args.neurons, args.classes)
    held = 0.8 * args.rows * args.neurons * 4
    print(f"{args.rows:,} samples, of 80 % of them a table of {held / 1e9:.2f} GB, {args.neurons:,} neurons,")
    print(f"{args.classes} classes, {args.hidden} hidden units, load {os.getloadavg()[0]:.1f}\n")
    print("| `--memory` | peak GiB | s of the processor | of these in the system | file |")
    print("|---|--:|--:|--:|---|")
    for memory in args.memory or ("8GB", "500MB"):
        words = f"fit model.onnx -d x.npy -t 1 -o out.onnx --memory {memory} --hidden {args.hidden} -q"
        words += " --force --batch 64 --threads 1 --device cpu"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(args.folder)}
        done = subprocess.run(
            [sys.executable, "-c", RUN, *words.split()],
            cwd=args.folder,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        peak, seconds, system = map(float, done.stdout.split()[-3:])
        sha = hashlib.sha256((args.folder / "out.onnx").read_bytes()).hexdigest()[:12]
        print(f"| {memory} | {peak:.2f} | {seconds:.0f} | {system:.0f} | {sha} |", flush=True)


if __name__ == "__main__":
    main()
