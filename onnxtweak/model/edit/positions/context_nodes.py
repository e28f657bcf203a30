"""Which nodes read the context of a sample, means of maps over all its positions, the same at each?

In a patch a context is pooled, multiplied with its weights, and added to what is added at positions by
broadcasting: one vector for each sample, whatever its size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from onnxtweak.model.edit.piece_builder import Builder, placed
from onnxtweak.model.edit.positions.interpolation import flat_rows
from onnxtweak.types import Neurons


def context_layer(
    build: Builder, names: tuple[str, str, str], neurons: Neurons, weight: np.ndarray, bias: np.ndarray | None
) -> gs.Variable:
    """A product with the context of each sample, (N, outputs).

    names : of the node and its two arrays. weight (K, outputs); bias (outputs,), None where another has it.
    """
    values, column, width = build.read_for(neurons, weight.shape[1])
    inputs = [values, build.weights(names[1], placed(weight, column, width))]
    found = build.node(names[0], "MatMul", inputs)
    if bias is None:
        return found
    return build.node(f"{names[0]}/shifted", "Add", [found, build.weights(names[2], bias)])


def at_one_position(build: Builder, name: str, value: gs.Tensor, axes: Sequence[int]) -> gs.Variable:
    """Values (N, k) of samples as a map (N, k, 1 ...). axes : of positions."""
    shape = build.index(f"{name}/shape", [0, -1, *(1 for _ in axes)])
    return build.node(name, "Reshape", [value, shape])


def at_all_positions(
    build: Builder, name: str, value: gs.Tensor, logits: gs.Tensor, axes: Sequence[int]
) -> gs.Variable:
    """A map (N, k, 1 ...) at each of the logits' positions, (N, k, positions). axes : of the logits."""
    sizes = [build.index(f"{name}/each", [1, 1]), *sizes_of_axes(build, f"{name}/", logits, axes)]
    return build.node(name, "Tile", [value, build.node(f"{name}/times", "Concat", sizes, axis=0)])


def context_rows(
    build: Builder,
    name: str,
    value: gs.Tensor,
    logits: gs.Tensor,
    axes: Sequence[int],
    rows: gs.Tensor | None,
) -> gs.Variable:
    """Values (N, k) of samples at positions of the logits, (r, k).

    axes : of positions of the logits. rows (r,) int64 : counted over samples and these; None: all of them.
    """
    count, *more = sizes_of_axes(build, name, logits, axes)
    for number, size in enumerate(more):
        count = build.node(f"{name}count{number}", "Mul", [count, size])
    if rows is not None:
        return build.node(
            f"{name}rows", "Gather", [value, build.node(f"{name}of", "Div", [rows, count])], axis=0
        )
    one = build.index(f"{name}once", [1])
    times = build.node(f"{name}times", "Concat", [one, count, one], axis=0)
    apart = build.node(f"{name}apart", "Reshape", [value, build.index(f"{name}apart/shape", [0, 1, -1])])
    return flat_rows(build, name, build.node(f"{name}every", "Tile", [apart, times]))


def sizes_of_axes(build: Builder, name: str, logits: gs.Tensor, axes: Sequence[int]) -> list[gs.Variable]:
    """How many positions the logits have on each axis of them, (1,) int64 each."""
    shape = build.node(f"{name}logits", "Shape", [logits])
    return [
        build.node(f"{name}size{axis}", "Gather", [shape, build.index(f"{name}axis{axis}", [axis])], axis=0)
        for axis in axes
    ]
