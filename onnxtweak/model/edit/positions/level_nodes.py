"""Which nodes are added for the anchors of a detector? A 1x1 convolution for each level.

A neuron is a channel of a map of one level's size: it has a value at the anchors of that level, and 0 at
those of all others.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import onnx_graphsurgeon as gs

from onnxtweak.model.edit.piece_builder import Builder, Piece
from onnxtweak.model.edit.positions.position_nodes import convolved
from onnxtweak.model.edit.positions.read_nodes import PositionSite, read_at_positions, rows_of
from onnxtweak.model.logits_format import Level
from onnxtweak.patch import Linear, Mlp
from onnxtweak.types import Neurons, Tap, level_of


def build_level_reader(
    neurons: Neurons, site: PositionSite, build: Builder, output: str, *, some: bool
) -> Piece:
    """Nodes that write the chosen values (rows, K), in the order of `neurons`, to `output`."""
    parts, order, width = [], np.empty(0, np.int64), len(neurons)
    for number, level, own in _by_level(neurons, site):
        values, places = _read(build, site, neurons, own, number)
        if values is None:
            parts.append(_zeros(build, level, number, width))
            continue
        rows = _anchors(build, level, values, len(own), f"{number}/rows")
        pads = [0, 0, len(order), 0, 0, width - len(order) - len(own)]
        parts.append(_padded(build, rows, pads, f"{number}/pad") if any(pads) else rows)
        order = np.append(order, own[places])
    whole = build.node("levels", "Concat", parts, axis=1)
    if not np.array_equal(order, np.arange(width)):
        index = build.index("order/index", np.argsort(order))
        whole = build.node("order", "Gather", [whole, index], axis=2)
    rows_of(build, whole, some=some)
    return build.finish(output)


def build_level_tap(tap: Tap, site: PositionSite, build: Builder, output: str, *, some: bool) -> Piece:
    """Nodes that write all channels of a map (rows, channels) to `output`."""
    each = np.arange(tap.neurons)
    neurons = Neurons((tap,), np.zeros(tap.neurons, np.int32), each)
    return build_level_reader(neurons, site, build, output, some=some)


def build_level_patch(
    patch: Linear | Mlp, neurons: Neurons, site: PositionSite, build: Builder, output: str
) -> Piece:
    """Nodes that add the patch to the logits of every anchor, and write them to `output`."""
    narrow, bias = build.dtype, patch.b2 if isinstance(patch, Mlp) else patch.bias
    classes = bias.size
    across = site.at.layout.index("C") == 1
    if not len(neurons):
        shape = (1, -1, 1) if across else (1, 1, -1)
        _add(build, build.weights("bias", np.reshape(bias, shape)), site, across=across)
        return build.finish(output)
    if narrow == "float64":  # which runtimes do not convolve
        build.dtype = "float32"
    parts = []
    for number, level, own in _by_level(neurons, site):
        values, places = _read(build, site, neurons, own, number)
        if values is None:  # a convolution of zeros lays out the bias
            first = build.index(f"{number}/first", [0])
            values = build.node(f"{number}/any", "Gather", [build.source(level.map), first], axis=1)
            values = (
                values if site.at.dtype == build.dtype else build.cast(f"{number}/cast", values, build.dtype)
            )
        delta = _delta(build, patch, values, own[places] if len(own) else None, f"{number}/")
        if across and level.anchors == 1:
            shape = build.index(f"{number}/shape", [0, classes, -1])
            parts.append(build.node(f"{number}/delta", "Reshape", [delta, shape]))
            continue
        rows = _anchors(build, level, delta, classes, f"{number}/delta")
        if across:
            rows = build.node(f"{number}/across", "Transpose", [rows], perm=[0, 2, 1])
        parts.append(rows)
    whole = build.node("delta", "Concat", parts, axis=2 if across else 1)
    if build.dtype != narrow:
        build.dtype = narrow
        whole = build.cast("delta/wide", whole, narrow)
    _add(build, whole, site, across=across)
    return build.finish(output)


def _delta(
    build: Builder, patch: Linear | Mlp, values: gs.Tensor, own: np.ndarray | None, name: str
) -> gs.Variable:
    """What the patch adds at the positions of a level, (N, C, H, W).

    own (k,) int64 : which of its neurons the values are of; None: of none. name : what the nodes' begin with.
    """

    def layer(word: str, read: gs.Tensor, weight: np.ndarray, bias: np.ndarray) -> gs.Variable:
        names = f"{name}{word}conv", f"{name}{word}weight", f"{name}{word}bias"
        return convolved(build, names, read, weight, bias, axes=2)

    first, shift = (patch.w1, patch.b1) if isinstance(patch, Mlp) else (patch.weight, patch.bias)
    weight = np.zeros((1, len(shift))) if own is None else np.asarray(first)[own]
    if isinstance(patch, Linear):
        return layer("", values, weight, shift)
    hidden = build.node(f"{name}relu", "Relu", [layer("1/", values, weight, shift)])
    return layer("2/", hidden, np.asarray(patch.w2), patch.b2)


def _add(build: Builder, delta: gs.Tensor, site: PositionSite, *, across: bool) -> None:
    """The scores with what is added to them; columns of boxes that stand before them stay as they are."""
    values, axis = build.source(site.logits), 1 if across else 2
    readout = site.at.readout
    if readout is None or readout.scale == "logit":
        build.node("add", "Add", [values, delta])
        return
    first = readout.columns - len(readout.source)
    if not first:
        build.combine(values, delta, site.at)
        return
    kept = build.node("kept", "Gather", [values, build.index("kept/index", np.arange(first))], axis=axis)
    own = build.node("own", "Gather", [values, build.index("own/index", readout.source)], axis=axis)
    scores = build.combine(own, delta, site.at)
    build.node("whole", "Concat", [kept, scores], axis=axis)


def _by_level(neurons: Neurons, site: PositionSite) -> Iterator[tuple[int, Level, np.ndarray]]:
    """Each level, and which neurons are of its maps, (k,) int64."""
    own = np.array([level_of(tap.pool) for tap in neurons.taps], np.int64)
    of_neuron = own[neurons.tap_of] if len(neurons) else np.empty(0, np.int64)
    for number, level in enumerate(site.at.levels):
        yield number, level, np.flatnonzero(of_neuron == number)


def _read(
    build: Builder, site: PositionSite, neurons: Neurons, own: np.ndarray, number: int
) -> tuple[gs.Variable | None, np.ndarray]:
    """Values (N, k, H, W) of some neurons of a level, None for none; and which each is, (k,) int64."""
    if not len(own):
        return None, np.empty(0, np.int64)
    of = Neurons(neurons.taps, neurons.tap_of[own], neurons.index[own])
    return build.read(of, f"{number}/", partial(read_at_positions, build, site, resize=False))


def _anchors(build: Builder, level: Level, value: gs.Tensor, width: int, name: str) -> gs.Variable:
    """A map (N, width, H, W) as rows of its level's anchors, (N, anchors, width)."""
    last = build.node(f"{name}/last", "Transpose", [value], perm=[0, 2, 3, 1])
    if level.anchors > 1:
        apart, times = (
            ([0, -1, 1, width], [1, 1, level.anchors, 1])
            if level.neighbours
            else (
                [0, 1, -1, width],
                [1, level.anchors, 1, 1],
            )
        )
        one = build.node(f"{name}/one", "Reshape", [last, build.index(f"{name}/apart", apart)])
        last = build.node(f"{name}/each", "Tile", [one, build.index(f"{name}/times", times)])
    return build.node(name, "Reshape", [last, build.index(f"{name}/shape", [0, -1, width])])


def _zeros(build: Builder, level: Level, number: int, width: int) -> gs.Variable:
    """Zeros for the anchors of a level that has no neuron, (N, anchors, width)."""
    first = build.index(f"{number}/first", [0])
    one = build.node(f"{number}/any", "Gather", [build.source(level.map), first], axis=1)
    shape = build.node(f"{number}/size", "Shape", [_anchors(build, level, one, 1, f"{number}/rows")])
    kept = build.node(f"{number}/kept", "Gather", [shape, build.index(f"{number}/two", [0, 1])], axis=0)
    whole = build.node(f"{number}/whole", "Concat", [kept, build.index(f"{number}/width", [width])], axis=0)
    zero = gs.Constant(f"{build.prefix}{number}/zero", np.zeros(1, np.float32))
    return build.node(f"{number}/zeros", "Expand", [zero, whole])


def _padded(build: Builder, rows: gs.Variable, pads: list[int], name: str) -> gs.Variable:
    if build.opset < 11:
        return build.node(name, "Pad", [rows], pads=pads)
    return build.node(name, "Pad", [rows, build.index(f"{name}/pads", pads)])
