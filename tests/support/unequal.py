"""Samples of different sizes for models at positions: cut from those of one size, with the labels there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from tests.support.at_positions import model_at_positions
from tests.support.labels_at_positions import labels_at_positions
from tests.support.plain_session import plain_session

KINDS = ("pixels", "tokens", "frames", "marks", "roll")


@dataclass(frozen=True)
class Unequal:
    """A model that takes samples of any size. xs, ys : of each its own. data : both, as an .npz of objects.

    decided : what an output's value (1, ...) of one sample says, in the shape of its labels.
    """

    model: Path
    data: Path
    xs: list[np.ndarray]
    ys: list[np.ndarray]
    decided: Callable[[np.ndarray], np.ndarray]

    def shown(self, path: Path) -> list[np.ndarray]:
        """What a file decides on each sample, run alone outside onnxtweak."""
        session = plain_session(str(path))
        return [self.decided(session.run(["answer"], {"x": x[None]})[0])[0] for x in self.xs]

    def right(self, path: Path) -> float:
        """The share of labels that a file decides rightly."""
        both = zip(self.shown(path), self.ys, strict=True)
        return float(np.concatenate([(one == y).ravel() for one, y in both]).mean())


def unequal(kind: str, folder: Path, samples: int = 120) -> Unequal:
    """One of `KINDS`, saved in a folder with its samples."""
    rng = np.random.default_rng(0)
    if kind in ("marks", "roll"):
        marked = labels_at_positions({"marks": "tokens"}.get(kind, kind), folder, samples=samples)
        model, x, y = marked.model, marked.x, marked.labels
    else:
        made = model_at_positions(kind, folder, samples=samples)
        model, x, y = made.model, made.x, made.labels
        axis = made.class_axis
    _of_any_size(model, x.shape, {"pixels": (2, 3), "roll": (2, 3), "frames": (2,)}.get(kind, (1,)))
    xs, ys = list[np.ndarray](), list[np.ndarray]()
    for one, own in zip(x, y, strict=True):
        if kind in ("pixels", "roll"):  # whose sizes are halved, and come back
            high, wide = rng.choice([4, 6, 8], 2)
            xs.append(one[:, :high, :wide].copy())
            ys.append(own[:high, :wide].copy())
        else:
            length = int(rng.integers(4, 10))
            xs.append((one[:, :length] if kind == "frames" else one[:length]).copy())
            ys.append(own[:length].copy())
    data = folder / "unequal.npz"
    np.savez(data, x=objects(xs), y=objects(ys), site=np.arange(len(xs)) % 3)
    decided = (lambda v: v > 0.5) if kind in ("marks", "roll") else (lambda v: v.argmax(axis))
    return Unequal(model, data, xs, ys, decided)


def objects(rows: list[np.ndarray]) -> np.ndarray:
    """Arrays as the elements of one of objects."""
    found = np.empty(len(rows), object)
    found[:] = rows
    return found


def _of_any_size(model: Path, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    """Declare axes of a model's input as of any size."""
    proto = onnx.load(model)
    for axis in axes:
        assert proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_value == shape[axis]
        proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"size{axis}"
    onnx.save(proto, model)
