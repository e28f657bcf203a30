"""How is a tweak spliced into a model, with everything else unchanged?

Requires: the tweak belongs to this file, and the model computes its tensors. Edit: a byte patch. The node
that wrote the logits writes `onnxtweak/<k>/logits` instead, the piece's last node writes the logits, and the
rest is copied. Ensures: the result differs from the base by the splice alone, and reverts to it byte for
byte.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from google.protobuf.message import Message
from onnx import GraphProto, ValueInfoProto
from onnx.helper import make_tensor_value_info

from onnxtweak._version import __version__
from onnxtweak.errors import ModelError, VerificationError
from onnxtweak.model.edit.diff import diff, only_the_splice
from onnxtweak.model.edit.digests import file_digest, part_digests
from onnxtweak.model.edit.graft import Graft, NodePositions, prepare_graft
from onnxtweak.model.edit.patch_nodes import PIECE_FORM, build_piece
from onnxtweak.model.edit.piece_builder import ELEMENT_TYPES, INITIALIZERS_ARE_INPUTS_BEFORE, Piece
from onnxtweak.model.edit.revert import revert_tweak
from onnxtweak.model.file import protobuf_edit
from onnxtweak.model.file.model_file import LARGEST_PROTOBUF, ModelFile, parse
from onnxtweak.model.file.tweak_metadata import make_record, tweaks_inside
from onnxtweak.model.logits_format import LogitsFormat
from onnxtweak.patch import Tweak, form_of
from onnxtweak.types import PLACE

# Field numbers of ONNX's messages.
_MODEL_GRAPH, _NODE_OUTPUT = 7, 2
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 5, 11, 12


def splice(
    model: ModelFile,
    tweak: Tweak,
    logits_format: LogitsFormat = LogitsFormat(),
    *,
    scale: float = 1.0,
    shadow: bool = False,
) -> bytes:
    """The bytes of `model` with `tweak` in it, its weights times `scale`.

    logits_format : layout and dtype of the logits. shadow : leave the logits unchanged and show the tweaked
    logits as one more output. The same arguments give the same bytes.

    Raises ModelError when the tweak belongs to another file or does not fit this one, VerificationError when
    the result is not what it should be.
    """
    graft = _graft_of(model, tweak, scale)
    shown = graft.free_name(f"{tweak.logits}_tweaked") if shadow else None
    piece = build_piece(replace(tweak, patch=tweak.patch.scaled(scale)), graft.site(logits_format, shown))
    fields = {
        "kind": tweak.kind,
        "classes": int(tweak.classes),
        "scale": float(scale),
        "patch": _patch_record(tweak) | ({} if shown is None else {"shadow": shown}),
        "provenance": tweak.provenance,
    }
    output = None
    if shown is not None:
        output = make_tensor_value_info(
            shown, ELEMENT_TYPES[logits_format.dtype], [None for _ in logits_format.layout]
        )
    return insert_piece(graft, piece, fields, output)


def splice_to_run(
    model: ModelFile, tweak: Tweak, logits_format: LogitsFormat = LogitsFormat(), *, scale: float = 1.0
) -> bytes:
    """What `splice` gives, to be run and not to be kept: without its record, and not compared with the base.

    That takes several times as long where the model is large. Raises ModelError as `splice` does.
    """
    graft = _graft_of(model, tweak, scale)
    piece = build_piece(replace(tweak, patch=tweak.patch.scaled(scale)), graft.site(logits_format))
    return b"".join(_inserted(graft, _added(graft, piece, tweak.kind))[0])


def insert_piece(
    graft: Graft, piece: Piece, fields: dict[str, Any], output: ValueInfoProto | None = None
) -> bytes:
    """The model's bytes with the piece in it and the tweak's record after it.

    fields : kind, classes, scale, patch and provenance of the record. output : a new output that the piece
    writes while the logits stay unchanged; None: it writes the logits. Raises VerificationError when the
    result differs from the base by more than the splice.
    """
    model = graft.model
    added = _added(graft, piece, fields["kind"], output)
    chunks, back = _inserted(graft, added)
    length = sum(map(len, chunks))
    record = {
        "version": __version__,
        "file_sha256": model.sha256,
        "base_sha256": model.base_sha256,
        "logits": graft.logits,
        "prefix": graft.prefix,
        **fields,
    }
    shown = None if output is None else output.name
    digests = {"parts": part_digests(added, graft.prefix, shown), "file": file_digest(chunks)}
    data = b"".join([*chunks, make_record(length, back, graft.number, record, digests)])
    _check_result(model, data)
    return data


def _added(graft: Graft, piece: Piece, kind: str, output: ValueInfoProto | None = None) -> GraphProto:
    """What is added to the graph. kind, output : as in `insert_piece`."""
    added = GraphProto(
        node=piece.nodes,
        initializer=piece.initializers,
        input=_declared(graft.model, piece),
        output=[] if output is None else [output],
    )
    for node in added.node:
        node.doc_string = _explained(graft, kind, output)
    return added


def _inserted(graft: Graft, added: GraphProto) -> tuple[list[bytes | memoryview], list[protobuf_edit.Edit]]:
    """The model's bytes with that in it, in parts, and the edits that undo it."""
    new_logits = None if added.output else f"{graft.prefix}logits"
    return protobuf_edit.apply(graft.model.data, _edits(graft.model, graft.positions, added, new_logits))


def _graft_of(model: ModelFile, tweak: Tweak, scale: float) -> Graft:
    require_same_base(model, tweak)
    if not math.isfinite(scale):
        raise ModelError("the scale is not finite", where=scale, hint="give --scale a finite number")
    used = (tweak.neurons.taps[number] for number in sorted({int(n) for n in tweak.neurons.tap_of}))
    return prepare_graft(model, tweak.logits, [tap.name for tap in used if tap.pool != PLACE])


def require_same_base(model: ModelFile, tweak: Tweak) -> None:
    """Raise ModelError where the tweak was made for another file, even if it changes nothing."""
    if tweak.base_sha256 != model.base_sha256:
        raise ModelError(
            f"the tweak belongs to another model: made for sha256 {tweak.base_sha256[:12]}, "
            f"this one is {model.base_sha256[:12]}",
            where=model.path,
            hint="apply it to the file it was made from, or make a tweak of this one",
        )


def _explained(graft: Graft, kind: str, output: ValueInfoProto | None) -> str:
    """What a person should know who meets an added node in a viewer."""
    if output is not None:
        does = f"shows in {output.name} what {graft.logits} would be with it"
    elif kind == "slot":
        does = f"adds to the scores {graft.logits} what an adapter says, and nothing without one"
    else:
        does = f"adds to the scores {graft.logits} what was learnt from hidden values"
    return (
        f"Not of the model itself: tweak {graft.number} ({kind}), put in by onnxtweak, {does}. "
        "`onnxtweak inspect` says more, `onnxtweak revert` takes it out."
    )


def _edits(
    model: ModelFile, positions: NodePositions, added: GraphProto, new_logits: str | None
) -> list[protobuf_edit.Edit]:
    """The byte patch: nodes, initializers, inputs and outputs inserted; lengths updated.

    new_logits : what the base's node writes in place of the logits; None: it goes on writing them.
    """
    data = model.data
    graphs = protobuf_edit.fields(protobuf_edit.scan(data), _MODEL_GRAPH)
    # A file may hold the graph in several parts, which readers merge: nodes are counted across parts.
    parts = [list(protobuf_edit.scan(data, graph.value, graph.end)) for graph in graphs]
    nodes = [field for part in parts for field in protobuf_edit.fields(part, _GRAPH_NODE)]
    if len(nodes) != len(model.proto.graph.node):
        raise ModelError(
            "the file's nodes cannot be located", where=model.path, hint="export the model again"
        )
    inner: list[protobuf_edit.Edit] = []
    if new_logits is not None:
        producer = nodes[positions.producer]
        outputs = protobuf_edit.fields(protobuf_edit.scan(data, producer.value, producer.end), _NODE_OUTPUT)
        output = outputs[positions.output]
        rename = protobuf_edit.Edit(
            output.start, output.end, protobuf_edit.record(_NODE_OUTPUT, new_logits.encode())
        )
        inner += [protobuf_edit.relength(producer, [rename]), rename]
    end = graphs[-1].end
    places: list[tuple[int, int, Sequence[Message]]] = [
        (nodes[positions.last].end, _GRAPH_NODE, added.node),
        *(
            (_after_last(parts, number, end), number, messages)
            for number, messages in (
                (_GRAPH_INITIALIZER, added.initializer),
                (_GRAPH_INPUT, added.input),
                (_GRAPH_OUTPUT, added.output),
            )
            if messages
        ),
    ]
    for position, number, messages in places:
        new = b"".join(protobuf_edit.record(number, message.SerializeToString()) for message in messages)
        inner.append(protobuf_edit.Edit(position, position, new))
    edits = list(inner)
    for graph in graphs:
        own = [edit for edit in inner if graph.value <= edit.start and edit.end <= graph.end]
        if own:
            edits.append(protobuf_edit.relength(graph, own))
    return edits


def _declared(model: ModelFile, piece: Piece) -> tuple[ValueInfoProto, ...]:
    """The initializers of the piece that must also be declared as inputs."""
    old = model.proto.ir_version < INITIALIZERS_ARE_INPUTS_BEFORE
    return piece.declarations() if old else piece.inputs


def _after_last(parts: list[list[protobuf_edit.Field]], number: int, end: int) -> int:
    """The position after the last entry of the graph's field `number`; `end` where there is none."""
    return max((field.end for part in parts for field in protobuf_edit.fields(part, number)), default=end)


def _patch_record(tweak: Tweak) -> dict[str, Any]:
    """What was added, for `inspect` and for people: every synapse, but only the shapes of dense weights."""
    neurons, patch = tweak.neurons, tweak.patch
    return {
        "form": PIECE_FORM,
        "type": form_of(patch),
        "taps": [{**asdict(tap), "shape": list(tap.shape)} for tap in neurons.taps],
        "tap": np.asarray(neurons.tap_of).tolist(),
        "index": np.asarray(neurons.index).tolist(),
        **patch.record,
    }


def _check_result(model: ModelFile, data: bytes) -> None:
    """Raise an error unless the result equals the base but for the splice, and reverts to it."""
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
    if revert_tweak(data, tweaks_inside(proto)[-1]) != model.data:
        raise VerificationError(
            "the splice could not be reverted",
            where=model.path,
            hint="please report this model as a bug",
        )
