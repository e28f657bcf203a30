"""Are the hidden tensors found, and does each selector mean what the documentation says?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from onnxtweak.errors import ModelError, UsageError
from onnxtweak.model.graph import GraphIndex
from onnxtweak.model.inspect.layer_inputs import front_names, penultimate_name
from onnxtweak.model.inspect.logits import find_logits
from onnxtweak.model.inspect.taps import TapCandidate, candidates, select
from onnxtweak.types import Tap
from tests.support.nets import (
    LIGHT,
    NetBuilder,
    add_activation,
    cnn3,
    cnn_1x1,
    densenet40,
    mlp,
    random_inputs,
    resnet20,
    round_pools_up,
    se_net,
    transformer,
)
from tests.support.plain_session import plain_session

SHARED_CNN3 = Path(__file__).resolve().parents[2] / ".." / "shared" / "models" / "cnn3_cifar10.onnx"
FLOAT = TensorProto.FLOAT


def _measure(proto: ModelProto, found: tuple[TapCandidate, ...], n: int = 2) -> dict:
    """Element type and per-sample shape of every candidate, from a run; None where it is not batch-major."""
    shown = ModelProto()
    shown.CopyFrom(proto)
    outputs = {output.name for output in shown.graph.output}
    shown.graph.output.extend(onnx.ValueInfoProto(name=c.name) for c in found if c.name not in outputs)
    samples = random_inputs(proto, n)
    count = len(next(iter(samples.values())))
    session = plain_session(shown.SerializeToString())
    arrays = session.run([c.name for c in found], samples) if found else []
    return {
        c.name: (str(a.dtype), a.shape[1:]) if a.dtype.kind == "f" and a.shape[:1] == (count,) else None
        for c, a in zip(found, arrays, strict=True)
    }


def _taps(proto: ModelProto, *selectors: str, pools: Sequence[str] = ("none",)) -> tuple[Tap, ...]:
    graph, logits = GraphIndex(proto), find_logits(GraphIndex(proto)).name
    found = candidates(GraphIndex(proto), logits)
    penultimate = penultimate_name(graph, logits)
    return select(found, _measure(proto, found), selectors, pools, penultimate, graph)


def _neurons(taps: tuple[Tap, ...]) -> int:
    return sum(tap.neurons for tap in taps)


def test_the_thesis_counts_its_cnn_by_activations():
    assert _neurons(_taps(cnn3(), "activations")) == 45_056


def test_the_thesis_counts_the_cnn_trained_on_cifar_10_by_activations():
    if not SHARED_CNN3.exists():
        pytest.skip("the shared model is not on this machine")
    assert _neurons(_taps(onnx.load(SHARED_CNN3), "activations")) == 45_056


def test_the_thesis_counts_resnet_20_by_stages():
    taps = _taps(resnet20(), "stages")
    assert [tap.name for tap in taps] == ["stage1_block3", "stage2_block3", "stage3_block3"]
    assert _neurons(taps) == 28_672


def test_the_thesis_counts_densenet_40_by_stages():
    taps = _taps(densenet40(), "stages")
    assert [tap.shape for tap in taps] == [(160, 32, 32), (304, 16, 16), (448, 8, 8)]
    assert _neurons(taps) == 270_336


def test_the_thesis_counts_googlenet_by_name():
    original = round_pools_up(onnx.load(LIGHT / "light_inception_v1.onnx"))
    taps = _taps(original, "r2", "r9", "op:Concat")
    assert len(taps) == 11
    assert _neurons(taps) == 1_586_816


def test_the_wheel_s_own_googlenet_rounds_its_pooled_sizes_down():
    taps = _taps(onnx.load(LIGHT / "light_inception_v1.onnx"), "r2", "r9", "op:Concat")
    assert taps[0].shape == (64, 55, 55)
    assert _neurons(taps) == 1_426_352


def test_candidates_are_hidden_in_order_and_before_the_logits():
    proto = cnn3(size=8, channels=(2, 2, 2), tail="softmax")
    found = candidates(GraphIndex(proto), "logits")
    names = [item.name for item in found]
    assert names == [
        *("conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "conv3", "relu3", "pool3", "flat")
    ]
    assert [item.name for item in found if item.activation] == ["relu1", "relu2", "relu3"]
    assert [item.position for item in found] == list(range(10))
    assert not any(item.block for item in found)


def test_candidates_of_an_unsorted_model_come_in_topological_order():
    proto = cnn3(size=8, channels=(2, 2, 2))
    nodes = list(reversed(proto.graph.node))
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    found = candidates(GraphIndex(proto), "logits")
    assert [item.name for item in found][:3] == ["conv1", "relu1", "pool1"]
    assert [item.position for item in found] == sorted((item.position for item in found), reverse=True)


def test_weights_made_by_nodes_are_no_candidates():
    proto = onnx.load(LIGHT / "light_squeezenet.onnx")
    assert all(
        item.op != "ConstantOfShape"
        for item in candidates(GraphIndex(proto), find_logits(GraphIndex(proto)).name)
    )


def test_integers_and_shapes_are_no_candidates():
    ops = {
        item.op for item in candidates(GraphIndex(cnn3(size=8, tail="decomposed-tf2onnx")), "probabilities")
    }
    assert "Exp" in ops
    assert not ops & {"Shape", "Slice"}


@pytest.mark.parametrize(
    "kind",
    [
        *("Relu", "LeakyRelu", "Elu", "Selu", "Celu", "HardSwish", "Tanh", "Sigmoid", "Softplus", "Mish"),
        *("ThresholdedRelu", "Softsign", "HardSigmoid"),
        *("Swish", "Gelu-erf", "Gelu-tanh", "HardSwish-clip", "Mish-decomposed", "Relu-max"),
    ],
)
def test_every_activation_is_tapped_once_at_its_end(kind: str):
    proto = mlp(activation=kind, opset=18)
    assert [tap.name for tap in _taps(proto, "activations")] == ["act1", "act2"]


def _clipped(low: float | None, high: float | None) -> ModelProto:
    net = NetBuilder()
    x = net.op("Relu", net.gemm("input", 8, 6), name="relu")
    bounds = [net.const(low) if low is not None else "", net.const(high) if high is not None else ""]
    x = net.op("Clip", net.gemm(x, 6, 6), *bounds, name="clipped")
    net.gemm(x, 6, 3, name="logits")
    return net.model({"input": (FLOAT, ("N", 8))}, {"logits": (FLOAT, ("N", 3))})


@pytest.mark.parametrize(
    ("low", "high", "activation"),
    [
        (0.0, 6.0, True),
        (-1.0, 1.0, True),
        (0.0, None, True),
        (1e-6, None, False),
        (-65504.0, 65504.0, False),
    ],
)
def test_a_clip_is_an_activation_when_it_shapes_values(low: float, high: float, activation: bool):
    names = [tap.name for tap in _taps(_clipped(low, high), "activations")]
    assert names == (["relu", "clipped"] if activation else ["relu"])


def test_squeeze_and_excite_gates_are_no_maps():
    assert [tap.name for tap in _taps(se_net(), "activations")] == ["swish"]
    assert [tap.name for tap in _taps(se_net(), "stages")] == ["swish"]


def test_a_gated_linear_unit_is_tapped_at_its_product():
    net = NetBuilder()
    gate = net.op("Sigmoid", net.gemm("input", 8, 6), name="gate")
    x = net.op("Mul", net.gemm("input", 8, 6), gate, name="gated")
    net.gemm(x, 6, 3, name="logits")
    proto = net.model({"input": (FLOAT, ("N", 8))}, {"logits": (FLOAT, ("N", 3))})
    assert [tap.name for tap in _taps(proto, "activations")] == ["gated"]


def test_the_guard_of_a_variance_is_no_activation():
    net = NetBuilder()
    x = net.op("Relu", net.gemm("input", 8, 6), name="relu")
    variance = net.op("Max", net.const(0.0), net.reduce("ReduceMean", net.op("Mul", x, x), 1))
    deviation = net.op("Sqrt", net.op("Add", variance, net.const(1e-5)))
    net.gemm(net.op("Div", x, deviation), 6, 3, name="logits")
    proto = net.model({"input": (FLOAT, ("N", 8))}, {"logits": (FLOAT, ("N", 3))})
    assert [tap.name for tap in _taps(proto, "activations")] == ["relu"]


def test_in_a_transformer_attention_and_its_mask_are_no_taps_but_sums_are_blocks():
    assert [tap.name for tap in _taps(transformer(), "activations")] == ["mlp"]
    assert [tap.name for tap in _taps(transformer(), "blocks")] == ["attended", "block"]
    assert [tap.name for tap in _taps(transformer(), "stages")] == ["block"]


def test_without_any_activation_the_error_offers_operators():
    with pytest.raises(ModelError, match="no activation") as caught:
        _taps(mlp(activation=""), "activations")
    assert "op:Gemm" in caught.value.hint


def test_residual_blocks_end_at_the_relu_after_the_sum():
    taps = _taps(resnet20(), "blocks")
    assert [tap.name for tap in taps] == [f"stage{s}_block{b}" for s in (1, 2, 3) for b in (1, 2, 3)]


def test_dense_blocks_end_at_each_concat():
    assert {tap.op for tap in _taps(densenet40(), "blocks")} == {"Concat"}
    assert len(_taps(densenet40(), "blocks")) == 36


def test_the_formula_of_a_gelu_is_no_residual_sum():
    with pytest.raises(ModelError, match="no residual, dense or inception block"):
        _taps(mlp(activation="Gelu-tanh"), "blocks")


def test_a_pre_activation_sum_that_others_read_is_the_block_itself():
    net = NetBuilder()
    x = net.conv("input", (3, 4))
    for block in (1, 2):
        x = net.op("Add", x, net.conv(net.op("Relu", x), (4, 4)), name=f"sum{block}")
    x = net.op("Flatten", net.op("GlobalAveragePool", net.op("Relu", x)))
    net.gemm(x, 4, 3, name="logits")
    proto = net.model({"input": (FLOAT, ("N", 3, 8, 8))}, {"logits": (FLOAT, ("N", 3))})
    first = _taps(proto, "blocks")[0]
    assert (first.name, first.op) == ("sum1", "Add")


def test_a_sum_followed_by_a_written_out_swish_ends_there():
    net = NetBuilder()
    x = net.op("Relu", net.conv("input", (3, 4)))
    x = add_activation(net, net.op("Add", x, net.conv(x, (4, 4))), "Swish", name="swish")
    net.gemm(net.op("Flatten", net.op("GlobalAveragePool", x)), 4, 3, name="logits")
    proto = net.model({"input": (FLOAT, ("N", 3, 8, 8))}, {"logits": (FLOAT, ("N", 3))})
    assert [tap.name for tap in _taps(proto, "blocks")] == ["swish"]


def test_a_stage_ends_at_its_block_not_inside_the_next_block():
    """A bottleneck that halves the size in its second convolution still has an activation at the old size."""
    net = NetBuilder()
    x = net.op("Relu", net.conv("input", (3, 4)))
    x = net.op("Relu", net.op("Add", x, net.conv(x, (4, 4))), name="stage1")
    y = net.conv(net.op("Relu", net.conv(x, (4, 4), kernel=1), name="inside"), (4, 4), stride=2)
    x = net.op("Relu", net.op("Add", y, net.conv(x, (4, 4), kernel=1, stride=2)), name="stage2")
    net.gemm(net.op("Flatten", net.op("GlobalAveragePool", x)), 4, 3, name="logits")
    proto = net.model({"input": (FLOAT, ("N", 3, 8, 8))}, {"logits": (FLOAT, ("N", 3))})
    assert [tap.name for tap in _taps(proto, "stages")] == ["stage1", "stage2"]


def test_a_model_without_maps_has_no_stages():
    with pytest.raises(ModelError, match="no stages"):
        _taps(mlp(), "stages")


@pytest.mark.parametrize(
    ("proto", "name"),
    [
        (mlp(), "act2"),
        (mlp(tail="softmax"), "act2"),
        (cnn3(size=8), "pool3"),
        (cnn_1x1(tail="flatten-softmax"), "pooled"),
        (transformer(), "pooled"),
        (onnx.load(LIGHT / "light_squeezenet.onnx"), "r60"),
        (onnx.load(LIGHT / "light_inception_v1.onnx"), "r138"),
    ],
    ids=["mlp", "mlp-softmax", "cnn3", "cnn-1x1", "transformer", "squeezenet", "inception"],
)
def test_penultimate_is_the_tensor_that_feeds_the_last_layer(proto: ModelProto, name: str):
    assert penultimate_name(GraphIndex(proto), find_logits(GraphIndex(proto)).name) == name
    assert [tap.name for tap in _taps(proto, "penultimate")] == [name]


def test_the_front_is_what_the_graph_makes_for_its_first_layers():
    net = NetBuilder()
    scaled = net.op("Mul", "input", net.const(2.0), name="scaled")
    first = [
        net.op("Relu", net.gemm(read, 8, 6), name=name) for read, name in ((scaled, "a"), ("input", "b"))
    ]
    deep = net.op("Relu", net.gemm(net.op("Add", *first, name="sum"), 6, 6), name="deep")
    net.gemm(deep, 6, 3, name="logits")
    proto = net.model({"input": (FLOAT, ("N", 8))}, {"logits": (FLOAT, ("N", 3))})
    assert front_names(GraphIndex(proto), ["deep", "b", "a"]) == {"scaled"}
    assert [tap.name for tap in _taps(proto, "front")] == ["scaled"]
    with pytest.raises(ModelError, match="read the model's input as it is"):
        _taps(mlp(), "front")


def test_penultimate_of_a_model_without_a_hidden_layer_is_refused():
    proto = mlp(hidden=())
    assert penultimate_name(GraphIndex(proto), "logits") is None
    with pytest.raises(ModelError, match="no hidden floating-point tensor"):
        _taps(proto, "penultimate")


def test_penultimate_is_refused_when_two_layers_make_the_logits():
    net = NetBuilder()
    x, y = (net.op("Relu", net.gemm("input", 8, 6)) for _ in range(2))
    net.op("Add", net.gemm(x, 6, 3), net.gemm(y, 6, 3), name="logits")
    proto = net.model({"input": (FLOAT, ("N", 8))}, {"logits": (FLOAT, ("N", 3))})
    with pytest.raises(ModelError, match="no single hidden tensor"):
        _taps(proto, "penultimate")


FOUND = tuple(
    TapCandidate(name, op, place, activation=op == "Relu", block=False)
    for place, (name, op) in enumerate(
        [
            ("a[0]/conv", "Conv"),
            ("a[0]/relu", "Relu"),
            ("a[1]/relu", "Relu"),
            ("b/relu", "Relu"),
            ("ids", "Add"),
        ]
    )
)
SHAPES = {
    "a[0]/conv": ("float32", (4, 8, 8)),
    "a[0]/relu": ("float32", (4, 8, 8)),
    "a[1]/relu": ("float16", (6, 4, 4)),
    "b/relu": ("float32", (5,)),
    "ids": None,
}


@pytest.mark.parametrize(
    ("selectors", "names"),
    [
        (["a[0]/relu"], ["a[0]/relu"]),
        (["a[0]/*"], ["a[0]/conv", "a[0]/relu"]),
        (["a[[]?]/relu"], ["a[0]/relu", "a[1]/relu"]),
        (["*/relu"], ["a[0]/relu", "a[1]/relu", "b/relu"]),
        (["op:RELU", "op:conv"], ["a[0]/conv", "a[0]/relu", "a[1]/relu", "b/relu"]),
        (["b/relu", "a[0]/conv", "b/*"], ["a[0]/conv", "b/relu"]),
        (["*"], ["a[0]/conv", "a[0]/relu", "a[1]/relu", "b/relu"]),
        (["stages"], ["a[0]/relu", "a[1]/relu"]),
    ],
)
def test_selectors_unite_in_node_order_without_repeats(selectors: list[str], names: list[str]):
    assert [tap.name for tap in select(FOUND, SHAPES, selectors)] == names


@pytest.mark.parametrize(
    ("selector", "what", "hint"),
    [
        ("b/rellu", "no hidden tensor", "b/relu"),
        ("activation", "no hidden tensor", "activations"),
        ("op:Rellu", "no hidden floating-point tensor comes from this operator", "op:Relu"),
        ("ids", "cannot be tapped", "inspect"),
        ("blocks", "no residual", "--taps activations"),
    ],
)
def test_a_selector_that_matches_nothing_says_what_is_near(selector: str, what: str, hint: str):
    with pytest.raises(ModelError, match=what) as caught:
        select(FOUND, SHAPES, ["activations", selector])
    assert hint in caught.value.hint
    assert selector in caught.value.where


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("input", "an input"),
        ("weight_1", "a constant"),
        ("logits", "is the logits"),
        ("nothing", "has this name"),
    ],
)
def test_names_that_are_no_hidden_tensors_are_refused_with_the_reason(name: str, what: str):
    proto = mlp()
    name = proto.graph.initializer[0].name if name == "weight_1" else name
    found = candidates(GraphIndex(proto), "logits")
    with pytest.raises(ModelError, match=what):
        select(found, _measure(proto, found), [name], graph=GraphIndex(proto))


def test_a_model_without_any_hidden_float_tensor_is_refused():
    with pytest.raises(ModelError, match="no hidden floating-point tensor"):
        select((), {}, ["activations"])
    with pytest.raises(ModelError, match="no hidden floating-point tensor"):
        select(FOUND, dict.fromkeys(SHAPES), ["activations"])


def test_pooling_counts_channels_and_leaves_vectors_alone():
    taps = select(FOUND, SHAPES, ["activations"], pools=["mean"])
    assert [(tap.pool, tap.channel_axis, tap.neurons, tap.dtype) for tap in taps] == [
        ("mean", 0, 4, "float32"),
        ("mean", 0, 6, "float16"),
        ("none", 0, 5, "float32"),
    ]
    every = select(FOUND, SHAPES, ["activations"], pools=["mean", "std", "grid2"])
    assert [tap.pool for tap in every] == ["mean", "std", "grid2"] * 2 + ["none"]
    assert [tap.neurons // taps[0].neurons for tap in every[:3]] == [1, 1, 4]
    with pytest.raises(UsageError, match="pooling"):
        select(FOUND, SHAPES, ["activations"], pools=["median"])


def test_tokens_have_their_channels_last_and_one_dimensional_convolutions_first():
    (tap,) = _taps(transformer(), "activations", pools=["max"])
    assert (tap.shape, tap.channel_axis, tap.neurons) == ((6, 16), 1, 16)
    net = NetBuilder()
    weight = net.const(np.random.default_rng(0).normal(0, 1, (4, 3, 3)))
    x = net.op("Relu", net.op("Conv", "input", weight), name="map")
    x = net.op("Transpose", x, perm=[0, 2, 1], name="turned")
    net.gemm(net.op("Flatten", x), 4 * 8, 3, name="logits")
    proto = net.model({"input": (FLOAT, ("N", 3, 10))}, {"logits": (FLOAT, ("N", 3))})
    taps = _taps(proto, "map", "turned", pools=["mean"])
    assert [(tap.shape, tap.channel_axis, tap.neurons) for tap in taps] == [((4, 8), 0, 4), ((8, 4), 1, 4)]


def test_a_tensor_inside_a_body_is_refused_by_name():
    inner = helper.make_node("Relu", ["input"], ["inside"])
    body = helper.make_graph([inner], "body", [], [helper.make_tensor_value_info("inside", FLOAT, None)])
    proto = mlp()
    proto.graph.initializer.append(helper.make_tensor("flag", TensorProto.BOOL, [], [True]))
    node = helper.make_node("If", ["flag"], ["chosen"], then_branch=body, else_branch=body)
    proto.graph.node.append(node)
    found = candidates(GraphIndex(proto), "logits")
    shapes = {item.name: ("float32", (4,)) for item in found}
    with pytest.raises(ModelError, match="inside an If, Loop, Scan or function"):
        select(found, shapes, ["inside"], graph=GraphIndex(proto))
