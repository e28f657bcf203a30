"""Which nodes read hidden values at the positions of scores: maps there, means over all, and where a row is?

Maps of other positions are resized linearly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_graphsurgeon as gs

from onnxtweak.errors import ModelError
from onnxtweak.model.edit.piece_builder import Builder, Piece
from onnxtweak.model.edit.positions.context_nodes import at_all_positions, at_one_position, context_rows
from onnxtweak.model.edit.positions.interpolation import flat_rows, interpolated_rows
from onnxtweak.model.edit.positions.place_nodes import place_rows
from onnxtweak.model.logits_format import LogitsFormat
from onnxtweak.types import AT_POSITIONS, PLACE, Neurons, Tap

ROWS = "onnxtweak/rows"  # the input that says which rows are wanted, counted over all samples of a batch
RESIZES_FROM = 11  # opset


@dataclass(frozen=True)
class PositionSite:
    """Where scores at positions are. logits : the tensor with them. at : how it holds them."""

    logits: str
    at: LogitsFormat

    @property
    def axes(self) -> list[int]:
        """Axes of positions of the logits, ascending."""
        return [axis for axis, letter in enumerate(self.at.layout) if letter == "P"]


def build_position_reader(
    neurons: Neurons, site: PositionSite, build: Builder, output: str, *, some: bool
) -> Piece:
    """Nodes that write the chosen values (rows, K), in the order of `neurons`, to `output`."""
    build.in_order(*build.read(neurons, read_tap=partial(_tap_rows, build, site, some=some)))
    return build.finish(output)


def build_position_tap(tap: Tap, site: PositionSite, build: Builder, output: str, *, some: bool) -> Piece:
    """Nodes that write all channels of a map (rows, channels) to `output`."""
    _tap_rows(build, site, "tap", tap, None, some=some)
    return build.finish(output)


def read_at_positions(
    build: Builder,
    site: PositionSite,
    name: str,
    tap: Tap,
    index: np.ndarray | gs.Constant | None,
    *,
    resize: bool = True,
) -> gs.Variable:
    """Some channels of a map, or all, at the logits' positions: (N, channels, positions) as `build.dtype`."""
    if is_context(tap) and not site.at.levels:
        found = at_one_position(build, f"{name}/map", build.read_tap(name, tap, index), site.axes)
        return everywhere(build, f"{name}/all", found, site)
    value, axis = build.source(tap.name), 1 + tap.channel_axis
    if isinstance(index, np.ndarray) and np.array_equal(index, np.arange(tap.neurons)):
        index = None
    if index is not None:
        chosen = index if isinstance(index, gs.Constant) else build.index(f"{name}/index", index)
        value = build.node(f"{name}/gather", "Gather", [value, chosen], axis=axis)
    if axis != 1:
        rest = [other for other in range(1, 1 + len(tap.shape)) if other != axis]
        value = build.node(f"{name}/first", "Transpose", [value], perm=[0, axis, *rest])
    if (
        len(tap.shape) - 1 > len(site.axes) and not site.at.levels
    ):  # axes of size 1 between those of positions
        value = build.node(
            f"{name}/narrow", "Reshape", [value, build.index(f"{name}/narrow/shape", [0, 0, -1])]
        )
    if tap.dtype != build.dtype:
        value = build.cast(f"{name}/cast", value, build.dtype)
    return resized(build, f"{name}/resize", value, site) if tap.pool == "resized" and resize else value


def resized(build: Builder, name: str, value: gs.Tensor, site: PositionSite) -> gs.Variable:
    """A map (N, channels, positions) at the logits' positions, linearly."""
    if build.opset < RESIZES_FROM:
        raise ModelError(
            f"maps can be resized from opset {RESIZES_FROM} on, and the model uses {build.opset}",
            where=site.logits,
            hint="export the model with a newer opset",
        )
    own = build.node(f"{name}/own", "Shape", [value])
    kept = build.node(f"{name}/kept", "Gather", [own, build.index(f"{name}/two", [0, 1])], axis=0)
    shape = build.node(f"{name}/logits", "Shape", [build.source(site.logits)])
    sizes = build.node(f"{name}/positions", "Gather", [shape, build.index(f"{name}/axes", site.axes)], axis=0)
    wanted = build.node(f"{name}/sizes", "Concat", [kept, sizes], axis=0)
    if build.opset < 13:
        unused: list[gs.Tensor] = [
            build.constant(f"{name}/{what}", np.zeros(0, np.float32)) for what in ("roi", "scales")
        ]
    else:
        unused = [gs.Variable.empty(), gs.Variable.empty()]
    half = build.dtype != "float32"
    value = build.cast(f"{name}/wide", value, "float32") if half else value
    found = build.node(name, "Resize", [value, *unused, wanted], mode="linear")
    return build.cast(f"{name}/narrow", found, build.dtype) if half else found


def _tap_rows(
    build: Builder, site: PositionSite, name: str, tap: Tap, index: np.ndarray | None, *, some: bool
) -> gs.Variable:
    """Some channels of a map, or all, at the logits' positions: (rows, channels).

    Of `some` rows a map of other positions is not resized as a whole, which would take its time and memory:
    each row is put together from its neighbours.
    """
    logits, wanted = build.source(site.logits), build.source(ROWS) if some else None
    if tap.pool == PLACE:
        which = np.arange(tap.neurons) if index is None else index
        return place_rows(build, f"{name}/", which, logits, site.axes, wanted)
    if is_context(tap):
        return context_rows(build, f"{name}/", build.read_tap(name, tap, index), logits, site.axes, wanted)
    between = tap.pool == "resized" and some
    value = read_at_positions(build, site, name, tap, index, resize=not between)
    last = build.node(f"{name}/last", "Transpose", [value], perm=[0, *range(2, 2 + len(site.axes)), 1])
    if wanted is None or not between:
        return rows_of(build, last, some=some, name=f"{name}/")
    return interpolated_rows(build, f"{name}/", last, logits, site.axes, wanted)


def rows_of(
    build: Builder, value: gs.Tensor, *, some: bool, single: bool = False, name: str = ""
) -> gs.Variable:
    """The last axis of a value for every position, or for those that are fed as wanted.

    single : each number is a position's only one. name : what the names of nodes begin with.
    """
    rows = flat_rows(build, name, value, single=single)
    return build.node(f"{name}some", "Gather", [rows, build.source(ROWS)], axis=0) if some else rows


def way_at_positions(sizes: Sequence[int], tap: Tap) -> str | None:
    """How a map is read at positions of these sizes: "aligned" or "resized"; None where it cannot be."""
    own = position_sizes(tap)
    if len(own) > len(sizes) == 1:  # text lines: maps of height 1
        own = tuple(size for size in own if size > 1) or own[:1]
    if len(own) != len(sizes):
        return None
    return "aligned" if own == tuple(sizes) else "resized"


def position_sizes(tap: Tap) -> tuple[int, ...]:
    return tuple(size for axis, size in enumerate(tap.shape) if axis != tap.channel_axis)


def is_context(tap: Tap) -> bool:
    """Whether a neuron of the tap is the same at every position of a sample."""
    return tap.pool not in (*AT_POSITIONS, PLACE)


def everywhere(build: Builder, name: str, value: gs.Tensor, site: PositionSite) -> gs.Variable:
    return at_all_positions(build, name, value, build.source(site.logits), site.axes)
