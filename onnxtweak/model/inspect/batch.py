"""Which axis of an input counts samples, and which operators make their answers depend on one another?"""

from __future__ import annotations

import re
from collections.abc import Iterator

from onnx import NodeProto

from onnxtweak.model.graph import DEFAULT_DOMAINS, GraphIndex, attribute, bodies
from onnxtweak.model.inspect.shapes import constant_ints, known_shape

_RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
)
# One scale, mean or maximum of the whole tensor, all samples of a batch together.
_WHOLE = frozenset({"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"})
_NO_SYMBOLS = {"?", "None", "-1"}  # what some exporters write on every axis of unknown size
_SAMPLES = re.compile(r"n|b|bsz?|.*batch.*|.*samples?", re.IGNORECASE)  # how exporters call their axis
_ALONG_AXIS = frozenset({"Softmax", "LogSoftmax", "Hardmax", "CumSum", "LpNormalization", "ArgMax", "TopK"})


def batch_axes(graph: GraphIndex, logits: str) -> dict[str, int | None]:
    """The axis that counts samples, by input; None where an input is a single number for all samples.

    It is the axis whose symbolic size is the first of the logits, or of an output; where sizes are fixed, the
    only axis of the size that an output begins with. Where these do not tell, it is the first.
    """
    heads = _first(graph, logits) - {None}
    symbols = {size for size in heads if isinstance(size, str)} - _NO_SYMBOLS
    sizes = {size for size in heads if isinstance(size, int)}
    shapes = {value.name: _declared(graph, value.name) for value in graph.inputs}
    axes: dict[str, int | None] = {}
    for name, shape in shapes.items():
        if shape == ():
            axes[name] = None
            continue
        places = [axis for axis, size in enumerate(shape or ()) if size in symbols]
        if shape is not None and shape[0] == 1 and _second(graph, logits) == {1}:  # of [T, 1, C] it is T
            places = []
        elif not places and shape is not None and len(sizes) == 1 and all(isinstance(s, int) for s in shape):
            equal = [axis for axis, size in enumerate(shape) if size in sizes]
            places = equal if len(equal) == 1 and len(shape) > 2 else []
        axes[name] = places[0] if places and 0 not in places else 0
    free = any(
        shape and (axis := axes[name]) is not None and not isinstance(shape[axis], int)
        for name, shape in shapes.items()
    )
    return {name: None if free and shapes[name] == (1,) else axis for name, axis in axes.items()}


def positions_first(graph: GraphIndex, logits: str) -> bool:
    """Whether scores are [T, N, C]: not their first axis but the second is what inputs call samples."""
    heads = {shape[0] for value in graph.inputs if len(shape := _declared(graph, value.name) or ()) > 1}
    named = heads if heads == {1} else {size for size in heads if _SAMPLES.fullmatch(str(size))}
    return bool(named & _second(graph, logits)) and not named & _first(graph, logits)


def random_operators(graph: GraphIndex, logits: str) -> list[str]:
    """Operators before the logits that draw at random, as messages name them; in file order."""
    return [_named(node) for node in _before(graph, logits) if _draws(graph, node)]


def mixing_operators(graph: GraphIndex, logits: str) -> list[str]:
    """Operators before the logits that may compute over all samples of a batch, as messages name them."""
    return [_named(node) for node in _before(graph, logits) if _mixes(graph, node)]


def _shown(graph: GraphIndex, logits: str) -> list[str]:
    """The tensors whose first axis counts samples: the logits, and the outputs that they decide."""
    after = graph.descendants([logits])
    return [logits, *(value.name for value in graph.outputs if graph.position(value.name) in after)]


def _first(graph: GraphIndex, logits: str) -> set[int | str | None]:
    return {shape[0] for name in _shown(graph, logits) if (shape := _shape(graph, name))}


def _second(graph: GraphIndex, logits: str) -> set[int | str | None]:
    """Sizes of the axis after the first, where there are scores at positions."""
    shapes = (_shape(graph, name) for name in _shown(graph, logits))
    return {shape[1] for shape in shapes if shape is not None and len(shape) > 2}


def _shape(graph: GraphIndex, name: str) -> tuple[int | str | None, ...] | None:
    declared = _declared(graph, name)
    return declared if declared is not None else known_shape(graph, name)


def _declared(graph: GraphIndex, name: str) -> tuple[int | str | None, ...] | None:
    """As declared; some exporters write an unknown size as 0 or -1."""
    shape = graph.declared_shape(name)
    return None if shape is None else tuple(None if size in (0, -1) else size for size in shape)


def _before(graph: GraphIndex, logits: str) -> Iterator[NodeProto]:
    """The nodes that the logits are computed by, those in the bodies of If, Loop and Scan included."""
    for position in sorted(graph.ancestors([logits])):
        yield from _with_bodies(graph.nodes[position])


def _with_bodies(node: NodeProto) -> Iterator[NodeProto]:
    yield node
    for body in bodies(node):
        for inner in body.node:
            yield from _with_bodies(inner)


def _named(node: NodeProto) -> str:
    return f"{node.op_type} '{node.name or (node.output[0] if node.output else '')}'"


def _draws(graph: GraphIndex, node: NodeProto) -> bool:
    if node.op_type in _RANDOM:
        return True
    if node.op_type != "Dropout" or len(node.input) < 3 or not node.input[2]:
        return False
    training = graph.constant(node.input[2])
    return training is None or bool(training.any())


def _mixes(graph: GraphIndex, node: NodeProto) -> bool:
    if node.op_type in _WHOLE:
        return True
    if node.domain not in DEFAULT_DOMAINS:
        return False
    if node.op_type == "BatchNormalization":
        return bool(attribute(node, "training_mode", 0)) or len(node.output) > 1
    if node.op_type.startswith("Reduce"):
        axes = constant_ints(graph, node, "axes", 1)
        if axes is None:
            given = len(node.input) > 1 and bool(node.input[1])
            return not given and not attribute(node, "noop_with_empty_axes", 0)
        return _reaches_first(graph, node, axes)
    if node.op_type in _ALONG_AXIS:
        default = 0 if node.op_type == "ArgMax" else -1 if graph.opset >= 13 else 1
        axes = constant_ints(graph, node, "axis", 1 if node.op_type == "CumSum" else len(node.input))
        return _reaches_first(graph, node, axes or (default,))
    if node.op_type == "Transpose":
        return attribute(node, "perm", [1])[0] != 0
    if node.op_type == "Reshape":
        target = constant_ints(graph, node, "shape", 1)
        return target is not None and len(target) > 0 and target[0] > 1
    return False


def _reaches_first(graph: GraphIndex, node: NodeProto, axes: tuple[int, ...]) -> bool:
    """Whether one of the axes is the first, which counts samples. Negative ones need the tensor's rank."""
    shape = _shape(graph, node.input[0]) if min(axes, default=0) < 0 else None
    return any(axis == 0 or (shape is not None and axis + len(shape) == 0) for axis in axes)
