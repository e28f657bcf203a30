"""How long do many listed samples take, and how much memory? Up to 10,000 must- and a million lock-samples.

    python -m benchmarks.science.must_lock.scale DATA NETS PLACE [--memory 1GB] [--must N] [--lock N]

DATA holds mnist.npz. NETS gets the MLP of three hidden layers of 100, trained where it is missing. PLACE gets
the samples (800 MB for a million): lock-samples are training digits, each shifted by up to two pixels, stored
as bytes in x.npy beside y.npy; must-samples are digits in fog that the net has wrong, of the training images
too. `fit` runs in a process of its own, on one thread, and what it takes at most is what the system says of
that process. The file is then read through plain ONNX Runtime. Prints one row for benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.science.must_lock.corruptions import CORRUPTIONS
from benchmarks.science.must_lock.repair import net_of, shown

FOG, SHIFT, SEED = 0.75, 2, 0
_AT_ONCE = 50_000


def write_lock(x: np.ndarray, y: np.ndarray, count: int, place: Path) -> None:
    """So many training digits (28, 28) uint8, shifted."""
    rng = np.random.default_rng(SEED)
    chosen = rng.integers(0, len(x), count)
    np.save(place / "y.npy", y[chosen])
    out = np.lib.format.open_memmap(place / "x.npy", "w+", np.uint8, (count, 784))
    for start in range(0, count, _AT_ONCE):
        rows = chosen[start : start + _AT_ONCE]
        padded = np.pad(x[rows], ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)))
        down, right = rng.integers(0, 2 * SHIFT + 1, (2, len(rows)))
        at = np.arange(28)
        moved = padded[
            np.arange(len(rows))[:, None, None],
            (down[:, None] + at)[:, :, None],
            (right[:, None] + at)[:, None, :],
        ]
        out[start : start + len(rows)] = moved.reshape(len(rows), 784)
    out.flush()


def main() -> None:
    """One row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("nets", type=Path)
    parser.add_argument("place", type=Path)
    parser.add_argument("--memory", default="1GB")
    parser.add_argument("--must", type=int, default=10_000)
    parser.add_argument("--lock", type=int, default=1_000_000)
    asked = parser.parse_args()
    with np.load(asked.data / "mnist.npz") as held:
        mnist = {name: held[name] for name in held.files}
    asked.place.mkdir(parents=True, exist_ok=True)
    model, rng = net_of(3, asked.nets, mnist), np.random.default_rng(SEED)
    labels, tested = mnist["y_train"].astype(np.int64), mnist["y_test"].astype(np.int64)
    write_lock(mnist["x_train"], labels, asked.lock, asked.place)
    fog = CORRUPTIONS["fog"](mnist["x_train"].astype(np.float32) / 255, rng, FOG).reshape(-1, 784)
    wrong = np.flatnonzero(shown(model, fog) != labels)
    must = np.sort(rng.choice(wrong, asked.must, replace=False))
    listed = np.rint(fog[must] * 255).astype(np.uint8)
    np.savez(asked.place / "must.npz", x=listed, y=labels[must])
    command = [
        *(sys.executable, "-m", "onnxtweak", "fit", str(model), "--pixel-scale", "1/255", "--threads", "1"),
        *("--must", str(asked.place / "must.npz"), "--lock", str(asked.place / "x.npy")),
        *("--memory", asked.memory, "-o", str(asked.place / "out.onnx"), "--force", "-f", "json"),
    ]
    begin = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    found = json.loads(done.stdout)
    lists = found["listed"]
    clean = mnist["x_test"].reshape(-1, 784).astype(np.float32) / 255
    foggy = CORRUPTIONS["fog"](mnist["x_test"].astype(np.float32) / 255, rng, FOG).reshape(-1, 784)
    out = asked.place / "out.onnx"
    change = [
        (np.mean(shown(out, x) == tested) - np.mean(shown(model, x) == tested)) * 100 for x in (clean, foggy)
    ]
    right = int((shown(out, listed.astype(np.float32) / 255) == labels[must]).sum())
    assert right == lists["must"]["right"]
    print(
        f"| {asked.must:,} | {asked.lock:,} | {asked.memory} | {seconds:.0f} s | {peak:,.0f} MB | {right:,} |"
        f" {lists['lock']['broken']:,} of {lists['lock']['right']:,} | {change[0]:+.2f} | {change[1]:+.1f} |"
    )
    for name, took in sorted(found["seconds"].items(), key=lambda pair: -pair[1])[:8]:
        print(f"    {name}: {took:.1f} s")


if __name__ == "__main__":
    main()
