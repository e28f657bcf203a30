"""Which hidden tensors can be tapped, and which taps do the user's selectors choose?

`candidates` reads the graph only. Shapes and element types of the candidates are measured by running the
model; `select` then turns the user's selectors into taps.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from onnx import NodeProto, TensorProto

from onnxtweak.errors import ModelError, UsageError
from onnxtweak.model.graph import GraphIndex, attribute
from onnxtweak.model.inspect.activations import find_activations, find_quantised
from onnxtweak.model.inspect.blocks import find_blocks
from onnxtweak.model.inspect.channels import channel_axis, find_channels_last
from onnxtweak.model.inspect.graph_checks import require_sound
from onnxtweak.model.inspect.layer_inputs import front_names
from onnxtweak.model.inspect.refusals import FLOATS
from onnxtweak.settings import POOLS
from onnxtweak.types import Tap

Measured = tuple[str, tuple[int, ...]]  # NumPy name of the element type, shape of one sample

QUANTISED = ("uint8", "int8")  # element types of quantised layers, as NumPy spells them
_QUANTISED = (TensorProto.UINT8, TensorProto.INT8)
# fmt: off
_NEVER_FLOAT = frozenset(
    {
        "Shape", "Size", "ArgMax", "ArgMin", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual",
        "And", "Or", "Not", "Xor", "NonZero", "IsNaN", "IsInf", "QuantizeLinear", "DynamicQuantizeLinear",
        "MatMulInteger", "ConvInteger", "QLinearConv", "QLinearMatMul", "SequenceConstruct",
    }
)
# fmt: on
MOST_CANDIDATES = 10_000


@dataclass(frozen=True)
class TapCandidate:
    """A hidden tensor that may be tapped; whether it is floating-point is known only once it is measured.

    name : the tensor. op : operator that produces it. position : of that node in the main graph.
    activation : whether it is the output of a layer's non-linearity. block : whether it is the output of a
    residual, dense or inception block. inside : whether it is within a branch of a block. channels_last :
    whether channels are its last axis; None where the graph does not tell. quantised : whether it holds the
    integers of a quantised layer.
    """

    name: str
    op: str
    position: int
    activation: bool
    block: bool
    inside: bool = False
    channels_last: bool | None = None
    quantised: bool = False


def candidates(graph: GraphIndex, logits: str) -> tuple[TapCandidate, ...]:
    """Hidden tensors of the main graph from which the logits are computed, in topological order.

    They vary with a real input, and are neither inputs, nor the logits, nor computed from them. Of more than
    `MOST_CANDIDATES` only the last: a runtime that outputs each of 100,000 tensors takes minutes to start.
    """
    require_sound(graph)
    needed = graph.ancestors([logits])
    order = [position for position in graph.topological_order() if position in needed]
    activations = find_activations(graph)
    blocks = find_blocks(graph, order, activations)
    last = find_channels_last(graph, order)
    quantised = find_quantised(graph, order)
    found: list[TapCandidate] = []
    for position in reversed(order):
        if len(found) >= MOST_CANDIDATES:
            break
        node = graph.nodes[position]
        if position == graph.position(logits) or (
            _never_float(node) and not quantised.intersection(node.output)
        ):
            continue
        for name in reversed(node.output):
            types = (*FLOATS, *(_QUANTISED if name in quantised else ()), None)
            if not name or not graph.depends_on_input(name) or graph.declared_type(name) not in types:
                continue
            if not graph.consumer_positions(name) and not graph.is_captured(name):
                continue
            found.append(
                TapCandidate(
                    name,
                    node.op_type,
                    position,
                    activation=name in activations,
                    block=name in blocks.outputs,
                    inside=position in blocks.inside,
                    channels_last=last.get(name),
                    quantised=name in quantised,
                )
            )
    return tuple(found[:MOST_CANDIDATES][::-1])


def candidates_note(found: Sequence[TapCandidate]) -> tuple[str, ...]:
    """What to tell where not all hidden tensors are among the candidates."""
    said = f"only the last {MOST_CANDIDATES:,} hidden tensors before the logits are looked at"
    return (said,) if len(found) >= MOST_CANDIDATES else ()


def select(
    candidates: Sequence[TapCandidate],
    shapes: Mapping[str, Measured | None],
    selectors: Sequence[str],
    pools: Sequence[str] = ("none",),
    penultimate: str | None = None,
    graph: GraphIndex | None = None,
) -> tuple[Tap, ...]:
    """The taps that the selectors choose, each once with every pooling, in the order of the candidates.

    shapes : as measured, by candidate; None for a tensor that cannot be tapped (not floating-point, no
    leading batch axis, varying size). selectors : "activations", "stages", "blocks", "penultimate",
    "front", "op:TYPE", or a glob over tensor names; exact names work too. pools : as `Tap.pool`, a tap for
    each; vectors are never pooled. penultimate : see `penultimate_name`. graph : where the front is, and for
    a better reason why a name cannot be tapped. Raises ModelError for a selector that matches nothing and for
    a model without any hidden float tensor.
    """
    if unknown := [pool for pool in pools if pool not in POOLS]:
        raise UsageError(f"unknown pooling {unknown[0]!r}", where="--pool", hint=f"use {', '.join(POOLS)}")
    integers = {item.name for item in candidates if item.quantised}
    measured = {
        name: found
        for name, found in shapes.items()
        if found is not None and (name in integers or found[0] not in QUANTISED)
    }
    usable = [item for item in candidates if item.name in measured]
    if not usable:
        raise ModelError(
            "the model has no hidden floating-point tensor with a row of fixed size per sample",
            where=f"--taps {' '.join(selectors)}",
            hint="there is no neuron to tap; `onnxtweak fit` sets the best biases, without --taps",
        )
    wanted: set[str] = set()
    for selector in selectors:
        if selector == "activations":
            wanted |= _activations(usable)
        elif selector == "stages":
            wanted |= _stages(usable, measured)
        elif selector == "blocks":
            wanted |= _blocks(usable)
        elif selector == "penultimate":
            wanted.add(_penultimate(usable, penultimate))
        elif selector == "front":
            wanted |= _front(usable, graph)
        elif selector.lower().startswith("op:"):
            wanted |= _by_operator(usable, selector)
        else:
            wanted |= _by_name(candidates, measured, selector, graph)
    chosen = [item for item in usable if item.name in wanted]
    return tuple(dict.fromkeys(_tap(item, measured[item.name], pool) for item in chosen for pool in pools))


def _activations(usable: list[TapCandidate]) -> set[str]:
    found = {item.name for item in usable if item.activation}
    if not found:
        counts = Counter(item.op for item in usable).most_common(3)
        raise ModelError(
            "the model has no activation to tap",
            where="--taps activations",
            hint=f"choose tensors by operator: {' or '.join(f'--taps op:{op}' for op, _ in counts)}",
        )
    return found


def _stages(usable: list[TapCandidate], measured: Mapping[str, Measured]) -> set[str]:
    """The last feature map at each resolution; one inside a block only where no other has it."""
    last: dict[tuple[int, ...], TapCandidate] = {}
    for item in usable:
        shape = measured[item.name][1]
        if not (item.activation or item.block) or len(shape) < 2:
            continue
        axis = channel_axis(shape, item.channels_last)
        resolution = tuple(size for number, size in enumerate(shape) if number != axis)
        if prod(resolution) > 1 and (resolution not in last or last[resolution].inside or not item.inside):
            last[resolution] = item
    if not last:
        raise ModelError(
            "the model has no feature maps, and therefore no stages",
            where="--taps stages",
            hint="use --taps activations to tap every activation",
        )
    return {item.name for item in last.values()}


def _blocks(usable: list[TapCandidate]) -> set[str]:
    found = {item.name for item in usable if item.block}
    if not found:
        raise ModelError(
            "the model has no residual, dense or inception block",
            where="--taps blocks",
            hint="use --taps activations or --taps stages",
        )
    return found


def _penultimate(usable: list[TapCandidate], name: str | None) -> str:
    if name is None or all(item.name != name for item in usable):
        raise ModelError(
            "the last linear layer has no single hidden tensor as its input",
            where="--taps penultimate",
            hint="give the tensor's name instead; see `onnxtweak inspect` for the candidates",
        )
    return name


def _front(usable: list[TapCandidate], graph: GraphIndex | None) -> set[str]:
    activations = [item.name for item in usable if item.activation]
    first = frozenset[str]() if graph is None else front_names(graph, activations)
    found = {item.name for item in usable if item.name in first}
    if not found:
        raise ModelError(
            "the first layers read the model's input as it is",
            where="--taps front",
            hint="leave it out: the graph prepares nothing for them",
        )
    return found


def _by_operator(usable: list[TapCandidate], selector: str) -> set[str]:
    wanted = selector[3:].strip().lower()
    found = {item.name for item in usable if item.op.lower() == wanted}
    if not found:
        ops = sorted({item.op for item in usable})
        near = difflib.get_close_matches(selector[3:], ops, n=3, cutoff=0.5) or ops
        raise ModelError(
            "no hidden floating-point tensor comes from this operator",
            where=f"--taps {selector}",
            hint=f"the model has {' or '.join(f'op:{op}' for op in near)}",
        )
    return found


def _by_name(
    candidates: Sequence[TapCandidate],
    measured: Mapping[str, Measured],
    selector: str,
    graph: GraphIndex | None,
) -> set[str]:
    names = [item.name for item in candidates]
    if selector in names:
        matches = {selector}
    else:
        literal = selector.replace("[", "[[]")
        matches = {n for n in names if fnmatch.fnmatchcase(n, selector) or fnmatch.fnmatchcase(n, literal)}
    found = matches & measured.keys()
    if found:
        return found
    usable = [name for name in names if name in measured]
    if matches:
        raise ModelError(
            "the tensor cannot be tapped: it is not floating-point, or has no fixed size per sample",
            where=f"--taps {selector}",
            hint=_suggestion(selector, usable),
        )
    reason = _why_not(graph, selector) if graph is not None else ""
    reason = "; ".join([reason, *candidates_note(candidates)] if reason else [])
    raise ModelError(
        reason or "no hidden tensor before the logits has this name",
        where=f"--taps {selector}",
        hint=_suggestion(selector, usable),
    )


def _suggestion(selector: str, names: list[str]) -> str:
    near = difflib.get_close_matches(selector, names, n=3, cutoff=0.5)
    words = [
        word
        for word in ("activations", "stages", "blocks", "penultimate", "front")
        if difflib.SequenceMatcher(None, selector.lower(), word).ratio() > 0.7
    ]
    if near or words:
        return f"did you mean {' or '.join([*words, *near])}?"
    return "see `onnxtweak inspect` for the tensors that can be tapped"


def _why_not(graph: GraphIndex, name: str) -> str:
    if any(value.name == name for value in graph.inputs):
        return "the name is an input of the model, not a hidden tensor"
    if graph.position(name) is None:
        if name in graph.initializer_names:
            return "the name is a constant of the model, not a hidden tensor"
        if name in graph.all_names:
            return (
                "the name is a node's, or a tensor inside an If, Loop, Scan or function; it cannot be tapped"
            )
        return ""
    if not graph.depends_on_input(name):
        return "the tensor is the same for every sample"
    return "the tensor is the logits, depends on them, or they do not depend on it"


def _tap(item: TapCandidate, measured: Measured, pool: str) -> Tap:
    dtype, shape = measured
    if len(shape) < 2:
        return Tap(item.name, item.op, tuple(shape), dtype)
    return Tap(item.name, item.op, tuple(shape), dtype, pool, channel_axis(shape, item.channels_last))


def _never_float(node: NodeProto) -> bool:
    if node.op_type == "Cast":
        return attribute(node, "to", TensorProto.FLOAT) not in FLOATS
    return node.op_type in _NEVER_FLOAT
