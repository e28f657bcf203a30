"""How much memory does a process take whose logits are larger than `--memory`?

    python benchmarks/speed/large_logits.py FOLDER [--rows 200000] [--classes 500] [--neurons 8]
        [--memory 512MB --memory 8GB ...] [--command evaluate --command "fit -t 1" ...]

FOLDER takes a model with one hidden layer and many classes, a coarser copy of it, samples of noise with
labels that the model misses in part (a fifth each for validation and test), the same with several labels,
lists of some samples, and the logits (`TMPDIR`). Each command runs in a process of its own; its peak is what
the system says of it, mapped files included, which the system can take back; beside it the most that is its
own alone (anonymous memory, looked at every 10 ms), and seconds of the processor, user and system. What it
writes has to be the same for every `--memory`. The first row, of a few samples, is what Python, its libraries
and the model take; Numba's, which scoring needs, take 60 MiB more, and 30 where it has to compile.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import onnx
from large_tables import RUN, make
from onnx import helper, numpy_helper

COMMANDS = (
    "evaluate -d few.npz",
    "evaluate",
    "join -t 1",
    "retrain -t 1",
    "augment --iterations 40",
    "fit -t 1",
    "fit --must must.npz --lock lock.npz",
    "fit --slice even=1",
    "fit --metric balanced",
    "fit -d marks.npz",
    "match --reference model.onnx",
    "compare -t 1",
)
# Of what they read: a model of its own.
MODELS = {"match": "coarse.onnx", "fit -d marks.npz": "several.onnx"}
_STEPS = 6  # of the coarser copy's weights, on either side of 0


def coarser(model: Path, copy: Path) -> None:
    """The model with weights of a few values, as quantising makes them."""
    proto = onnx.load(model)
    for stored in proto.graph.initializer:
        w = numpy_helper.to_array(stored)
        step = np.abs(w).max() / _STEPS
        stored.CopyFrom(numpy_helper.from_array(np.round(w / step) * step, stored.name))
    onnx.save(proto, copy)


def asked(command: str, memory: str) -> list[str]:
    """The words of a command line."""
    name, *options = command.split()
    model = MODELS.get(command, MODELS.get(name, "model.onnx"))
    words = [name, model, *options, "--memory", memory, "--threads", "1", "--device", "cpu"]
    words += ["--batch", "64", "-q", *([] if "-d" in options else ["-d", "data.npz"])]
    if name in ("evaluate", "compare"):
        return [*words, "-f", "json"]
    return [*words, "-o", "out.onnx", "--force", *(["--hidden", "0"] if name == "fit" else [])]


def carried_out(words: list[str], folder: Path) -> tuple[str, float]:
    """What a command said, and the most anonymous memory that its process had, in MiB."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    most = [0.0]

    def watch() -> None:
        while process.poll() is None:
            with contextlib.suppress(OSError, StopIteration):
                status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
                own = next(line.split()[1] for line in status if line.startswith("RssAnon"))
                most[0] = max(most[0], int(own) / 1024)
            time.sleep(0.01)

    watching = Thread(target=watch, daemon=True)
    watching.start()
    said = process.stdout.read()
    if process.wait():
        raise SystemExit(f"`{' '.join(words)}` failed")
    watching.join()
    return said, most[0]


def figures(told: str) -> bytes:
    """What a command found, without its times and notes."""

    def lasting(found: Any) -> Any:
        if isinstance(found, dict):
            return {key: lasting(value) for key, value in found.items() if key not in ("seconds", "notes")}
        return list(map(lasting, found)) if isinstance(found, list) else found

    return json.dumps(lasting(json.loads(told))).encode()


def with_several_labels(folder: Path, x: np.ndarray) -> None:
    """The model with a sigmoid behind its scores, and marks of the samples that it misses in part."""
    proto, rng = onnx.load(folder / "model.onnx"), np.random.default_rng(1)
    w1, w2 = map(numpy_helper.to_array, proto.graph.initializer)
    proto.graph.node.append(helper.make_node("Sigmoid", ["logits"], ["p"]))
    proto.graph.output[0].name = "p"
    onnx.save(proto, folder / "several.onnx")
    Z = np.maximum(x @ w1, 0) @ w2
    Z += 0.7 * Z.std() * rng.standard_normal(Z.shape, np.float32)
    Z[:, 1] += x[:, 0] > 0
    np.savez(folder / "marks.npz", x=x, y=(Z > 0).astype(np.int8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--classes", type=int, default=500)
    parser.add_argument("--neurons", type=int, default=8)
    parser.add_argument("--memory", action="append")
    parser.add_argument("--command", action="append")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    make(args.folder, args.rows, args.neurons, args.classes)
    coarser(args.folder / "model.onnx", args.folder / "coarse.onnx")
    x, y = (np.load(args.folder / f"{name}.npy") for name in "xy")
    np.savez(args.folder / "data.npz", x=x, y=y, even=np.arange(len(y)) % 2)
    with_several_labels(args.folder, x)
    lists = {"few": slice(2000), "must": slice(12), "lock": slice(2 * len(y) // 3, None)}
    for name, own in lists.items():
        labels = (y[own] + 1) % args.classes if name == "must" else y[own]
        np.savez(args.folder / f"{name}.npz", x=x[own], y=labels)
    print(
        f"{args.rows:,} samples of {args.classes} classes: logits of {4e-6 * args.rows * args.classes:.0f} MB"
    )
    print(f"{args.neurons} neurons, load {os.getloadavg()[0]:.1f}\n")
    print(
        "| command | `--memory` | peak MiB | its own | s of the processor | of these in the system | result |"
    )
    print("|---|---|--:|--:|--:|--:|---|")
    out = args.folder / "out.onnx"
    out.unlink(missing_ok=True)
    for command in args.command or COMMANDS:
        for memory in args.memory or ("512MB",):
            said, own = carried_out(asked(command, memory), args.folder)
            *told, last = said.splitlines()
            peak, seconds, system = map(float, last.split())
            made = out.read_bytes() if out.exists() else figures("".join(told))
            out.unlink(missing_ok=True)
            sha = hashlib.sha256(made).hexdigest()[:12]
            row = f"| `{command}` | {memory} | {1024 * peak:.0f} | {own:.0f} | {seconds:.0f} | {system:.0f} |"
            print(f"{row} `{sha}` |", flush=True)


if __name__ == "__main__":
    main()
