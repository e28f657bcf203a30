"""Is a model's graph sound: no cycles, and every node with the inputs that its operator needs?

The search for logits and taps relies on these checks. Operators that this version of ONNX does not know are
left to the runtime.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import lru_cache

import onnx
from onnx import AttributeProto, NodeProto

from onnxtweak.errors import ModelError
from onnxtweak.model.graph import DEFAULT_DOMAINS, GraphIndex

_AGAIN = "export the model again"


def quantises(graph: GraphIndex) -> bool:
    """Whether the model computes with values that are rounded to integers on their way."""
    return any(
        node.op_type.startswith("QLinear") or node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear")
        for node in graph.nodes
    )


def require_sound(graph: GraphIndex) -> None:
    """Raise ModelError for a graph that no exporter writes."""
    if graph.sound:
        return
    versions = {entry.domain: entry.version for entry in graph.proto.opset_import}
    versions |= dict.fromkeys(DEFAULT_DOMAINS, graph.opset)
    for node in graph.nodes:
        problem = _problem(node, versions.get(node.domain, 1))
        if problem:
            where = f"{node.op_type} {node.name or ', '.join(node.output)}"
            raise ModelError(f"a node of the model {problem}", where=where, hint=_AGAIN)
    _require_whole(graph)
    if len(graph.topological_order()) < len(graph.nodes):
        raise ModelError("the model's graph has a cycle", where=graph.proto.graph.name, hint=_AGAIN)
    graph.sound = True


def _require_whole(graph: GraphIndex) -> None:
    """Raise ModelError for a tensor that is read, or an output, which nothing in the file gives a value."""
    named = {value.name for value in graph.inputs} | graph.initializer_names
    for position, node in enumerate(graph.nodes):
        for name in graph.needs(position):
            if name not in named and graph.position(name) is None:
                raise ModelError(
                    f"a node of the model reads `{name}`, which nothing in the model computes",
                    where=f"{node.op_type} {node.name or ', '.join(node.output)}",
                    hint=_AGAIN,
                )
    for output in graph.outputs:
        if output.name not in named and graph.position(output.name) is None:
            made = [name for node in graph.nodes for name in node.output if name]
            loose = [n for n in made if not graph.consumer_positions(n) and not graph.is_captured(n)]
            near = get_close_matches(output.name, loose, n=1, cutoff=0) or ["another tensor"]
            raise ModelError(
                f"no node of the model computes its output `{output.name}`",
                where=graph.proto.graph.name,
                hint=f"export the model again, or name the output `{near[0]}`, which nothing reads",
            )


def _problem(node: NodeProto, version: int) -> str:
    """What is wrong with a node; empty where nothing is, or where its operator is unknown."""
    if not any(node.output):
        return "has no output"
    domain = "" if node.domain in DEFAULT_DOMAINS else node.domain
    needed, types = _asked(node.op_type, min(max(version, 1), 1 << 30), domain)
    if len(node.input) < len(needed):
        return f"is missing its input {needed[len(node.input)]}"
    for item in node.attribute:
        if item.type not in (types.get(item.name, item.type), AttributeProto.UNDEFINED):
            return f"has the attribute {item.name} with a value of the wrong type"
    return ""


@lru_cache(maxsize=1024)
def _asked(operator: str, version: int, domain: str) -> tuple[tuple[str, ...], dict[str, int]]:
    """The inputs that an operator cannot do without, and the types of its attributes; nothing if unknown."""
    try:
        schema = onnx.defs.get_schema(operator, version, domain)
    except onnx.defs.SchemaError:
        return (), {}
    needed = tuple(part.name for part in schema.inputs[: schema.min_input])
    # An IntEnum, unknown to its stub.
    types = {name: int(known.type) for name, known in schema.attributes.items()}  # type: ignore[call-overload]
    return needed, types
