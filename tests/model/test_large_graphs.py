"""Graphs of very many nodes: what is looked at is bounded, and memory grows with nodes, not their square."""

from __future__ import annotations

import tracemalloc

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from onnxtweak.model.graph import GraphIndex
from onnxtweak.model.inspect import taps
from onnxtweak.model.inspect.taps import candidates, candidates_note


def chain(layers: int) -> GraphIndex:
    """x -> (Add, Relu) many times, each Add joined to its own input's Relu -> logits."""
    nodes, last = [], "x"
    for k in range(layers):
        nodes.append(helper.make_node("Add", [last, "one"], [f"a{k}"]))
        nodes.append(helper.make_node("Relu", [f"a{k}"], [f"r{k}"]))
        last = f"r{k}"
    nodes.append(helper.make_node("MatMul", [last, "W"], ["logits"]))
    constants = [
        numpy_helper.from_array(np.ones((4, 3), np.float32), "W"),
        numpy_helper.from_array(np.float32(1), "one"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in ("x", "logits")]
    return GraphIndex(helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:], constants)))


def test_memory_grows_with_the_nodes_not_with_their_square(monkeypatch):
    monkeypatch.setattr(taps, "MOST_CANDIDATES", 4_000)
    graph = chain(2_000)
    graph.depends_on_input("x")
    tracemalloc.start()
    try:
        found = candidates(graph, "logits")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found) == taps.MOST_CANDIDATES
    assert peak < 5e6  # with a set of nodes for each tensor it would be more


def test_of_many_tensors_the_last_are_looked_at(monkeypatch):
    whole = candidates(chain(20), "logits")
    assert candidates_note(whole) == ()
    monkeypatch.setattr(taps, "MOST_CANDIDATES", 8)
    found = candidates(chain(20), "logits")
    assert found == whole[-8:]
    assert candidates_note(found) == ("only the last 8 hidden tensors before the logits are looked at",)
