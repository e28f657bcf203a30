"""How does a tweak get into a model, with everything else left as it is?

Requires: the tweak belongs to this file, and its tensors can be reached. Edit: a byte patch. The node that
writes the logits writes `onnxtweak/<k>/logits` instead, the piece's Add writes the logits, and the rest is
copied. Ensures: the result differs from the base by the splice alone, and reverts to it byte for byte.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from onnx import GraphProto, ValueInfoProto
from onnx.helper import make_tensor_value_info

from onnxtweak._version import __version__
from onnxtweak.errors import ModelError, VerificationError
from onnxtweak.model.edit.diff import diff, only_the_splice
from onnxtweak.model.edit.patch_nodes import (
    ELEMENT_TYPES,
    INITIALIZERS_ARE_INPUTS_BEFORE,
    Piece,
    build_piece,
    free_prefix,
)
from onnxtweak.model.edit.revert import take_off
from onnxtweak.model.file import protobuf_edit
from onnxtweak.model.file.model_file import LARGEST_PROTOBUF, ModelFile, parse
from onnxtweak.model.file.tweak_metadata import make_record, tweaks_inside
from onnxtweak.model.inspect.graph import GraphIndex
from onnxtweak.patch import Tweak, form_of

OLDEST_OPSET = 7  # the first with broadcasting in Add and Mul
# Field numbers of ONNX's messages.
_MODEL_GRAPH, _GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _NODE_OUTPUT = 7, 1, 5, 11, 2


@dataclass(frozen=True)
class _SplicePlace:
    """Where in the graph the splice goes: positions of nodes in file order.

    producer : of the node that writes the logits. output : which of its outputs. last : the node behind which
    everything that the piece reads has been computed.
    """

    producer: int
    output: int
    last: int


def splice(
    model: ModelFile,
    tweak: Tweak,
    *,
    logits_layout: str = "NC",
    logits_dtype: str = "float32",
    scale: float = 1.0,
    shadow: bool = False,
) -> bytes:
    """The bytes of `model` with `tweak` in it, its weights times `scale`.

    logits_layout : as `Logits.layout`. logits_dtype : as `Tap.dtype`. shadow : leave the logits as they are;
    what they would be becomes another output, and all of it stands behind the base's bytes. The same
    arguments give the same bytes.

    Raises ModelError when the tweak belongs to another file or does not fit this one, VerificationError when
    the result is not what it should be.
    """
    _require_own_base(model, tweak)
    if not math.isfinite(scale):
        raise ModelError("the scale is not a number", where=scale, hint="use a finite --scale")
    graft = prepare_graft(model, tweak.logits, _used_taps(tweak))
    shown = graft.free_name(f"{tweak.logits}_tweaked") if shadow else None
    piece = build_piece(
        replace(tweak, patch=tweak.patch.scaled(scale)),
        opset=graft.index.opset,
        logits_in=f"{graft.prefix}logits" if shown is None else tweak.logits,
        logits_out=tweak.logits if shown is None else shown,
        logits_dtype=logits_dtype,
        logits_layout=logits_layout,
        prefix=graft.prefix,
    )
    fields = {
        "kind": tweak.kind,
        "classes": int(tweak.classes),
        "scale": float(scale),
        "patch": _patch_record(tweak) | ({} if shown is None else {"shadow": shown}),
        "provenance": tweak.provenance,
    }
    output = None
    if shown is not None:
        output = make_tensor_value_info(shown, ELEMENT_TYPES[logits_dtype], [None for _ in logits_layout])
    return grafted(graft, piece, fields, output)


@dataclass(frozen=True)
class Graft:
    """A model, and where in it a piece will be put. number : of the tweak. prefix : of all new names."""

    model: ModelFile
    index: GraphIndex
    logits: str
    place: _SplicePlace
    number: int
    prefix: str

    def free_name(self, wish: str) -> str:
        """`wish`, or a name of our own where it is taken."""
        return wish if wish not in self.index.all_names else f"{self.prefix}{wish}"


def prepare_graft(model: ModelFile, logits: str, taps: Iterable[str]) -> Graft:
    """Find the place for a piece that reads `taps` and adds to `logits`.

    Raises ModelError when the logits or a tap cannot be reached.
    """
    index = GraphIndex(model.proto)
    place = _find_place(index, logits, taps)
    number = len(tweaks_inside(model.proto)) + 1
    prefix = free_prefix(f"onnxtweak/{number}/", index.all_names)
    return Graft(model, index, logits, place, number, prefix)


def grafted(
    graft: Graft, piece: Piece, fields: dict[str, Any], output: ValueInfoProto | None = None
) -> bytes:
    """The model's bytes with the piece in it and its record behind.

    fields : kind, classes, scale, patch and provenance of the record. output : what the piece writes is this
    new output, and the logits stay as they are. Raises VerificationError when the result is not what it
    should be.
    """
    model = graft.model
    if output is None:
        edits = _edits(model, graft.place, piece, f"{graft.prefix}logits")
    else:
        edits = [_appended(model, piece, output)]
    chunks, back = protobuf_edit.apply(model.data, edits)
    if output is not None:
        back = []  # what was put behind the base is simply cut off
    length = len(model.data) if output is not None else sum(map(len, chunks))
    record = {
        "version": __version__,
        "file_sha256": model.sha256,
        "base_sha256": model.base_sha256,
        "logits": graft.logits,
        "prefix": graft.prefix,
        **fields,
    }
    data = b"".join([*chunks, make_record(length, back, graft.number, record)])
    _ensure(model, data)
    return data


def _used_taps(tweak: Tweak) -> list[str]:
    return [tweak.neurons.taps[number].name for number in sorted({int(n) for n in tweak.neurons.tap_of})]


def _require_own_base(model: ModelFile, tweak: Tweak) -> None:
    if tweak.base_sha256 != model.base_sha256:
        raise ModelError(
            f"the tweak belongs to another model: made for sha256 {tweak.base_sha256[:12]}, "
            f"this one is {model.base_sha256[:12]}",
            where=model.path,
            hint="apply it to the file it was made from, or make it again from this one",
        )


def _find_place(index: GraphIndex, logits: str, taps: Iterable[str]) -> _SplicePlace:
    """Where the splice goes. Raises ModelError when the logits or a tap cannot be reached."""
    list_them = "see `onnxtweak inspect`"
    if index.opset < OLDEST_OPSET:
        raise ModelError(
            f"the model uses opset {index.opset}; tweaks need {OLDEST_OPSET} or newer",
            where=logits,
            hint="export the model with a newer opset",
        )
    writers = [position for position, node in enumerate(index.nodes) if logits in node.output]
    given = logits in index.initializer_names or any(
        value.name == logits for value in index.proto.graph.input
    )
    if len(writers) != 1 or given or list(index.nodes[writers[0]].output).count(logits) != 1:
        raise ModelError(
            "the logits must be written by exactly one node of the model's main graph",
            where=logits,
            hint=f"name another tensor with --logits; {list_them}",
        )
    producer = writers[0]
    after_logits = index.descendants([logits])
    last = producer
    for tap in taps:
        position = index.position(tap)
        if position is None and all(value.name != tap for value in index.inputs):
            raise ModelError("the model does not compute this tapped tensor", where=tap, hint=list_them)
        if tap == logits or position in after_logits:
            raise ModelError(
                f"a neuron that is computed from the logits '{logits}' cannot be added to them",
                where=tap,
                hint="leave this tensor out with --taps",
            )
        last = max(last, -1 if position is None else position)
    _require_order_kept(index, producer, last, logits)
    return _SplicePlace(producer, list(index.nodes[producer].output).index(logits), last)


def _require_order_kept(index: GraphIndex, producer: int, last: int, logits: str) -> None:
    """A sorted model stays sorted: the Add must run before the logits' readers, and behind every tap."""
    early = any(logits in index.needs(position) for position in range(producer + 1, last + 1))
    if early and _is_sorted(index):
        raise ModelError(
            "a tapped tensor is computed only after the logits are used",
            where=f"'{index.nodes[last].output[0]}' after '{logits}'",
            hint="leave this tensor out with --taps",
        )


def _is_sorted(index: GraphIndex) -> bool:
    """Whether every node stands behind those it reads from."""
    for position in range(len(index.nodes)):
        for name in index.needs(position):
            writer = index.position(name)
            if writer is not None and writer >= position:
                return False
    return True


def _edits(model: ModelFile, place: _SplicePlace, piece: Piece, new_logits: str) -> list[protobuf_edit.Edit]:
    """The byte patch: one output renamed, nodes, initializers (and inputs) inserted, lengths kept true."""
    data = model.data
    graphs = protobuf_edit.fields(list(protobuf_edit.scan(data)), _MODEL_GRAPH)
    # A model may come in several parts, which readers merge: their entries count on from part to part.
    parts = [list(protobuf_edit.scan(data, graph.value, graph.end)) for graph in graphs]
    nodes = [field for part in parts for field in protobuf_edit.fields(part, _GRAPH_NODE)]
    if len(nodes) != len(model.proto.graph.node):
        raise ModelError(
            "the file's nodes cannot be told apart", where=model.path, hint="export the model again"
        )
    producer = nodes[place.producer]
    output = protobuf_edit.fields(list(protobuf_edit.scan(data, producer.value, producer.end)), _NODE_OUTPUT)[
        place.output
    ]
    rename = protobuf_edit.Edit(
        output.start, output.end, protobuf_edit.record(_NODE_OUTPUT, new_logits.encode())
    )
    added = [(nodes[place.last].end, [(_GRAPH_NODE, node) for node in piece.nodes])]
    end = graphs[-1].end
    added.append(
        (_behind(parts, _GRAPH_INITIALIZER, end), [(_GRAPH_INITIALIZER, t) for t in piece.initializers])
    )
    declared = _declared(model, piece)
    if declared:
        added.append((_behind(parts, _GRAPH_INPUT, end), [(_GRAPH_INPUT, value) for value in declared]))
    inner = [protobuf_edit.relength(producer, [rename]), rename]
    for position, records in added:
        new = b"".join(
            protobuf_edit.record(number, message.SerializeToString()) for number, message in records
        )
        inner.append(protobuf_edit.Edit(position, position, new))
    edits = list(inner)
    for graph in graphs:
        own = [edit for edit in inner if graph.value <= edit.start and edit.end <= graph.end]
        if own:
            edits.append(protobuf_edit.relength(graph, own))
    return edits


def _declared(model: ModelFile, piece: Piece) -> tuple[ValueInfoProto, ...]:
    """The initializers of the piece that must be inputs too."""
    old = model.proto.ir_version < INITIALIZERS_ARE_INPUTS_BEFORE
    return piece.declarations() if old else piece.inputs


def _appended(model: ModelFile, piece: Piece, output: ValueInfoProto) -> protobuf_edit.Edit:
    """A second graph behind the model's bytes: readers put both together."""
    more = GraphProto(
        node=piece.nodes,
        initializer=piece.initializers,
        input=_declared(model, piece),
        output=[output],
    )
    end = len(model.data)
    return protobuf_edit.Edit(end, end, protobuf_edit.record(_MODEL_GRAPH, more.SerializeToString()))


def _behind(parts: list[list[protobuf_edit.Field]], number: int, end: int) -> int:
    """The position behind the last entry of the graph's field `number`; `end` when there is none."""
    return max((field.end for part in parts for field in protobuf_edit.fields(part, number)), default=end)


def _patch_record(tweak: Tweak) -> dict[str, Any]:
    """What was added, for `inspect` and for people: every synapse; of dense weights only the shapes."""
    neurons, patch = tweak.neurons, tweak.patch
    return {
        "type": form_of(patch),
        "taps": [{**asdict(tap), "shape": list(tap.shape)} for tap in neurons.taps],
        "tap": np.asarray(neurons.tap_of).tolist(),
        "index": np.asarray(neurons.index).tolist(),
        **patch.record,
    }


def _ensure(model: ModelFile, data: bytes) -> None:
    """The result says what the base said, but for the splice, and goes back to it."""
    if len(data) > LARGEST_PROTOBUF:
        raise ModelError(
            "with the tweak the file is larger than the 2 GiB that protobuf allows",
            where=model.path,
            hint="save the base model with its weights as external data",
        )
    proto = parse(data, model.path)
    differences = diff(model.proto, proto)
    if not only_the_splice(differences):
        other = next(difference for difference in differences if not difference.expected)
        raise VerificationError(
            f"the splice would change more than it should: {other.where} {other.kind}, {other.detail}",
            where=model.path,
            hint="please report this model as a bug",
        )
    if take_off(data, tweaks_inside(proto)[-1]) != model.data:
        raise VerificationError(
            "the splice could not be taken out again",
            where=model.path,
            hint="please report this model as a bug",
        )
