"""How much memory does a process take whose logits are larger than `--memory`?

    python benchmarks/speed/large_logits.py FOLDER [--rows 200000] [--classes 500] [--neurons 8]
        [--memory 512MB --memory 8GB ...] [--command evaluate --command "fit -t 1" ...]

FOLDER takes a model with one hidden layer and many classes, a coarser copy of it, samples of noise with
labels that the model misses in part (a fifth each for validation and test), and the logits (`TMPDIR`). Each
command runs in a process of its own; its peak is what the system says of it, mapped files included, and its
seconds are the processor's, user and system. What it writes has to be the same for every `--memory`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from large_tables import RUN, make
from onnx import numpy_helper

COMMANDS = (
    "evaluate",
    "fit -t 1",
    "fit --metric balanced",
    "fit --slice even=1",
    "match --reference model.onnx",
)
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
    model = "coarse.onnx" if name == "match" else "model.onnx"
    words = [name, model, "-d", "data.npz", *options, "--memory", memory, "--threads", "1", "--device", "cpu"]
    words += ["--batch", "64", "-q"]
    if name == "evaluate":
        return [*words, "-f", "json"]
    return [*words, "-o", "out.onnx", "--force", *(["--hidden", "0"] if name == "fit" else [])]


def figures(told: str) -> bytes:
    """What `evaluate` found, without its times."""
    return json.dumps({**json.loads(told), "seconds": None}).encode()


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
    print(
        f"{args.rows:,} samples of {args.classes} classes: logits of {4e-6 * args.rows * args.classes:.0f} MB"
    )
    print(f"{args.neurons} neurons, load {os.getloadavg()[0]:.1f}\n")
    print("| command | `--memory` | peak MiB | s of the processor | of these in the system | result |")
    print("|---|---|--:|--:|--:|---|")
    for command in args.command or COMMANDS:
        for memory in args.memory or ("512MB",):
            done = subprocess.run(
                [sys.executable, "-c", RUN, *asked(command, memory)],
                cwd=args.folder,
                env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(args.folder)},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            *told, last = done.stdout.splitlines()
            peak, seconds, system = map(float, last.split())
            out = args.folder / "out.onnx"
            made = figures("".join(told)) if command == "evaluate" else out.read_bytes()
            sha = hashlib.sha256(made).hexdigest()[:12]
            row = f"| `{command}` | {memory} | {1024 * peak:.0f} | {seconds:.0f} | {system:.0f} | `{sha}` |"
            print(row, flush=True)


if __name__ == "__main__":
    main()
