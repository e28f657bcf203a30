"""How is a piece of graph built that is added to a model?

With onnx-graphsurgeon, as a graph of its own, from which nodes and initializers are taken. Only operators are
used whose meaning has not changed since opset 7: axes are never given to a reduction, because they moved from
an attribute to an input.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import ArrayLike

from onnxtweak.errors import ModelError
from onnxtweak.head import SMALLEST
from onnxtweak.model.logits_format import LogitsFormat
from onnxtweak.types import Neurons, Tap

ELEMENT_TYPES = {
    "float32": onnx.TensorProto.FLOAT,
    "float16": onnx.TensorProto.FLOAT16,
    "bfloat16": onnx.TensorProto.BFLOAT16,
    "float64": onnx.TensorProto.DOUBLE,
}
INITIALIZERS_ARE_INPUTS_BEFORE = 4  # IR version
# By which a probability is raised at most, as a logarithm: float32 holds its exponential, and the inverse.
_LARGEST_LOG_FACTOR = 75.0
# Numbers up to which a product is as fast as the Gather that it takes the place of.
_LARGEST_PRODUCT = 1 << 16


@dataclass(frozen=True)
class Piece:
    """Nodes in execution order, and the initializers they need.

    inputs : declarations of those initializers that callers may feed.
    """

    nodes: tuple[onnx.NodeProto, ...]
    initializers: tuple[onnx.TensorProto, ...]
    inputs: tuple[onnx.ValueInfoProto, ...] = ()

    def declarations(self) -> tuple[onnx.ValueInfoProto, ...]:
        """The initializers as graph inputs, which they must also be before IR version 4."""
        return tuple(
            onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            for tensor in self.initializers
        )


class Builder:
    """A graph under construction. dtype : in which values and weights are computed."""

    def __init__(self, prefix: str, opset: int, dtype: str) -> None:
        self.prefix = prefix
        self.opset = opset
        self.dtype = dtype
        self.graph = gs.Graph(opset=opset)
        self.sources: dict[str, gs.Variable] = {}
        self.named: dict[str, object] = {}

    def name(self, name: str, content: object = None) -> str:
        """The name with the prefix; with a number behind where it is another's already.

        content : of an array, which may stand in several places under one name; None: of a node.
        """
        own, number = object() if content is None else content, 1
        whole = self.prefix + name
        while self.named.setdefault(whole, own) != own:
            number += 1
            whole = f"{self.prefix}{name}_{number}"
        return whole

    def constant(self, name: str, values: np.ndarray) -> gs.Constant:
        digest = hashlib.blake2b(values.tobytes(), digest_size=16).digest()
        return gs.Constant(self.name(name, (values.dtype.str, values.shape, digest)), values)

    def node(self, name: str, op: str, inputs: Sequence[gs.Tensor], **attributes: object) -> gs.Variable:
        """Append a node; its only output has the node's name."""
        output = gs.Variable(self.name(name))
        self.graph.nodes.append(gs.Node(op, output.name, attributes, list(inputs), [output]))
        return output

    def index(self, name: str, values: ArrayLike) -> gs.Constant:
        return self.constant(name, np.ascontiguousarray(values, dtype=np.int64))

    @property
    def numpy_dtype(self) -> np.dtype:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(ELEMENT_TYPES[self.dtype]))

    def weights(self, name: str, values: np.ndarray) -> gs.Constant:
        with np.errstate(over="ignore"):
            cast = np.ascontiguousarray(values).astype(self.numpy_dtype)
        if not np.isfinite(cast).all():
            raise ModelError(
                f"a weight of the tweak does not fit into {self.dtype}, the type of the model's logits",
                where=self.prefix + name,
                hint="use a smaller --scale",
            )
        return self.constant(name, cast)

    def source(self, name: str) -> gs.Variable:
        """A tensor of the base: one variable, no matter how many taps read it."""
        return self.sources.setdefault(name, gs.Variable(name))

    def read(
        self,
        neurons: Neurons,
        prefix: str = "",
        read_tap: Callable[[str, Tap, np.ndarray], gs.Variable] | None = None,
    ) -> tuple[gs.Variable, np.ndarray]:
        """The chosen values (N, K), grouped by tap, and `order` (K,) int64: column k is neuron `order[k]`.

        prefix : of the nodes' names. read_tap : in place of the method; its values may be maps (N, k, ...).
        """
        parts = [
            (read_tap or self.read_tap)(f"{prefix}tap{at}", tap, neurons.index[own])
            for at, (tap, own) in enumerate(_by_tap(neurons))
        ]
        return self.joined(f"{prefix}values", parts), np.argsort(neurons.tap_of, kind="stable")

    def read_for(self, neurons: Neurons, outputs: int) -> tuple[gs.Variable, np.ndarray, int]:
        """Values (N, W) for a product with weights (W, outputs), the column (K,) of each neuron, and W.

        A row of values, pooled or not, is not gathered, because pnnx takes such a Gather for a crop: the
        product reads all of it, what is unused with a weight of zero, or a product with zeros and ones picks
        some first, whichever needs fewer numbers. Only where that would be a large matrix there is a Gather,
        and for positions of a map, of which most would be moved for nothing. What is pooled and read whole is
        put side by side before it is flattened: a node for all taps instead of one, or two, for each.
        """
        parts, columns, width = [], np.zeros(len(neurons), np.int64), 0
        maps: dict[tuple[int, ...], list[tuple[str, Tap, np.ndarray]]] = {}

        def add(value: gs.Variable, own: np.ndarray, chosen: np.ndarray, count: int) -> None:
            nonlocal width
            parts.append(value)
            columns[own] = width + chosen
            width += count

        for at, (tap, own) in enumerate(_by_tap(neurons)):
            name, index, count = f"tap{at}", neurons.index[own], len(own)
            # What overflows in half precision, and is not used, must not meet a weight of zero.
            a_row = tap.dtype == "float32" and (len(tap.shape) == 1 or _pooled_whole(tap))
            if not a_row or tap.neurons * min(outputs, count) > _LARGEST_PRODUCT:
                add(self.read_tap(name, tap, index), own, np.arange(count), count)
            elif outputs > count and tap.neurons > 2 * count:
                pick = np.zeros((tap.neurons, count))
                pick[index, np.arange(count)] = 1.0
                picked = self.weights(f"{name}/picked", pick)
                value = self.node(f"{name}/pick", "MatMul", [self.read_tap(name, tap, None), picked])
                add(value, own, np.arange(count), count)
            elif _pooled_whole(tap):
                maps.setdefault(tap.pooled_shape, []).append((name, tap, own))
            else:
                add(self.read_tap(name, tap, None), own, index, tap.neurons)
        for group in maps.values():
            name = group[0][0] if len(group) == 1 else "pooled"
            value = self.joined(name, [self.pool(each, tap, self.source(tap.name)) for each, tap, _ in group])
            value = self.node(f"{name}/flatten", "Flatten", [value], axis=1)
            if self.dtype != "float32":
                value = self.cast(f"{name}/cast", value, self.dtype)
            parts.append(value)
            for _, tap, own in group:
                columns[own] = width + neurons.index[own]
                width += tap.neurons
        return self.joined("values", parts), columns, width

    def joined(self, name: str, parts: Sequence[gs.Variable]) -> gs.Variable:
        """Columns or channels of several values, side by side."""
        return parts[0] if len(parts) == 1 else self.node(name, "Concat", parts, axis=1)

    def in_order(self, values: gs.Variable, order: np.ndarray) -> gs.Variable:
        """Values of `read` in the order of the neurons."""
        if np.array_equal(order, np.arange(len(order))):
            return values
        chosen = self.index("order/index", np.argsort(order))
        return self.node("order", "Gather", [values, chosen], axis=1)

    def number(self, name: str, value: float) -> gs.Constant:
        """One number that broadcasts against anything."""
        return self.weights(name, np.array([value]))

    def combine(self, logits: gs.Variable, delta: gs.Tensor, at: LogitsFormat, rows: int = 0) -> gs.Variable:
        """Logits of any layout with `delta` (N, C) added; to the logarithm of what holds probabilities.

        rows : N where it is fixed; 0: that of `delta`. At anchors `delta` is laid out as the logits are.
        """
        if at.scale == "logit":
            return self.node("add", "Add", [logits, self.laid_out(delta, at.layout, rows)])
        values: gs.Tensor = logits
        half = self.dtype in ("float16", "bfloat16")
        if half:  # whose largest numbers the factors would exceed
            values, delta = self.cast("wide", values, "float32"), self.cast("wide/delta", delta, "float32")
            self.dtype = "float32"
        if at.layout != "NC" and at.scale == "probability":
            values = self.node("flat", "Flatten", [values], axis=1)
        elif at.scale == "odds" and not at.levels:
            delta = self.laid_out(delta, at.layout, rows)
        factor = self.node("factor", "Exp", [self.clip("bounded", delta, _LARGEST_LOG_FACTOR)])
        # f of METHOD 0 adds SMALLEST: what is exactly 0 can be raised, and a factor of one keeps every bit.
        one = self.number("one", 1.0)
        more = self.node("more", "Sub", [factor, one])
        raised = self.node("raised", "Add", [self.node("scaled", "Mul", [values, factor]), self.least(more)])
        if at.scale == "probability":
            # Rows keep their sums, and a factor of one leaves every bit as it was.
            ones = self.weights("ones", np.ones((at.columns(0), 1)))
            sums = [self.node(f"{n}/sum", "MatMul", [v, ones]) for n, v in (("old", values), ("new", raised))]
            new = self.node("kept", "Mul", [raised, self.node("ratio", "Div", sums)])
            if at.layout != "NC":
                new = self.laid_out(new, at.layout)
        else:
            less = self.least(self.node("less", "Neg", [more]))
            rest = self.node("rest", "Sub", [one, values])
            rest = self.node("rest/raised", "Add", [rest, less])
            new = self.node("odds", "Div", [raised, self.node("both", "Add", [raised, rest])])
        return self.cast("narrow", new, at.dtype) if half else new

    def log_odds(self, values: gs.Tensor) -> gs.Variable:
        """log(p / (1 - p)) of each value, as f of METHOD 0 has it."""
        least, one = self.number("least", SMALLEST), self.number("one", 1.0)
        log = self.node("log", "Log", [self.node("above", "Add", [values, least])])
        rest = self.node("rest", "Sub", [one, values])
        rest = self.node("rest/log", "Log", [self.node("rest/above", "Add", [rest, least])])
        return self.node("odds", "Sub", [log, rest])

    def least(self, value: gs.Variable) -> gs.Variable:
        """SMALLEST times what is positive of a value."""
        name = value.name.removeprefix(self.prefix)
        positive = self.node(f"{name}/positive", "Relu", [value])
        return self.node(f"{name}/least", "Mul", [positive, self.number(f"{name}/smallest", SMALLEST)])

    def laid_out(self, delta: gs.Tensor, layout: str, rows: int = 0) -> gs.Tensor:
        """(N, C) in the logits' layout. rows : as for `combine`."""
        if layout in ("NC", "N1"):
            return delta
        axes = [-1 if axis == "C" else 1 for axis in layout[1:]]
        return self.node("reshape", "Reshape", [delta, self.index("shape", [rows, *axes] if axes else [-1])])

    def clip(self, name: str, value: gs.Tensor, bound: float) -> gs.Variable:
        """The value between -bound and bound."""
        if self.opset < 11:
            return self.node(name, "Clip", [value], min=-bound, max=bound)
        low, high = (
            self.constant(f"{name}/{side}", np.array(number, self.numpy_dtype))
            for side, number in (("low", -bound), ("high", bound))
        )
        return self.node(name, "Clip", [value, low, high])

    def read_tap(self, name: str, tap: Tap, index: np.ndarray | gs.Constant | None) -> gs.Variable:
        """The neurons `index` of one tap, or all neurons of a pooled one, (N, neurons) as `self.dtype`."""
        value, dtype = self.source(tap.name), tap.dtype
        pooled, whole = _pools(tap), _pooled_whole(tap)
        axis = 1 + tap.channel_axis if pooled else 1
        if whole:
            value, dtype, axis = self.pooled_row(name, tap, value), "float32", 1
        elif not pooled and len(tap.shape) != 1:
            # As it is: transposed to channels last, which is nearer to how runtimes keep maps, it costs more.
            value = self.node(f"{name}/flatten", "Flatten", [value], axis=1)
        if index is not None:
            chosen = index if isinstance(index, gs.Constant) else self.index(f"{name}/index", index)
            value = self.node(f"{name}/gather", "Gather", [value, chosen], axis=axis)
        if pooled and not whole:
            value, dtype = self.pooled_row(name, tap, value), "float32"
        return value if dtype == self.dtype else self.cast(f"{name}/cast", value, self.dtype)

    def pooled_row(self, name: str, tap: Tap, value: gs.Tensor) -> gs.Variable:
        """What `pool` makes of some channels of a tap, (N, channels * cells)."""
        return self.node(f"{name}/flatten", "Flatten", [self.pool(name, tap, value)], axis=1)

    def pool(self, name: str, tap: Tap, value: gs.Tensor) -> gs.Variable:
        """All positions of some channels of a tap, pooled, as float32 (N, channels, *cells of each axis)."""
        if tap.dtype != "float32":  # runtimes pool float32 only
            value = self.cast(f"{name}/float32", value, "float32")
        if tap.channel_axis:
            axis = 1 + tap.channel_axis
            rest = [other for other in range(1, 1 + len(tap.shape)) if other != axis]
            value = self.node(f"{name}/transpose", "Transpose", [value], perm=[0, axis, *rest])
        if tap.pool == "std":
            # The mean of squares less the square of the mean would lose all digits of a small deviation.
            mean = self.node(f"{name}/mean", "GlobalAveragePool", [value])
            apart = self.node(f"{name}/apart", "Sub", [value, mean])
            squares = self.node(f"{name}/squares", "Mul", [apart, apart])
            variance = self.node(f"{name}/pool", "GlobalAveragePool", [squares])
            value = self.node(f"{name}/std", "Sqrt", [variance])
        elif tap.pool == "max":
            value = self.node(f"{name}/pool", "GlobalMaxPool", [value])
        elif tap.cells == 1:
            value = self.node(f"{name}/pool", "GlobalAveragePool", [value])
        else:
            kernel = [parts[0].stop for parts in tap.halves]
            steps = [max(parts[-1].start, 1) for parts in tap.halves]
            value = self.node(f"{name}/pool", "AveragePool", [value], kernel_shape=kernel, strides=steps)
        return value

    def cast(self, name: str, value: gs.Tensor, dtype: str) -> gs.Variable:
        """The value as `dtype`."""
        return self.node(name, "Cast", [value], to=int(ELEMENT_TYPES[dtype]))

    def finish(self, output: str) -> Piece:
        """The piece; its last node writes `output`."""
        self.graph.nodes[-1].outputs[0].name = output
        exported = gs.export_onnx(self.graph, do_type_check=False).graph
        return Piece(tuple(exported.node), tuple(exported.initializer))


def placed(weight: np.ndarray, column: np.ndarray, width: int) -> np.ndarray:
    """Weights (K, outputs) of neurons as those of the columns of `Builder.read_for`, (width, outputs)."""
    found = np.zeros((width, weight.shape[1]), weight.dtype)
    np.add.at(found, column, weight)
    return found


def _by_tap(neurons: Neurons) -> list[tuple[Tap, np.ndarray]]:
    """The taps that are used, each with the positions of its neurons among all, int64."""
    tap_of = np.asarray(neurons.tap_of)
    return [
        (tap, own)
        for number, tap in enumerate(neurons.taps)
        if (own := np.flatnonzero(tap_of == number)).size
    ]


def _pools(tap: Tap) -> bool:
    return tap.pool != "none" and len(tap.shape) > 1


def _pooled_whole(tap: Tap) -> bool:
    """Whether all channels are pooled, not only those that are needed.

    Feature maps are pooled in the blocked layout of convolutions, which a Gather would undo.
    """
    return _pools(tap) and ((tap.channel_axis == 0 and tap.dtype == "float32") or tap.cells > 1)
