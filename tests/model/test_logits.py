"""Are the logits found behind every classifier tail, and is everything else refused with the reason?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnxtweak.errors import ModelError
from onnxtweak.model.graph import GraphIndex
from onnxtweak.model.inspect.logits import find_logits
from onnxtweak.model.inspect.tail import is_unbounded
from tests.support.nets import LIGHT, TAILS, NetBuilder, cnn3, cnn_1x1, mlp, random_inputs, transformer
from tests.support.plain_session import plain_session

FLOAT = TensorProto.FLOAT
value = helper.make_tensor_value_info


def _run(proto: ModelProto, samples: dict[str, np.ndarray]) -> dict[str, object]:
    session = plain_session(proto.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, samples), strict=True))


def _add_to(proto: ModelProto, name: str, bias: np.ndarray) -> ModelProto:
    """The model with `bias` added to tensor `name`: what the splice does, in three lines."""
    edited = ModelProto()
    edited.CopyFrom(proto)
    for position, node in enumerate(edited.graph.node):
        if name in node.output:
            node.output[list(node.output).index(name)] = "before"
            edited.graph.node.insert(position + 1, helper.make_node("Add", ["before", "bias"], [name]))
            break
    edited.graph.initializer.append(numpy_helper.from_array(bias, "bias"))
    return edited


def _named(proto: ModelProto, name: str) -> ModelProto:
    """The model with tensor `name` as another output."""
    shown = ModelProto()
    shown.CopyFrom(proto)
    if all(output.name != name for output in shown.graph.output):
        shown.graph.output.append(onnx.ValueInfoProto(name=name))
    return shown


EXPECTED = {
    "none": ("logits", "the output itself"),
    "softmax": ("logits", "before Softmax"),
    "logsoftmax": ("logits", "before LogSoftmax"),
    "argmax": ("logits", "before ArgMax"),
    "dropout-softmax": ("dropped", "before Softmax"),
    "quantized": ("dequantized", "the output itself"),
    "quantized-softmax": ("dequantized", "before Softmax"),
    "sigmoid": ("logits", "before Sigmoid"),
    "logsumexp": ("logits", "before log-softmax written out"),
}


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize(("opset", "ir"), [(10, 3), (11, 6), (13, 7), (17, 8), (21, 10)])
def test_every_tail_gives_the_tensor_before_it(tail: str, opset: int, ir: int):
    logits = find_logits(
        GraphIndex(cnn3(classes=6, size=8, channels=(2, 2, 2), tail=tail, opset=opset, ir=ir))
    )
    written_out = ("logits", "before softmax written out")
    name, rule = EXPECTED.get(tail, written_out if tail.startswith("decomposed") else EXPECTED["softmax"])
    assert (logits.name, logits.rule) == (name, rule)
    assert (logits.layout, logits.class_axis, logits.classes, logits.shape) == ("NC", 1, 6, ("N", 6))
    assert not logits.binary
    assert repr(name) in logits.explain


@pytest.mark.parametrize("tail", [tail for tail in TAILS if tail != "softmax-zipmap"])
def test_adding_to_a_logit_changes_the_outputs_as_it_should(tail: str):
    proto = cnn3(classes=4, size=8, channels=(2, 2, 2), tail=tail)
    samples = random_inputs(proto, 5, seed=3)
    logits = find_logits(GraphIndex(proto))
    base = _run(_named(proto, logits.name), samples)[logits.name]
    bias = np.float32([0, 0.5, 0, -0.25])
    edited = _run(_named(_add_to(proto, logits.name, bias), logits.name), samples)
    np.testing.assert_allclose(edited[logits.name], base + bias, rtol=1e-6)
    score = np.exp(base + bias) / np.exp(base + bias).sum(axis=1, keepdims=True)
    expected = {"probabilities": score, "log_probabilities": np.log(score), "label": score.argmax(axis=1)}
    expected["out"] = score
    if tail == "sigmoid":
        expected["probabilities"] = 1 / (1 + np.exp(-(base + bias)))
    for name in set(expected) & {output.name for output in proto.graph.output}:
        np.testing.assert_allclose(edited[name], expected[name], rtol=1e-4, atol=1e-6)


def test_a_zip_map_with_its_label_leads_to_the_same_logits():
    logits = find_logits(GraphIndex(cnn3(classes=4, size=8, tail="softmax-zipmap")))
    assert logits.name == "logits"
    assert logits.steps[-1] == "Softmax"


def test_of_label_and_probabilities_the_probabilities_are_reported():
    logits = find_logits(GraphIndex(cnn3(size=8, tail="softmax-argmax")))
    assert (logits.output, logits.steps) == ("probabilities", ("Softmax",))


def test_a_single_logit_means_two_classes():
    logits = find_logits(GraphIndex(mlp(classes=1, tail="sigmoid")))
    assert logits.binary
    assert (logits.layout, logits.class_axis, logits.classes) == ("N1", None, 2)
    assert "two classes" in logits.explain


def test_probabilities_of_both_classes_joined_from_one_sigmoid():
    net = NetBuilder()
    net.gemm(net.op("Relu", net.gemm("input", 8, 5)), 5, 1, name="logit")
    p = net.op("Sigmoid", "logit")
    net.op("Concat", net.op("Sub", net.const(1.0), p), p, axis=1, name="both")
    logits = find_logits(GraphIndex(net.model({"input": (FLOAT, ("N", 8))}, {"both": (FLOAT, ("N", 2))})))
    assert (logits.name, logits.binary, logits.classes) == ("logit", True, 2)


@pytest.mark.parametrize(
    ("tail", "name", "layout"),
    [
        ("none", "scores", "NC11"),
        ("softmax", "scores", "NC11"),
        ("flatten", "logits", "NC"),
        ("flatten-softmax", "logits", "NC"),
        ("squeeze-softmax", "logits", "NC"),
        ("nhwc-softmax", "nhwc", "N11C"),
    ],
)
def test_of_four_axes_the_two_axis_form_is_taken_where_there_is_one(tail: str, name: str, layout: str):
    logits = find_logits(GraphIndex(cnn_1x1(tail=tail)))
    assert (logits.name, logits.layout, logits.classes) == (name, layout, 5)


def test_a_two_axis_form_before_a_reshape_to_four_axes_is_taken():
    net = NetBuilder()
    scores = net.gemm(net.op("Relu", net.gemm("input", 8, 6)), 6, 3, name="flat_scores")
    net.op("Softmax", net.op("Reshape", scores, net.ints(-1, 3, 1, 1)), axis=1, name="out")
    logits = find_logits(
        GraphIndex(net.model({"input": (FLOAT, ("N", 8))}, {"out": (FLOAT, ("N", 3, 1, 1))}))
    )
    assert (logits.name, logits.steps) == ("flat_scores", ("Softmax", "Reshape"))


@pytest.mark.parametrize(
    ("model", "name", "layout"),
    [
        ("bvlc_alexnet", "r24", "NC"),
        ("densenet121", "fc6_1", "NC11"),
        ("inception_v1", "r143", "NC"),
        ("inception_v2", "r507", "NC"),
        ("resnet50", "r174", "NC"),
        ("shufflenet", "r201", "NC"),
        ("squeezenet", "r65", "NC11"),
        ("vgg19", "r46", "NC"),
        ("zfnet512", "r20", "NC"),
    ],
)
def test_the_nine_classifiers_of_the_onnx_wheel(model: str, name: str, layout: str):
    logits = find_logits(GraphIndex(onnx.load(LIGHT / f"light_{model}.onnx")))
    assert (logits.name, logits.layout, logits.classes) == (name, layout, 1000)


def test_a_transformer_s_attention_softmax_is_not_taken():
    assert find_logits(GraphIndex(transformer())).name == "logits"


def test_of_features_and_logits_the_later_output_is_taken():
    proto = mlp(classes=4)
    proto.graph.output.insert(0, value("act2", FLOAT, ["N", 12]))
    assert find_logits(GraphIndex(proto)).name == "logits"


def test_a_softmax_beats_a_plain_output():
    proto = mlp(classes=4, tail="softmax")
    proto.graph.output.insert(0, value("act1", FLOAT, ["N", 16]))
    assert find_logits(GraphIndex(proto)).name == "logits"


def _two_heads() -> ModelProto:
    net = NetBuilder()
    x = net.op("Relu", net.gemm("input", 8, 6))
    for name, classes in (("colour", 3), ("size", 4)):
        net.op("Softmax", net.gemm(x, 6, classes, name=f"{name}_logits"), name=name)
    return net.model({"input": (FLOAT, ("N", 8))}, {"colour": (FLOAT, ("N", 3)), "size": (FLOAT, ("N", 4))})


def test_two_equal_heads_are_a_question_to_the_user():
    with pytest.raises(ModelError) as caught:
        find_logits(GraphIndex(_two_heads()))
    assert "--logits colour_logits" in caught.value.hint
    assert "--logits size_logits" in caught.value.hint
    logits = find_logits(GraphIndex(_two_heads()), override="size_logits")
    assert (logits.name, logits.output, logits.rule, logits.classes) == ("size_logits", "size", "given", 4)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("logit", "no such tensor"),
        ("input", "an input of the model"),
        ("const_1", "a constant"),
    ],
)
def test_an_override_that_cannot_be_is_refused_with_near_names(name: str, what: str):
    proto = mlp()
    proto.graph.initializer.append(numpy_helper.from_array(np.float32([1]), "const_1"))
    with pytest.raises(ModelError, match=what) as caught:
        find_logits(GraphIndex(proto), override=name)
    assert "did you mean" in caught.value.hint
    if name == "logit":
        assert "logits" in caught.value.hint


def test_an_override_that_leads_nowhere_is_refused():
    proto = mlp()
    proto.graph.node.append(helper.make_node("Relu", ["act1"], ["dead_end"]))
    with pytest.raises(ModelError, match="no output depends"):
        find_logits(GraphIndex(proto), override="dead_end")


def _closed(op: str, **attributes: object) -> ModelProto:
    node = helper.make_node(op, ["x"], ["label", "scores"], domain="ai.onnx.ml", **attributes)
    cast = helper.make_node("Normalizer", ["scores"], ["probabilities"], domain="ai.onnx.ml", norm="L1")
    outputs = [value("label", TensorProto.INT64, ["N"]), value("probabilities", FLOAT, ["N", 3])]
    graph = helper.make_graph([node, cast], "g", [value("x", FLOAT, ["N", 4])], outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("ai.onnx.ml", 1)], ir_version=8)


@pytest.mark.parametrize("op", ["TreeEnsembleClassifier", "SVMClassifier", "LinearClassifier"])
def test_classifiers_in_one_operator_are_refused_with_the_reason(op: str):
    with pytest.raises(ModelError, match="no hidden floating-point tensor") as caught:
        find_logits(GraphIndex(_closed(op)))
    assert op in caught.value.what
    assert caught.value.hint


def test_the_iris_regression_of_the_onnxruntime_wheel_is_refused():
    path = Path(onnxruntime.__file__).parent / "datasets" / "logreg_iris.onnx"
    with pytest.raises(ModelError, match="LinearClassifier"):
        find_logits(GraphIndex(onnx.load(path)))


def test_a_linear_classifier_on_a_hidden_layer_gives_its_raw_scores():
    net = NetBuilder()
    net.ml = True
    net.op("Relu", net.gemm("input", 4, 5), name="hidden")
    weights = {"coefficients": [0.1] * 15, "intercepts": [0.0] * 3, "classlabels_ints": [0, 1, 2]}
    names = ["label", "scores"]
    net.nodes.append(helper.make_node("LinearClassifier", ["hidden"], names, domain="ai.onnx.ml", **weights))
    proto = net.model({"input": (FLOAT, ("N", 4))}, {"scores": (FLOAT, ("N", 3))})
    assert find_logits(GraphIndex(proto)).name == "scores"
    proto.graph.output.append(value("label", TensorProto.INT64, ["N"]))
    with pytest.raises(ModelError, match="LinearClassifier"):
        find_logits(GraphIndex(proto))


def test_logits_inside_a_body_are_refused():
    branches = {}
    for branch in ("then_branch", "else_branch"):
        node = helper.make_node("Softmax", ["hidden"], [branch])
        branches[branch] = helper.make_graph([node], branch, [], [value(branch, FLOAT, None)])
    nodes = [
        helper.make_node("Relu", ["x"], ["hidden"]),
        helper.make_node("If", ["flag"], ["y"], **branches),
    ]
    inputs = [value("x", FLOAT, ["N", 3]), value("flag", TensorProto.BOOL, [])]
    graph = helper.make_graph(nodes, "g", inputs, [value("y", FLOAT, ["N", 3])])
    with pytest.raises(ModelError, match="inside the body of If"):
        find_logits(GraphIndex(helper.make_model(graph)))


def test_logits_inside_a_function_are_refused_with_the_remedy():
    opsets = [helper.make_opsetid("", 17)]
    body = [
        helper.make_node("Gemm", ["a", "w"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["b"]),
    ]
    function = helper.make_function("custom", "Head", ["a", "w"], ["b"], body, opsets)
    nodes = [
        helper.make_node("Relu", ["x"], ["h"]),
        helper.make_node("Head", ["h", "w"], ["y"], domain="custom"),
    ]
    w = numpy_helper.from_array(np.ones((3, 2), np.float32), "w")
    inputs, outputs = [value("x", FLOAT, ["N", 3])], [value("y", FLOAT, ["N", 2])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [w])
    imports = [*opsets, helper.make_opsetid("custom", 1)]
    proto = helper.make_model(graph, opset_imports=imports, functions=[function])
    with pytest.raises(ModelError, match="inside the function Head") as caught:
        find_logits(GraphIndex(proto))
    assert "inline" in caught.value.hint
    assert find_logits(GraphIndex(onnx.inliner.inline_local_functions(proto))).rule == "before Softmax"


def test_scores_at_every_position_have_the_softmax_axis_for_classes():
    net = NetBuilder()
    x = net.conv(net.op("Relu", net.conv("input", (3, 4))), (4, 5), kernel=1)
    net.op("Softmax", x, axis=1, name="segments")
    proto = net.model({"input": (FLOAT, ("N", 3, 8, 8))}, {"segments": (FLOAT, ("N", 5, 8, 8))})
    found = find_logits(GraphIndex(proto))
    assert (found.name, found.axis, found.rule) == (x, 1, "before Softmax")


@pytest.mark.parametrize(
    ("nodes", "kind", "shape", "what"),
    [
        ([helper.make_node("Softmax", ["x"], ["y"])], FLOAT, ["N", 3], "an input of the model"),
        ([helper.make_node("Cast", ["x"], ["y"], to=7)], TensorProto.INT64, ["N", 3], "not floating-point"),
        ([helper.make_node("ReduceSum", ["x"], ["y"])], FLOAT, ["N"], "no class axis"),
        ([helper.make_node("Softmax", ["h"], ["y"], axis=0)], FLOAT, ["N", 3], "over the samples"),
    ],
)
def test_what_is_no_classifier_is_refused(nodes: list, kind: int, shape: list, what: str):
    nodes = [helper.make_node("Relu", ["x"], ["h"]), *nodes]
    graph = helper.make_graph(nodes, "g", [value("x", FLOAT, ["N", 3])], [value("y", kind, shape)])
    with pytest.raises(ModelError, match=what) as caught:
        find_logits(GraphIndex(helper.make_model(graph)))
    assert caught.value.where
    assert caught.value.hint


def test_unknown_shapes_leave_the_layout_open():
    proto = cnn_1x1()
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    node = next(node for node in proto.graph.node if node.op_type == "GlobalAveragePool")
    node.op_type, node.domain = "Pool", "custom"
    logits = find_logits(GraphIndex(proto))
    assert (logits.name, logits.layout, logits.class_axis, logits.classes) == ("scores", None, None, None)


def test_the_model_of_every_test_case_in_the_onnx_wheel_is_answered_or_refused():
    folder = LIGHT.parent
    paths = sorted(
        p for kind in ("simple", "pytorch-converted") for p in (folder / kind).glob("*/model.onnx")
    )
    assert len(paths) > 50
    found = 0
    for path in paths:
        try:
            logits = find_logits(GraphIndex(onnx.load(path)))
        except ModelError as refusal:
            assert refusal.what
        else:
            found += 1
            assert logits.explain
    assert 0 < found < len(paths)


@pytest.mark.parametrize(
    ("steps", "unbounded"),
    [
        ((), True),
        (("Add", "Add"), True),
        (("Mul", "Add", "Neg"), True),
        (("Relu", "Mul"), True),
        (("Sigmoid",), False),
        (("Sigmoid", "Mul", "Add"), False),
        (("Softmax", "Neg", "Add"), False),
        (("Tanh", "Mul", "Add"), False),
    ],
)
def test_what_sums_and_factors_compute_from_a_layer_may_be_any_number(steps, unbounded):
    net = NetBuilder()
    name = net.gemm("input", 4, 3)
    for op in steps:
        name = net.op(op, name, net.const(0.5)) if op in ("Mul", "Add") else net.op(op, name)
    net.op("Identity", name, name="out")
    graph = GraphIndex(net.model({"input": (FLOAT, ("N", 4))}, {"out": (FLOAT, ("N", 3))}))
    assert is_unbounded(graph, "out") is unbounded


def test_a_label_beside_a_probability_of_its_own_scale_is_read_from_what_both_come_from():
    net = NetBuilder()
    z = net.gemm("input", 4, 1, name="z")
    net.op("Sigmoid", net.op("Mul", z, net.const(1.7)), name="p")
    net.op("Greater", "p", net.const(0.8), name="label")
    outputs = {"p": (FLOAT, ("N", 1)), "label": (TensorProto.BOOL, ("N", 1))}
    assert find_logits(GraphIndex(net.model({"input": (FLOAT, ("N", 4))}, outputs))).name == "z"


def test_a_state_that_is_handed_on_is_not_the_answer():
    """A voice detector for one sample at a time: its state (2, 1, 6) goes in and comes out."""
    net = NetBuilder()
    both = net.op("Concat", "input", net.op("Reshape", "state", net.ints(1, -1)), axis=1)
    hidden = net.op("Tanh", net.gemm(both, 20, 12))
    net.op("Reshape", hidden, net.ints(2, 1, 6), name="stateN")
    frames = net.op("Unsqueeze", net.op("Sigmoid", net.gemm(hidden, 12, 1)), net.ints(2))
    net.op("ReduceMean", frames, axes=[2], keepdims=0, name="output")
    inputs = {"input": (TensorProto.FLOAT, (1, 8)), "state": (TensorProto.FLOAT, (2, 1, 6))}
    outputs = {"output": (TensorProto.FLOAT, (1, 1)), "stateN": (TensorProto.FLOAT, (2, 1, 6))}
    assert find_logits(GraphIndex(net.model(inputs, outputs))).output == "output"


@pytest.mark.parametrize(
    ("layout", "shown", "axis", "classes"),
    [
        ("NCHW", ("N", "C", "H", "W"), 1, 5),
        ("NHWC", ("N", "H", "W", "C"), 3, 5),
        ("NTC", ("N", 9, 5), 2, 5),
        ("NCT", ("N", 5, 9), 1, 5),
        ("reshaped", ("N", "H", "W", "C"), None, None),
    ],
)
def test_raw_scores_have_the_axis_of_their_last_layers_channels(layout, shown, axis, classes):
    net, flat = NetBuilder(), layout in ("NTC", "NCT")
    if flat:
        scores = net.dense(net.op("Relu", net.dense("x", 4, 6)), 6, 5)
        scores = net.op("Transpose", scores, perm=[0, 2, 1]) if layout == "NCT" else scores
    else:
        scores = net.conv(net.op("Relu", net.conv("x", (3, 4))), (4, 5), kernel=1)
        sizes = net.op(
            "Cast", net.op("Mul", net.op("Cast", net.op("Shape", "x"), to=1), net.const(1.0)), to=7
        )
        nothing = net.const(np.zeros(0), np.float32)
        scores = (
            net.op("Resize", scores, nothing, nothing, sizes, mode="linear") if layout == "NCHW" else scores
        )
        scores = net.op("Transpose", scores, perm=[0, 2, 3, 1]) if layout == "NHWC" else scores
        if layout == "reshaped":
            scores = net.op("Reshape", scores, net.const([0, 4, -1, 5], np.int64))
    net.op("Add", scores, net.const(1.0), name="answer")
    given = ("N", 9, 4) if flat else ("N", 3, "H", "W")
    found = find_logits(GraphIndex(net.model({"x": (FLOAT, given)}, {"answer": (FLOAT, shown)})))
    assert found.axis == axis and (axis is None or found.shape[axis] == classes)
