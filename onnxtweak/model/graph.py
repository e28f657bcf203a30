"""How are the nodes and tensors of a model's graph connected?

A read-only index over a `ModelProto`. The index never changes the model, never reads external data, and
needs neither sorted nor named nodes: a node is identified by its position in `graph.node`.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

DEFAULT_DOMAINS = ("", "ai.onnx")
SHAPE_READERS = frozenset({"Shape", "Size"})


class GraphIndex:
    """The producer and the readers of each tensor of the main graph.

    Parameters
    ----------
    proto : the model; it must not be edited while the index is in use.

    Attributes
    ----------
    nodes : the main graph's nodes, in file order.
    inputs : graph inputs that are not initializers, as declared.
    outputs : graph outputs, as declared.
    initializer_names : dense and sparse initializers of the main graph.
    opset : version of the default operator domain; 1 when the model does not import it.
    """

    def __init__(self, proto: ModelProto) -> None:
        graph = proto.graph
        self.proto = proto
        self.nodes: tuple[NodeProto, ...] = tuple(graph.node)
        self._tensors: dict[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self.initializer_names: frozenset[str] = frozenset(self._tensors) | {
            sparse.values.name for sparse in graph.sparse_initializer
        }
        self.inputs: tuple[ValueInfoProto, ...] = tuple(
            value for value in graph.input if value.name not in self.initializer_names
        )
        self.outputs: tuple[ValueInfoProto, ...] = tuple(graph.output)
        self.opset: int = max(
            (entry.version for entry in proto.opset_import if entry.domain in DEFAULT_DOMAINS), default=1
        )
        self._values = {v.name: v for v in (*graph.value_info, *graph.input, *graph.output)}

        self._position: dict[str, int] = {}
        self._readers: dict[str, list[int]] = {}
        self._capturers: dict[str, list[int]] = {}
        self._needs: list[tuple[str, ...]] = []
        for position, node in enumerate(self.nodes):
            for name in node.output:
                if name:
                    self._position.setdefault(name, position)
            needs = tuple(dict.fromkeys(name for name in node.input if name))
            for name in needs:
                self._readers.setdefault(name, []).append(position)
            if captured := _captures(node):
                needs += tuple(sorted(captured.difference(needs)))
                for name in captured:
                    self._capturers.setdefault(name, []).append(position)
            self._needs.append(needs)
        self._varying: frozenset[str] | None = None
        self._all_names: frozenset[str] | None = None
        self._order: tuple[int, ...] | None = None
        self.sound = False  # whether `require_sound` has passed

    def position(self, name: str) -> int | None:
        """Position of the node that produces `name`; None for inputs, initializers and unknown names."""
        return self._position.get(name)

    def producer(self, name: str) -> NodeProto | None:
        """The node that produces tensor `name`, if a node of the main graph does."""
        position = self._position.get(name)
        return None if position is None else self.nodes[position]

    def consumer_positions(self, name: str) -> tuple[int, ...]:
        """Positions of the main graph's nodes that list `name` among their inputs, each once."""
        return tuple(self._readers.get(name, ()))

    def consumers(self, name: str) -> list[NodeProto]:
        """The main graph's nodes that list `name` among their inputs, each once, in node order."""
        return [self.nodes[position] for position in self._readers.get(name, ())]

    def is_captured(self, name: str) -> bool:
        """Whether a body of an If, Loop or Scan reads `name` from the outer scope."""
        return name in self._capturers

    def needs(self, position: int) -> tuple[str, ...]:
        """Every tensor that the node reads: its inputs, then what its bodies capture; no empty names."""
        return self._needs[position]

    def constant(self, name: str) -> np.ndarray | None:
        """Value of an initializer or of a Constant node; None when it is neither, external or sparse.

        For an initializer that is also a graph input this is its default value.
        """
        tensor = self._tensors.get(name)
        if tensor is not None:
            return _stored_value(tensor)
        node = self.producer(name)
        if node is None or node.op_type != "Constant" or node.domain not in DEFAULT_DOMAINS:
            return None
        return _constant_value(node)

    def constant_shape(self, name: str) -> tuple[int, ...] | None:
        """Shape of a constant, also where its values are external."""
        tensor = self._tensors.get(name)
        if tensor is not None:
            return tuple(tensor.dims)
        value = self.constant(name)
        return None if value is None else value.shape

    def ancestors(self, names: Iterable[str], before: str | None = None) -> set[int]:
        """Positions of all nodes that must run to produce `names`, including what bodies capture.

        before : a tensor that is given, so that nothing has to run to produce it.
        """
        found: set[int] = set()
        waiting = deque(names)
        while waiting:
            name = waiting.popleft()
            position = None if name == before else self._position.get(name)
            if position is not None and position not in found:
                found.add(position)
                waiting.extend(self.needs(position))
        return found

    def needed_inputs(self, names: Iterable[str]) -> set[str]:
        """The graph inputs from which `names` are computed, or which they are."""
        read = {name for position in self.ancestors(names) for name in self.needs(position)} | {*names}
        return read & {value.name for value in self.inputs}

    def descendants(self, names: Iterable[str], through_shapes: bool = True) -> set[int]:
        """Positions of all nodes whose results can change when `names` change.

        through_shapes : count nodes that read only the shape of such a tensor, and what follows from them.
        """
        found: set[int] = set()
        waiting = deque(names)
        while waiting:
            name = waiting.popleft()
            for position in (*self._readers.get(name, ()), *self._capturers.get(name, ())):
                reads_content = through_shapes or self.nodes[position].op_type not in SHAPE_READERS
                if position not in found and reads_content:
                    found.add(position)
                    waiting.extend(output for output in self.nodes[position].output if output)
        return found

    def depends_on_input(self, name: str) -> bool:
        """Whether `name` varies with the values of a real input: it is one, or is computed from one.

        False for what is computed from an input's shape alone: it varies with the batch size, not the sample.
        """
        if self._varying is None:
            inputs = frozenset(value.name for value in self.inputs)
            reached = self.descendants(inputs, through_shapes=False)
            made = {name for name, position in self._position.items() if position in reached}
            self._varying = frozenset(made | (inputs - self._position.keys()))
        return name in self._varying

    def topological_order(self) -> tuple[int, ...]:
        """Node positions, producers before readers, otherwise in file order."""
        if self._order is None:
            self._order = tuple(self._sorted())
        return self._order

    def _sorted(self) -> list[int]:
        missing = [0] * len(self.nodes)
        readers: list[list[int]] = [[] for _ in self.nodes]
        for position in range(len(self.nodes)):
            for source in {self._position[name] for name in self.needs(position) if name in self._position}:
                missing[position] += 1
                readers[source].append(position)
        ready = [position for position, count in enumerate(missing) if not count]
        order: list[int] = []
        while ready:
            position = heapq.heappop(ready)
            order.append(position)
            for reader in readers[position]:
                missing[reader] -= 1
                if not missing[reader]:
                    heapq.heappush(ready, reader)
        return order

    def declared_type(self, name: str) -> int | None:
        """ONNX element type as declared in the file (`TensorProto.FLOAT`, ...); None where it is not."""
        if name in self._tensors:
            return self._tensors[name].data_type
        value = self._values.get(name)
        if value is None or value.type.WhichOneof("value") != "tensor_type":
            return None
        return value.type.tensor_type.elem_type or None

    def declared_shape(self, name: str) -> tuple[int | str | None, ...] | None:
        """Shape as declared in the file: a number, a symbol, or None per axis; None where it is not."""
        if name in self._tensors:
            return tuple(self._tensors[name].dims)
        value = self._values.get(name)
        if value is None or value.type.WhichOneof("value") != "tensor_type":
            return None
        if not value.type.tensor_type.HasField("shape"):
            return None
        return tuple(_dimension(dim) for dim in value.type.tensor_type.shape.dim)

    @property
    def all_names(self) -> frozenset[str]:
        """Every tensor and node name in use, in main graph, bodies and functions; for collision checks."""
        if self._all_names is None:
            names = set(_graph_names(self.proto.graph))
            for function in self.proto.functions:
                names.update((function.name, *function.input, *function.output))
                for node in function.node:
                    names.update(_node_names(node))
            self._all_names = frozenset(names - {""})
        return self._all_names


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """Value of an attribute as a Python object (strings decoded), or `default` where the node has none."""
    for item in node.attribute:
        if item.name == name:
            value = onnx.helper.get_attribute_value(item)
            return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return default


def bodies(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs inside an If, Loop or Scan node."""
    for item in node.attribute:
        if item.type == AttributeProto.GRAPH or item.HasField("g"):
            yield item.g
        yield from item.graphs


def _captures(node: NodeProto) -> frozenset[str]:
    """Names that the node's bodies, at any depth, read from outside themselves."""
    if not node.attribute:
        return frozenset()
    captured: set[str] = set()
    for body in bodies(node):
        read = {value.name for value in body.output}
        own = {value.name for value in body.input}
        own.update(tensor.name for tensor in body.initializer)
        own.update(sparse.values.name for sparse in body.sparse_initializer)
        for inner in body.node:
            read.update(inner.input)
            read.update(_captures(inner))
            own.update(inner.output)
        captured.update(read - own - {""})
    return frozenset(captured)


def _stored_value(tensor: TensorProto) -> np.ndarray | None:
    return None if tensor.data_location == TensorProto.EXTERNAL else numpy_helper.to_array(tensor)


def _constant_value(node: NodeProto) -> np.ndarray | None:
    for item in node.attribute:
        if item.name == "value":
            return _stored_value(item.t)
        if item.name in ("value_float", "value_floats"):
            return np.asarray(onnx.helper.get_attribute_value(item), dtype=np.float32)
        if item.name in ("value_int", "value_ints"):
            return np.asarray(onnx.helper.get_attribute_value(item), dtype=np.int64)
        if item.name in ("value_string", "value_strings"):
            return np.asarray(onnx.helper.get_attribute_value(item), dtype=object)
    return None


def _dimension(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    field = dim.WhichOneof("value")
    return None if field is None else getattr(dim, field)


def _node_names(node: NodeProto) -> Iterator[str]:
    yield node.name
    yield from node.input
    yield from node.output
    for body in bodies(node):
        yield from _graph_names(body)


def _graph_names(graph: GraphProto) -> Iterator[str]:
    for value in (*graph.input, *graph.output, *graph.value_info):
        yield value.name
    for tensor in graph.initializer:
        yield tensor.name
    for sparse in graph.sparse_initializer:
        yield sparse.values.name
        yield sparse.indices.name
    for annotation in graph.quantization_annotation:
        yield annotation.tensor_name
    for node in graph.node:
        yield from _node_names(node)
