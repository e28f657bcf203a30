"""Why can the scores of a model not be tweaked?

Each function raises ModelError with the reason, and returns where there is none.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import NoReturn

from onnx import NodeProto, TensorProto

from onnxtweak.errors import ModelError
from onnxtweak.model.graph import GraphIndex, attribute, bodies
from onnxtweak.model.inspect.shapes import Shape

NOT_A_CLASSIFIER = "onnxtweak needs a classifier; if it is one, name its logits tensor with --logits NAME"
_CLOSED = {
    "TreeEnsembleClassifier": "a tree ensemble",
    "TreeEnsembleRegressor": "a tree ensemble",
    "TreeEnsemble": "a tree ensemble",
    "SVMClassifier": "a support vector machine",
    "SVMRegressor": "a support vector machine",
    "LinearClassifier": "a linear classifier in one operator",
}
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
_SCORE_OPS = frozenset({"Softmax", "LogSoftmax", "Exp", "Sigmoid", "ArgMax", "TopK", *_CLOSED})


def refuse_closed(graph: GraphIndex, node: NodeProto | None, output: str) -> None:
    """Raise ModelError where the logits are inside `node`, where the search for those of `output` ended.

    node : None where the search ended at an input or a constant.
    """
    if node is None:
        return
    if node.domain == "ai.onnx.ml" and node.op_type in _CLOSED:
        if node.op_type == "LinearClassifier" and _open_linear(graph, node):
            return
        raise ModelError(
            f"the class scores come from {node.op_type}, {_CLOSED[node.op_type]}: "
            "there is no hidden floating-point tensor to tap",
            where=output,
            hint="onnxtweak works on neural networks with at least one hidden layer",
        )
    for function in graph.proto.functions:
        if (function.domain, function.name) == (node.domain, node.op_type):
            if _has_score_ops(function.node):
                raise ModelError(
                    f"the logits are inside the function {node.op_type}, where they cannot be edited",
                    where=output,
                    hint="inline the functions first (onnx.inliner.inline_local_functions)",
                )
            return
    if any(_has_score_ops(body.node) for body in bodies(node)):
        raise ModelError(
            f"the logits are inside the body of {node.op_type}, where they cannot be edited",
            where=output,
            hint="export the model without control flow around the classifier, or use --logits NAME",
        )


def refuse_positions(shape: Shape | None, is_class_vector: bool, name: str) -> None:
    """Raise ModelError where the shape is certainly not one vector of class scores per sample."""
    if shape is None or is_class_vector:
        return
    text = "x".join("?" if size is None else str(size) for size in shape)
    if len(shape) < 2:
        raise ModelError(f"the scores have no class axis (shape {text})", where=name, hint=NOT_A_CLASSIFIER)
    wide = [size for size in shape[1:] if size != 1]
    if len(wide) > 1 and all(isinstance(size, int) for size in wide):
        like = "each pixel, as segmentation has" if len(shape) == 4 else "many positions"
        what = f"scores at {like}" if shape[-1] != 4 or len(shape) != 3 else "boxes, as a detector has"
        raise ModelError(
            f"the model has {what} (shape {text}), not one score per class and sample",
            where=name,
            hint="onnxtweak takes a score for each class, of each sample or at each position; --class-axis "
            "says which axis counts the classes. If this is a detector, it has none of the layouts that "
            "docs/howto/boxes.md lists",
        )


def refuse_tensor(graph: GraphIndex, name: str, what: str) -> None:
    """Raise ModelError where nothing can be added to a tensor. what : it is, in words."""
    reason = ""
    if graph.producer(name) is None:
        source = "an input" if any(value.name == name for value in graph.inputs) else "a constant"
        reason = f"is {source} of the model, which no node computes"
    elif not graph.depends_on_input(name):
        reason = "does not depend on the input"
    elif graph.declared_type(name) not in (*FLOATS, None):
        reason = "is not floating-point"
    if reason:
        raise ModelError(f"{what} {reason}", where=name, hint=NOT_A_CLASSIFIER)


def refuse_name(graph: GraphIndex, name: str) -> NoReturn:
    """Raise ModelError: why `name`, which no node of the main graph produces, cannot be the logits."""
    made = [output for node in graph.nodes for output in node.output if graph.depends_on_input(output)]
    tensors = [n for n in made if graph.declared_type(n) in (*FLOATS, None) and not _is_label(graph, n)]
    if any(value.name == name for value in graph.inputs):
        what = "the tensor given as logits is an input of the model, which no node computes"
    elif name in graph.initializer_names:
        what = "the tensor given as logits is a constant, which no node computes"
    elif name in graph.all_names:
        what = (
            "the name given as logits is a node's, or in a body or function: not a tensor of the main graph"
        )
    else:
        what = "the model has no such tensor to use as logits"
    near = difflib.get_close_matches(name, tensors, n=3, cutoff=0.5) or tensors[-3:]
    meant = f"did you mean {' or '.join(map(quoted, near))}? " if near else ""
    raise ModelError(what, where=name, hint=f"{meant}Without --logits they are searched for in the graph")


def _is_label(graph: GraphIndex, name: str) -> bool:
    """Whether a tensor surely is a class, not a score: no declaration says so, but its operator does."""
    node = graph.producer(name)
    return node is not None and node.op_type in ("ArgMax", "ZipMap", "ArrayFeatureExtractor", "LabelEncoder")


def quoted(name: str) -> str:
    """A tensor name as typed on a command line."""
    plain = name.translate(str.maketrans("", "", "_-./:")).isalnum()
    return name if plain else f"'{name}'"


def _open_linear(graph: GraphIndex, node: NodeProto) -> bool:
    """Whether a LinearClassifier's scores can be added to: raw, after a layer, its label output unused."""
    hidden = any(graph.nodes[p].op_type in ("Gemm", "MatMul", "Conv") for p in graph.ancestors(node.input))
    raw = attribute(node, "post_transform", "NONE") == "NONE"
    label = node.output[0]
    used = bool(graph.consumers(label)) or any(value.name == label for value in graph.outputs)
    return hidden and raw and not used


def _has_score_ops(nodes: Iterable[NodeProto]) -> bool:
    return any(node.op_type in _SCORE_OPS for node in _nested(nodes))


def _nested(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    for node in nodes:
        yield node
        for body in bodies(node):
            yield from _nested(body.node)
