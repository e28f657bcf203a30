"""Which nodes read a map between its positions, at wanted rows, as resizing all of it would show them?

Linear, with half pixels, as ONNX's Resize has it: a row lies between two positions on each axis.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnxtweak.model.edit.piece_builder import ELEMENT_TYPES, Builder


def flat_rows(build: Builder, name: str, value: gs.Tensor, *, single: bool = False) -> gs.Variable:
    """A value (N, positions ..., k) as (N * positions, k). single : it is (N, positions ...), and k is 1.

    name : what the names of nodes begin with, here and below.
    """
    shape: gs.Tensor = build.index(f"{name}one", [-1, 1])
    if not single:
        size = build.node(f"{name}size", "Shape", [value])
        width = build.node(f"{name}width", "Gather", [size, build.index(f"{name}width/axis", [-1])], axis=0)
        shape = build.node(f"{name}rows/shape", "Concat", [build.index(f"{name}all", [-1]), width], axis=0)
    return build.node(f"{name}rows", "Reshape", [value, shape])


def interpolated_rows(
    build: Builder, name: str, value: gs.Tensor, logits: gs.Tensor, axes: list[int], rows: gs.Tensor
) -> gs.Variable:
    """Rows (r, k) of a map (N, positions ..., k) at the logits' positions.

    axes : of positions of the logits, one or two. rows (r,) int64 : counted over samples and these positions.
    """

    def whole(word: str, number: int) -> gs.Constant:
        return build.index(f"{name}{word}", number)

    def size(word: str, of: gs.Tensor, axis: int) -> gs.Variable:
        shape = build.node(f"{name}{word}/of", "Shape", [of])
        return build.node(f"{name}{word}", "Gather", [shape, whole(f"{word}/axis", axis)], axis=0)

    sides: list[list[tuple[gs.Variable, gs.Variable]]] = []
    left, sizes = rows, list[gs.Tensor]()
    for place in reversed(range(len(axes))):
        at = f"{name}{place}/"
        wide, own = size(f"{place}/wide", logits, axes[place]), size(f"{place}/own", value, 1 + place)
        here = build.node(f"{at}here", "Mod", [left, wide])
        left = build.node(f"{at}left", "Div", [left, wide])
        sides.insert(0, _neighbours(build, at, here, wide, own))
        sizes.insert(0, own)
    flat, total = flat_rows(build, name, value), None
    for number, corner in enumerate(product(*sides)):
        at, index, share = f"{name}corner{number}/", left, None
        for place, ((position, weight), own) in enumerate(zip(corner, sizes, strict=True)):
            index = build.node(f"{at}{place}/times", "Mul", [index, own])
            index = build.node(f"{at}{place}/index", "Add", [index, position])
            if share is not None:
                weight = build.node(f"{at}{place}/share", "Mul", [share, weight])
            share = weight
        column = build.node(f"{at}column", "Reshape", [share, build.index(f"{at}shape", [-1, 1])])
        read = build.node(f"{at}read", "Gather", [flat, index], axis=0)
        part = build.node(f"{at}part", "Mul", [read, column])
        total = part if total is None else build.node(f"{at}sum", "Add", [total, part])
    assert total is not None  # there is a corner
    return total


def _neighbours(
    build: Builder, at: str, here: gs.Tensor, wide: gs.Tensor, own: gs.Tensor
) -> list[tuple[gs.Variable, gs.Variable]]:
    """The two positions (r,) of a map that a row lies between on one axis, and how much each counts (r,).

    here (r,) : position among `wide` of the logits. own : how many the map has.
    """

    def number(word: str, value: float) -> gs.Constant:
        return gs.Constant(f"{build.prefix}{at}{word}", np.array(value, np.float32))

    def real(word: str, value: gs.Tensor) -> gs.Variable:
        return build.node(f"{at}{word}", "Cast", [value], to=int(ELEMENT_TYPES["float32"]))

    whole = build.node(f"{at}last", "Sub", [own, build.index(f"{at}first", 1)])
    step = build.node(f"{at}step", "Div", [real("own/real", own), real("wide/real", wide)])
    middle = build.node(f"{at}middle", "Add", [real("here/real", here), number("half", 0.5)])
    place = build.node(f"{at}scaled", "Mul", [middle, step])
    place = build.node(f"{at}shifted", "Sub", [place, number("half/too", 0.5)])
    place = build.node(f"{at}least", "Max", [place, number("nought", 0.0)])
    place = build.node(f"{at}most", "Min", [place, real("last/real", whole)])
    floor = build.node(f"{at}floor", "Floor", [place])
    low = build.node(f"{at}low", "Cast", [floor], to=int(onnx.TensorProto.INT64))
    after = build.node(f"{at}after", "Add", [low, build.index(f"{at}next", 1)])
    # Integers have no Min before opset 12.
    high = build.node(f"{at}beyond", "Less", [after, own])
    high = build.node(f"{at}high", "Where", [high, after, low])
    up = build.node(f"{at}up", "Sub", [place, floor])
    down = build.node(f"{at}down", "Sub", [number("one", 1.0), up])
    return [(low, down), (high, up)]
