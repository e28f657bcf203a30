"""How good are repairs of listed samples? `fit --must --lock` on corrupted digits, and on photographs.

    python -m benchmarks.science.must_lock.repair DATA NETS --json OUT.json [--draws 5] [--cnn MODEL.onnx]

DATA holds mnist.npz (x_train, y_train, x_test, y_test) and, for --cnn, cifar10.npz. NETS gets the two MLPs
of hidden layers of 100 (three and nine, as provable repair is measured on), which are trained where they are
missing (a few minutes on one core). For each net and corruption, in each
draw, whose seed is printed: 100 corrupted test digits that the net has wrong are the must-samples, 6,000
clean training digits the lock-samples. What counts is the written file, read through plain ONNX Runtime: the
must-samples, all 10,000 clean test digits, and the corrupted ones that were not listed. With --cnn: 50 of its
wrong test images as must, 5,000 right ones as lock, read on the right ones that are left.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import onnxtweak
from benchmarks.science.digit_mlp import as_onnx, train
from benchmarks.science.fit.halves import shown
from benchmarks.science.must_lock.corruptions import CORRUPTIONS

# Layers, corruption and severity: the nets are right on 25 to 50 % of what it leaves.
CASES = (
    (3, "fog", 0.75),
    (3, "contrast", 0.4),
    (3, "noise", 0.5),
    (3, "blur", 14),
    (3, "smooth", 3),
    (9, "fog", 0.75),
    (9, "contrast", 0.45),
    (9, "noise", 0.5),
    (9, "blur", 14),
    (9, "smooth", 3),
)
MUST, LOCK = 100, 6000
CIFAR = {
    "layout": "NCHW",
    "pixel_scale": "1/255",
    "mean": [0.4914, 0.4822, 0.4465],
    "std": [0.247, 0.2435, 0.2616],
}


def net_of(layers: int, folder: Path, data: dict[str, np.ndarray]) -> Path:
    """The MLP with so many hidden layers, trained if it is not there."""
    path = folder / f"mlp{layers}.onnx"
    if not path.exists():
        x = data["x_train"].reshape(-1, 784).astype(np.float32) / 255
        onnx.save(as_onnx(train(x, data["y_train"].astype(int), layers, 0)), path)
    return path


def repaired(model: Path, place: Path, lists: dict[str, tuple], **options: Any) -> tuple[Path, Any, float]:
    """The written file, what onnxtweak says of it, and the seconds that it took."""
    for role, (x, y) in lists.items():
        np.savez(place / f"{role}.npz", x=x, y=y)
    begin = time.perf_counter()
    found = onnxtweak.fit(
        model,
        **{role: place / f"{role}.npz" for role in lists},
        output=place / "out.onnx",
        threads=1,
        force=True,
        **options,
    )
    return place / "out.onnx", found, time.perf_counter() - begin


def digits(case: tuple, draw: int, folder: Path, data: dict[str, np.ndarray]) -> dict[str, Any]:
    """One draw of one case."""
    layers, corruption, severity = case
    model, rng = net_of(layers, folder, data), np.random.default_rng(draw)
    clean, labels = data["x_test"].astype(np.float32) / 255, data["y_test"].astype(np.int64)
    spoiled = CORRUPTIONS[corruption](clean, rng, severity).reshape(-1, 784)
    clean = clean.reshape(-1, 784)
    was = shown(model, spoiled) == labels
    must = np.sort(rng.choice(np.flatnonzero(~was), MUST, replace=False))
    lock = np.sort(rng.choice(len(data["x_train"]), LOCK, replace=False))
    locked = data["x_train"][lock].reshape(-1, 784).astype(np.float32) / 255
    others = np.setdiff1d(np.arange(len(labels)), must)
    with tempfile.TemporaryDirectory() as place:
        path, found, seconds = repaired(
            model,
            Path(place),
            {"must": (spoiled[must], labels[must]), "lock": (locked, data["y_train"][lock].astype(np.int64))},
        )
        now, after = shown(path, spoiled) == labels, shown(path, clean) == labels
    before = shown(model, clean) == labels
    assert now[must].sum() == found.listed.must.right  # the file is what is reported
    return {
        "case": f"{layers} layers, {corruption} {severity:g}",
        "draw": draw,
        "right": int(now[must].sum()),
        "lock_broken": found.listed.lock.broken,
        "base_others": float(was[others].mean() * 100),
        "gain_others": float((now[others].mean() - was[others].mean()) * 100),
        "clean": float((after.mean() - before.mean()) * 100),
        "bias_right": found.listed.bias["right"],
        "form": found.listed.form,
        "seconds": seconds,
    }


def photographs(model: Path, draw: int, data: dict[str, np.ndarray]) -> dict[str, Any]:
    """One draw of the CNN."""
    x, labels, rng = data["x_test"], data["y_test"].astype(np.int64), np.random.default_rng(draw)
    mean, std = (np.array(CIFAR[key], np.float32) for key in ("mean", "std"))
    fed = ((x.astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2)
    was = shown(model, fed) == labels
    must = np.sort(rng.choice(np.flatnonzero(~was), 50, replace=False))
    lock = np.sort(rng.choice(np.flatnonzero(was), 5000, replace=False))
    unseen = np.setdiff1d(np.flatnonzero(was), lock)
    with tempfile.TemporaryDirectory() as place:
        lists = {"must": (x[must], labels[must]), "lock": (x[lock], labels[lock])}
        path, found, seconds = repaired(model, Path(place), lists, **CIFAR)
        now = shown(path, fed) == labels
    return {
        "case": model.stem,
        "draw": draw,
        "right": int(now[must].sum()),
        "lock_broken": found.listed.lock.broken,
        "unseen_broken": float((~now[unseen]).mean() * 100),
        "bias_right": found.listed.bias["right"],
        "form": found.listed.form,
        "seconds": seconds,
    }


def main() -> None:
    """Every case and draw; what OUT.json has already is not repeated."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("nets", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--cnn", type=Path)
    asked = parser.parse_args()
    mnist = dict(np.load(asked.data / "mnist.npz"))
    rows = json.loads(asked.json.read_text()) if asked.json.exists() else []
    done = {(row["case"], row["draw"]) for row in rows}

    def keep(row: dict[str, Any]) -> None:
        rows.append(row)
        asked.json.write_text(json.dumps(rows, indent=1))
        print(row, flush=True)

    for draw in range(asked.draws):
        if asked.cnn is not None and (asked.cnn.stem, draw) not in done:
            keep(photographs(asked.cnn, draw, dict(np.load(asked.data / "cifar10.npz"))))
        for case in CASES:
            if (f"{case[0]} layers, {case[1]} {case[2]:g}", draw) not in done:
                keep(digits(case, draw, asked.nets, mnist))


if __name__ == "__main__":
    main()
