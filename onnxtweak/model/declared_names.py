"""Which names does a model itself give its classes, and the features of its input?

Class labels stand behind the logits: in a ZipMap, in a classifier's attributes, in a LabelEncoder, or in the
constant that the chosen class number looks up. Feature names stand in the metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress

from onnx import ModelProto, NodeProto

from onnxtweak.model.graph import DEFAULT_DOMAINS, GraphIndex, attribute

ClassLabels = tuple[str, ...] | tuple[int, ...]

_FEATURE_KEYS = ("feature_names", "feature_names_in_", "features", "columns")


def class_labels(graph: GraphIndex, logits: str) -> ClassLabels | None:
    """What the model calls its classes, class 0 first, all text or all integers; None where it does not tell.

    logits : the tensor behind which to look. The number of labels need not be that of the classes.
    """
    found: ClassLabels | None = None
    at_last: ClassLabels | None = None
    behind = graph.descendants([logits], through_shapes=False) | {graph.position(logits)}
    for position in graph.topological_order():
        if position not in behind:
            continue
        node = graph.nodes[position]
        if node.domain in DEFAULT_DOMAINS and node.op_type == "Gather":
            found = _constant(graph, node.input[0]) or found
        elif node.domain != "ai.onnx.ml":
            continue
        elif node.op_type == "ArrayFeatureExtractor":
            found = _constant(graph, node.input[0]) or found
        elif node.op_type == "LabelEncoder":
            found = _encoded(node, found) or found
        else:
            at_last = _listed(node, "classlabels") or at_last
    return found or at_last


def feature_names(proto: ModelProto) -> tuple[str, ...] | None:
    """Names of the features of the model's input, from its metadata: a JSON list, or text with commas."""
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    for key in _FEATURE_KEYS:
        text = metadata.get(key, "").strip()
        with suppress(ValueError):
            names = json.loads(text) if text.startswith("[") else [name.strip() for name in text.split(",")]
            if len(names) > 1 and all(isinstance(name, str) and name for name in names):
                return tuple(names)
    return None


def _constant(graph: GraphIndex, name: str) -> ClassLabels | None:
    """The labels that a constant holds; None for anything but a row of text or of integers."""
    value = graph.constant(name)
    if value is None or value.size < 2 or max(value.shape, default=0) != value.size:
        return None
    if value.dtype.kind in "iu":
        return tuple(int(item) for item in value.ravel())
    texts = [item.decode("utf-8", "replace") if isinstance(item, bytes) else item for item in value.ravel()]
    return tuple(texts) if all(isinstance(text, str) for text in texts) else None


def _encoded(node: NodeProto, before: ClassLabels | None) -> ClassLabels | None:
    """The labels after a LabelEncoder. before : the labels that it reads; None: class numbers."""
    keys = _listed(node, "keys")
    values = _listed(node, "values")
    if keys is None or values is None or len(keys) != len(values):
        return None
    table: Mapping[str | int, str | int] = dict(zip(keys, values, strict=True))
    read = range(len(keys)) if before is None else before
    made = [table[label] for label in read if label in table]
    return tuple(made) if len(made) == len(read) else None  # type: ignore[return-value]  # all of one type


def _listed(node: NodeProto, what: str) -> ClassLabels | None:
    """The text or integers of an attribute such as `classlabels_strings`; None where there is none."""
    texts = attribute(node, f"{what}_strings")
    if texts:
        return tuple(text.decode("utf-8", "replace") for text in texts)
    numbers = attribute(node, f"{what}_int64s") or attribute(node, f"{what}_ints")
    return tuple(map(int, numbers)) if numbers else None
