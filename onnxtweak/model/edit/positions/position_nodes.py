"""Which nodes are added where there are scores at every position? One patch for all, a 1x1 convolution.

Maps of other positions are resized linearly. A linear patch on such maps, or the first layer of an MLP, is
applied before that, which is the same, and needs a channel for each class or hidden unit instead of one for
each neuron. Means over all positions are read once for each sample.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_graphsurgeon as gs

from onnxtweak.model.edit.piece_builder import Builder, Piece
from onnxtweak.model.edit.positions.context_nodes import at_one_position, context_layer
from onnxtweak.model.edit.positions.place_nodes import bias_layer, own_layer
from onnxtweak.model.edit.positions.read_nodes import (
    PositionSite,
    everywhere,
    is_context,
    position_sizes,
    read_at_positions,
    resized,
    rows_of,
)
from onnxtweak.patch import ByPlace, Linear, Mlp, Patch
from onnxtweak.types import Neurons


def build_position_scores(site: PositionSite, build: Builder, output: str, *, some: bool) -> Piece:
    """Nodes that write the scores (rows, C) of all positions, or of `some`, to `output`."""
    layout = site.at.layout
    order = [axis for axis, letter in enumerate(layout) if letter != "C"]
    value: gs.Tensor = gs.Variable(site.logits)
    if site.at.dtype != build.dtype:
        value = build.cast("wide", value, build.dtype)
    if "C" in layout:
        value = build.node("last", "Transpose", [value], perm=[*order, layout.index("C")])
    rows = rows_of(build, value, some=some, single="C" not in layout)
    readout = site.at.readout
    if readout is not None and not readout.rest:
        whole = rows
        if readout.source != tuple(range(readout.columns)):
            rows = build.node("own", "Gather", [rows, build.index("source", readout.source)], axis=1)
        if site.at.objectness:
            before = build.index("objectness/index", [readout.source[0] - 1])
            there = build.node("objectness", "Gather", [whole, before], axis=1)
            rows = build.node("shown", "Mul", [rows, there])
        if readout.scale == "odds":
            build.log_odds(rows)
    elif readout is not None:
        own = build.node("own", "Gather", [rows, build.index("source", readout.source)], axis=1)
        others = np.flatnonzero(readout.places == len(readout.source))
        rest = build.node("others", "Gather", [rows, build.index("rest", others)], axis=1)
        build.node("scores", "Concat", [own, _highest(build, rest)], axis=1)
    return build.finish(output)


def build_position_patch(
    patch: Patch, neurons: Neurons, site: PositionSite, build: Builder, output: str
) -> Piece:
    """Nodes that add the patch to the logits at every position, and write them to `output`."""
    narrow = build.dtype
    if narrow == "float64":  # which runtimes do not convolve
        build.dtype = "float32"
    if isinstance(patch, ByPlace):
        delta = _by_place(build, patch, neurons, site)
    else:
        delta = _delta(build, patch, neurons, site)
    if build.dtype != narrow:
        build.dtype = narrow
        delta = build.cast("delta/wide", delta, narrow)
    _add(build, delta, site)
    return build.finish(output)


def add_slot_at_positions(
    build: Builder,
    site: PositionSite,
    values: gs.Tensor | None,
    weight: gs.Constant | None,
    bias: gs.Constant | None,
) -> None:
    """Nodes that add `values @ weight + bias` to the logits at every position, or what of it there is.

    values (N, k, positions); weight (k, C) and bias (C,) : as they are fed in a call.
    """
    places, rest = range(1, 1 + len(site.axes)), 1 + len(site.axes)
    if values is None or weight is None:
        assert bias is not None  # a slot takes something
        delta: gs.Tensor = _of_columns(build, bias, site, axis=0)
        along = [-1 if letter == "C" else 1 for letter in site.at.layout]
        delta = build.node("shift", "Reshape", [delta, build.index("shape", along)])
        build.node("add", "Add", [build.source(site.logits), delta])
        return
    last = build.node("last", "Transpose", [values], perm=[0, *range(2, rest + 1), 1])
    delta = build.node("product", "MatMul", [last, weight])
    delta = delta if bias is None else build.node("shift", "Add", [delta, bias])
    _add(build, build.node("delta", "Transpose", [delta], perm=[0, rest, *places]), site)


def _add(build: Builder, delta: gs.Tensor, site: PositionSite) -> None:
    """The logits with what is added to them, (N, C, positions)."""
    logits, delta = build.source(site.logits), _of_columns(build, delta, site, axis=1)
    layout = site.at.layout
    order = [0, 1, *range(2, 2 + len(site.axes))]  # samples, classes, positions
    wanted = {"N": [0], "C": [1], "P": order[2:]}
    perm = [wanted[letter].pop(0) for letter in layout if letter != "1"]
    if "C" in layout and perm != sorted(perm):
        delta = build.node("delta/laid_out", "Transpose", [delta], perm=perm)
    if "1" in layout or "C" not in layout:
        delta = build.node("delta/shape", "Reshape", [delta, build.node("shape", "Shape", [logits])])
    build.node("add", "Add", [logits, delta])


def _of_columns(build: Builder, delta: gs.Tensor, site: PositionSite, *, axis: int) -> gs.Tensor:
    """What is added to each column of the logits; to those of the rest, nothing. axis : of the classes."""
    if site.at.readout is None or not site.at.readout.rest:
        return delta
    places = build.index("places", site.at.readout.places)
    return build.node("delta/columns", "Gather", [delta, places], axis=axis)


def _delta(build: Builder, patch: Patch, neurons: Neurons, site: PositionSite) -> gs.Tensor:
    """What the patch adds, (N, C, positions)."""
    same = np.array([is_context(neurons.taps[t]) for t in neurons.tap_of.tolist()])
    local, context = (_some(neurons, np.flatnonzero(which)) for which in (~same, same))
    assert isinstance(patch, Linear | Mlp)  # `build_piece` makes one of every other form
    first, shift = (patch.w1, patch.b1) if isinstance(patch, Mlp) else (patch.weight, patch.bias)
    weight = np.asarray(first)
    parts = _of_maps(build, weight[~same], shift, local, site)
    if len(context):
        names, alone = ("context", "context/weight", "context/bias"), not parts
        found = context_layer(build, names, context, weight[same], shift if alone else None)
        parts.append(at_one_position(build, "context/map", found, site.axes))
    total = parts[0]
    for number, part in enumerate(parts[1:]):
        total = build.node(f"sum{number}", "Add", [total, part])
    if isinstance(patch, Mlp):
        names, hidden = ("conv2", "w2", "b2"), build.node("relu", "Relu", [total])
        total = convolved(build, names, hidden, patch.w2, patch.b2, len(site.axes))
    return total if len(local) else everywhere(build, "context/all", total, site)


def _by_place(build: Builder, patch: ByPlace, neurons: Neurons, site: PositionSite) -> gs.Tensor:
    """The same of a patch with weights of each place's own, which maps of the same positions have."""
    axis, axes = int(neurons.index[-1]), len(site.axes)
    values = _some(neurons, np.arange(len(neurons) - 1))
    total = _delta(build, patch.shared, values, site)
    aligned = np.array([neurons.taps[t].pool == "aligned" for t in values.tap_of.tolist()], bool)
    if aligned.any():
        own, of = np.flatnonzero(aligned), _some(values, np.flatnonzero(aligned))
        read, order = build.read(of, "own/", partial(read_at_positions, build, site))
        added = own_layer(build, read, patch.own[:, own[order]], axis, axes)
        total = build.node("own/beside", "Add", [total, added])
    return bias_layer(build, total, patch.bias, axis, axes)


def _of_maps(
    build: Builder, weight: np.ndarray, bias: np.ndarray, neurons: Neurons, site: PositionSite
) -> list[gs.Variable]:
    """What a layer on neurons of maps puts out, a part for each resolution; their sum is wanted.

    weight (K, o); bias (o,).
    """
    parts = []
    for number, chosen in enumerate(_by_resolution(neurons)):
        of = _some(neurons, chosen)
        other = neurons.taps[of.tap_of[0]].pool == "resized"
        values, order = build.read(of, f"{number}/", partial(read_at_positions, build, site, resize=False))
        names = f"{number}/conv", f"{number}/weight", f"{number}/bias"
        shift = np.zeros_like(bias) if number else bias
        part = convolved(build, names, values, weight[chosen][order], shift, len(site.axes))
        parts.append(resized(build, f"{number}/resize", part, site) if other else part)
    return parts


def _some(neurons: Neurons, chosen: np.ndarray) -> Neurons:
    return Neurons(neurons.taps, neurons.tap_of[chosen], neurons.index[chosen])


def _by_resolution(neurons: Neurons) -> list[np.ndarray]:
    """Which neurons are of maps with the same positions, the logits' own first."""
    sizes = [(tap.pool == "resized", position_sizes(tap)) for tap in neurons.taps]
    known = sorted({sizes[t] for t in neurons.tap_of.tolist()})
    own = np.array([known.index(sizes[t]) for t in neurons.tap_of.tolist()])
    return [np.flatnonzero(own == number) for number in range(len(known))]


def convolved(
    build: Builder,
    names: tuple[str, str, str],
    values: gs.Tensor,
    weight: np.ndarray,
    bias: np.ndarray,
    axes: int,
) -> gs.Variable:
    """A 1x1 convolution. names : of the node and its two arrays. weight (K, C). bias (C,).

    axes : how many there are of positions.
    """
    ones = [1] * axes
    kernel = np.asarray(weight).T.reshape(weight.shape[1], weight.shape[0], *ones)
    inputs = [values, build.weights(names[1], kernel), build.weights(names[2], np.asarray(bias))]
    return build.node(names[0], "Conv", inputs, kernel_shape=ones)


def _highest(build: Builder, value: gs.Tensor) -> gs.Variable:
    """The highest of each row, (rows, 1): axes of a reduction are an input since opset 18."""
    if build.opset < 18:
        return build.node("highest", "ReduceMax", [value], axes=[1], keepdims=1)
    return build.node("highest", "ReduceMax", [value, build.index("highest/axes", [1])], keepdims=1)
