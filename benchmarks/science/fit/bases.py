"""Nets that fail in different ways, trained for the tables of docs/lab_book.md.

    python benchmarks/science/fit/bases.py DATA OUT [NAME ...]

DATA holds mnist.npz, letter.npz and cifar10.npz with the keys x_train, y_train, x_test, y_test (and classes);
OUT gets NAME.onnx and NAME.npz for each net. The latter's keys `seen` are the samples that the net was
trained on, `held` those that it was not: some of the training set, and the published test set. Without a name
all are made. Needs PyTorch, and a few minutes on one core.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

# Held-out samples beside the published test set, at most.
HELD = 10_000


@dataclass(frozen=True)
class Recipe:
    """data : which set. take : labels (N,) and a generator to the rows that are trained on."""

    data: str
    net: Callable[[np.ndarray, np.ndarray], nn.Module]
    take: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    epochs: int
    batch: int
    rate: float = 1e-3


class Scale(nn.Module):
    """(x - mean) / std, inside the net: what it is fed are raw values."""

    def __init__(self, mean: np.ndarray, std: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("std", torch.from_numpy(std))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean) / self.std


def cnn3(x: np.ndarray, y: np.ndarray) -> nn.Module:
    """The thesis's 3-layer CNN. x (N, channels, size, size)."""
    axes = (0, 2, 3)
    scale = Scale(*(f(axis=axes, keepdims=True)[0] for f in (x.mean, x.std)))
    layers, wide = [scale], x.shape[1]
    for width, pool in ((32, nn.MaxPool2d(2)), (32, nn.AvgPool2d(2)), (64, nn.AvgPool2d(2))):
        layers += [nn.Conv2d(wide, width, 5, padding=2, bias=False), nn.BatchNorm2d(width), nn.ReLU(), pool]
        wide = width
    inputs = 64 * (x.shape[2] // 8) ** 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs, int(y.max()) + 1))


def mlp(hidden: int) -> Callable[[np.ndarray, np.ndarray], nn.Module]:
    """Two hidden layers of so many units."""

    def build(x: np.ndarray, y: np.ndarray) -> nn.Module:
        first, second = nn.Linear(x.shape[1], hidden), nn.Linear(hidden, hidden)
        last = nn.Linear(hidden, int(y.max()) + 1)
        return nn.Sequential(Scale(x.mean(axis=0), x.std(axis=0)), first, nn.ReLU(), second, nn.ReLU(), last)

    return build


def some(count: int) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """`count` samples at random."""
    return lambda labels, rng: rng.permutation(len(labels))[:count]


def longtail(most: int, least: float) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """`most` samples of the first class of a random order, down to the share `least` of that for the last."""

    def take(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        classes = rng.permutation(int(labels.max()) + 1)
        counts = np.round(most * least ** (np.arange(len(classes)) / (len(classes) - 1))).astype(int)
        rows = [
            rng.permutation(np.flatnonzero(labels == c))[:n] for c, n in zip(classes, counts, strict=True)
        ]
        return np.concatenate(rows)

    return take


RECIPES = {
    "mnist_underfit": Recipe("mnist", cnn3, some(2500), epochs=1, batch=100),
    "mnist_overfit": Recipe("mnist", cnn3, some(100), epochs=100, batch=20),
    "mnist_longtail": Recipe("mnist", cnn3, longtail(1000, 0.02), epochs=10, batch=64),
    "letter_underfit": Recipe("letter", mlp(64), some(4000), epochs=2, batch=32),
    "letter_overfit": Recipe("letter", mlp(256), some(1000), epochs=150, batch=32),
    "letter_longtail": Recipe("letter", mlp(64), longtail(250, 0.04), epochs=12, batch=32),
    "cifar10_underfit": Recipe("cifar10", cnn3, some(8000), epochs=4, batch=64),
    "cifar10_overfit": Recipe("cifar10", cnn3, some(1500), epochs=20, batch=32),
}


def samples(path: Path) -> dict[str, np.ndarray]:
    """x float32 (images channels first) and y int64, of the training and the test set."""
    with np.load(path, allow_pickle=False) as file:
        found = {key: file[key] for key in file.files}
    for part in ("train", "test"):
        x = found[f"x_{part}"].astype(np.float32)
        if x.ndim == 3:
            x = x[:, None]
        found[f"x_{part}"] = x.transpose(0, 3, 1, 2) if x.ndim == 4 and x.shape[3] == 3 else x
        found[f"y_{part}"] = found[f"y_{part}"].ravel().astype(np.int64)
    return found


def trained(recipe: Recipe, x: np.ndarray, y: np.ndarray) -> nn.Module:
    """The net after its epochs of Adam."""
    torch.manual_seed(0)
    net = recipe.net(x, y)
    inputs, labels = torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(y)
    adam = torch.optim.Adam(net.parameters(), lr=recipe.rate)
    for _ in range(recipe.epochs):
        for rows in torch.randperm(len(y)).split(recipe.batch):
            adam.zero_grad()
            nn.functional.cross_entropy(net(inputs[rows]), labels[rows]).backward()
            adam.step()
    return net.eval()


def right(net: nn.Module, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        parts = [net(part).argmax(dim=1) for part in torch.from_numpy(np.ascontiguousarray(x)).split(500)]
    return torch.cat(parts).numpy() == y


def make(name: str, data: Path, out: Path) -> str:
    """Train one net, write it and its samples; a line that tells how it does."""
    began, recipe, rng = time.perf_counter(), RECIPES[name], np.random.default_rng(0)
    found = samples(data / f"{recipe.data}.npz")
    x, y = found["x_train"], found["y_train"]
    seen = np.sort(recipe.take(y, rng))
    rest = np.setdiff1d(np.arange(len(y)), seen)
    rest = np.sort(rng.permutation(rest)[:HELD])
    net = trained(recipe, x[seen], y[seen])
    torch.onnx.export(
        net,
        (torch.from_numpy(np.ascontiguousarray(x[:2])),),
        str(out / f"{name}.onnx"),
        opset_version=17,
        dynamo=False,
        input_names=["input"],
        output_names=["logits"],
        dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
    )
    held = np.concatenate([x[rest], found["x_test"]]), np.concatenate([y[rest], found["y_test"]])
    names = {"classes": found["classes"]} if "classes" in found else {}
    arrays = {"x_seen": x[seen], "y_seen": y[seen], "x_held": held[0], "y_held": held[1]}
    np.savez_compressed(out / f"{name}.npz", **arrays, **names)
    own, other = right(net, x[seen], y[seen]), right(net, *held)
    each = " ".join(f"{other[held[1] == c].mean():.2f}" for c in range(int(y.max()) + 1))
    return (
        f"{name}: {len(seen):,} samples, {recipe.epochs} epochs, {own.mean():.1%} of them right; "
        f"{other.mean():.1%} of {len(other):,} held out, by class {each}; "
        f"{time.perf_counter() - began:.0f} s"
    )


def main() -> None:
    if len(sys.argv) < 3 or set(sys.argv[3:]) - set(RECIPES):
        sys.exit(f"{__doc__}\nNAME is one of {', '.join(RECIPES)}")
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[3:] or RECIPES:
        line = make(name, data, out)
        (out / f"{name}.txt").write_text(line + "\n", encoding="utf-8")
        print(line, flush=True)


if __name__ == "__main__":
    main()
