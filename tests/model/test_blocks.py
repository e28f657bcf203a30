"""Which nodes are inside blocks: the same as by sets of nodes, in time that grows with the nodes."""

from __future__ import annotations

import random

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from onnxtweak.model.graph import GraphIndex
from onnxtweak.model.inspect.blocks import Blocks, _NeededBits, find_blocks


def value(name: str):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4])


def index(nodes, inputs, output) -> GraphIndex:
    one = numpy_helper.from_array(np.ones(1, np.float32), "one")
    return GraphIndex(
        helper.make_model(helper.make_graph(nodes, "g", list(map(value, inputs)), [value(output)], [one]))
    )


def a_body(read: list[str]):
    inner = helper.make_node("Sum", read, ["inner"])
    return helper.make_graph([inner], "body", [], [helper.make_tensor_value_info("inner", 1, None)])


def any_graph(seed: int) -> GraphIndex:
    """Rows, forks, joins of one to four tensors, nodes with two outputs, bodies and shapes, at random."""
    rng, names, nodes = random.Random(seed), ["x", "z"], []
    for k in range(rng.randint(3, 30)):
        operator = rng.choice(["Relu", "Neg", "Mul", "Concat", "Concat", "Split", "Shape", "If"])
        recent = names[-4:] if rng.random() < 0.8 else names
        read = [rng.choice([*recent, "one"]) for _ in range(rng.randint(1, 4))]
        made = [f"t{k}", f"u{k}"] if operator == "Split" else [f"t{k}"]
        if operator == "If":
            node = helper.make_node("If", read[:1], made, then_branch=a_body(read), else_branch=a_body(read))
        else:
            count = {"Mul": 2, "Concat": 4}.get(operator, 1)
            node = helper.make_node(operator, (read * 2)[:2] if count == 2 else read[:count], made)
        nodes.append(node)
        names += made
    nodes.append(helper.make_node("Concat", names[-6:], ["y"], axis=1))
    return index(nodes, ["x", "z"], "y")


def ordered(graph: GraphIndex) -> list[int]:
    needed = graph.ancestors([graph.outputs[0].name])
    return [position for position in graph.topological_order() if position in needed]


def by_sets(graph: GraphIndex) -> Blocks:
    """What the docstring of the module says, word by word."""
    needed = {each.name: frozenset([each.name]) for each in graph.inputs}
    outputs, inside = set(), set()
    for position in ordered(graph):
        node = graph.nodes[position]
        branches = [needed[name] for name in dict.fromkeys(node.input) if name in needed]
        if node.op_type == "Concat" and len(branches) > 1 and (common := frozenset.intersection(*branches)):
            outputs.add(node.output[0])
            inside |= frozenset.union(*branches) - common
        own = frozenset([position]).union(*(needed.get(name, ()) for name in graph.needs(position)))
        needed |= {name: own for name in node.output if graph.depends_on_input(name)}
    return Blocks(frozenset(outputs), frozenset(each for each in inside if isinstance(each, int)))


def test_the_same_as_by_sets():
    for seed in range(300):
        graph = any_graph(seed)
        assert find_blocks(graph, ordered(graph), frozenset()) == by_sets(graph), seed


def test_the_graphs_have_blocks():
    found = [by_sets(any_graph(seed)) for seed in range(300)]
    assert sum(bool(each.outputs) for each in found) > 100 and sum(bool(each.inside) for each in found) > 100


def test_deep_models_have_short_integers():
    """A row of nodes counts as one: 3,000 nodes between two joins are two bits."""
    nodes = [helper.make_node("Relu", ["x" if k == 0 else f"r{k - 1}"], [f"r{k}"]) for k in range(3000)]
    nodes += [
        helper.make_node("Concat", ["r2999", "x"], ["y"], axis=1),
        helper.make_node("Neg", ["y"], ["z"]),
    ]
    graph = index(nodes, ["x"], "z")
    needed = _NeededBits(graph, ordered(graph))
    for position in ordered(graph):
        read = needed.pass_node(position)
        assert all(bits.bit_length() <= 3 for bits in read.values())
    assert find_blocks(graph, ordered(graph), frozenset()).inside == frozenset(range(3000))
