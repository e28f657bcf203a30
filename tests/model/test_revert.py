"""Tweaks come off byte for byte, and only what they did is expected."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnxtweak.errors import ModelError, VerificationError
from onnxtweak.model.edit.diff import diff, only_the_splice
from onnxtweak.model.edit.revert import revert, rewriting
from onnxtweak.model.edit.splice import splice
from onnxtweak.model.file.model_file import parse, read_model
from onnxtweak.model.file.tweak_metadata import tweaks_inside
from onnxtweak.types import Tap
from tests.support import nets, tweaks

TAPS = [Tap("act1", "Relu", (16,)), Tap("act2", "Relu", (12,))]


def stacked(folder, count=2):
    """The files of a base and of 1 ... `count` tweaks put into it, one on the other."""
    files = [tweaks.saved(nets.mlp(tail="softmax"), folder)]
    for number in range(1, count + 1):
        tweak = tweaks.random_tweak(files[-1], TAPS, 4, seed=number)
        path = folder / f"tweaked{number}.onnx"
        path.write_bytes(splice(files[-1], replace(tweak, kind=f"kind{number}")))
        files.append(read_model(path))
    return files


def test_stacked_tweaks_add_up_and_come_off_one_by_one(tmp_path):
    base, one, two, three = stacked(tmp_path, 3)
    assert revert(three.data) == two.data and revert(two.data) == one.data and revert(one.data) == base.data
    assert revert(three.data, 2) == one.data
    assert revert(three.data, "all") == revert(three.data, 3) == base.data
    feeds = nets.random_inputs(base.proto, 3)
    shift = [
        np.log(tweaks.run(other.data, feeds)[0]) - np.log(tweaks.run(base.data, feeds)[0])
        for other in (one, two)
    ]
    assert not np.allclose(shift[0], shift[1], atol=1e-3)


def test_tweaks_inside_say_where_they_come_from(tmp_path):
    base, one, two = stacked(tmp_path)
    assert tweaks_inside(base.proto) == ()
    first, second = tweaks_inside(two.proto)
    assert (first.number, first.kind, first.file_sha256) == (1, "kind1", base.sha256)
    assert (second.number, second.kind, second.file_sha256) == (2, "kind2", one.sha256)
    assert first.logits == "logits" and first.classes == 4 and first.prefix == "onnxtweak/1/"
    assert first.provenance == {"data_sha256": "ab" * 32, "scale": 1.5}
    tweak = tweaks.random_tweak(base, TAPS, 4, seed=1)
    assert first.patch["weight"] == tweak.patch.weight.tolist()
    assert first.patch["target"] == tweak.patch.target.tolist() and len(first.patch["taps"]) == 2


def test_a_base_without_tweaks_cannot_be_reverted(tmp_path):
    base, one = stacked(tmp_path, 1)
    with pytest.raises(ModelError, match="no tweak inside"):
        revert(base.data)
    for steps in (0, 2, -1):
        with pytest.raises(ModelError, match="one tweak inside"):
            revert(one.data, steps)


def test_what_was_changed_after_the_tweak_is_not_reverted(tmp_path):
    base, one = stacked(tmp_path, 1)
    position = one.data.index(numpy_helper.to_array(base.proto.graph.initializer[0]).tobytes())
    changed = bytearray(one.data)
    changed[position] ^= 1
    with pytest.raises(VerificationError, match="byte for byte") as caught:
        revert(bytes(changed))
    assert base.sha256[:12] in caught.value.what
    proto = parse(one.data)
    proto.producer_name = "someone else's tool, with a longer name"
    with pytest.raises(VerificationError):
        revert(proto.SerializeToString())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("undo", "{}"), ("undo", '{"length":-1,"edits":[]}'), ("undo", '{"length":9999999,"edits":[]}'),
        ("undo", '{"length":50,"edits":[[0,1]]}'), ("undo", '{"length":50,"edits":[[0,1,"%"]]}'),
        ("undo", '{"length":50,"edits":[[40,20,""]]}'), ("undo", '{"length":50,"edits":[]}'),
        ("undo", '{"length":50,"edits":5}'), ("undo", '{"length":1e999,"edits":[]}'),
        ("undo", '{"length":50,"edits":[[1e999,1,""]]}'), ("undo", '{"length":50,"edits":[[0,1,5]]}'),
    ],
)  # fmt: skip
def test_a_record_that_does_not_fit_is_no_proof(tmp_path, name, value):
    _, one = stacked(tmp_path, 1)
    with pytest.raises(VerificationError):
        revert(with_metadata(one.proto, f"onnxtweak.1.{name}", value).SerializeToString())


@pytest.mark.parametrize(
    ("name", "value"),
    [("undo", "["), ("undo", "[" * 100_000), ("undo", "7"), ("patch", "[]"), ("classes", '"x"'),
     ("classes", "1e999"), ("provenance", "null"), ("scale", "[]")],
)  # fmt: skip
def test_a_damaged_record_is_refused(tmp_path, name, value):
    _, one = stacked(tmp_path, 1)
    proto = with_metadata(one.proto, f"onnxtweak.1.{name}", value)
    for attempt in (lambda: tweaks_inside(proto), lambda: revert(proto.SerializeToString())):
        with pytest.raises(ModelError, match="damaged"):
            attempt()


def test_a_missing_record_is_refused(tmp_path):
    _, _, two = stacked(tmp_path)
    proto = onnx.ModelProto()
    proto.CopyFrom(two.proto)
    kept = [entry for entry in proto.metadata_props if not entry.key.startswith("onnxtweak.1.")]
    del proto.metadata_props[:]
    proto.metadata_props.extend(kept)
    with pytest.raises(ModelError, match="missing"):
        tweaks_inside(proto)


def test_metadata_of_others_is_not_ours():
    proto = nets.mlp()
    for key in ("onnxtweak", "onnxtweak.note", "onnxtweak.0.kind", "onnxtweak.x.kind", "other"):
        proto.metadata_props.add(key=key, value="v")
    assert tweaks_inside(proto) == ()


def with_metadata(proto, key, value):
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    (entry,) = (entry for entry in copy.metadata_props if entry.key == key)
    entry.value = value
    return copy


def test_diff_of_equal_models_is_empty_and_of_a_tweak_only_the_splice(tmp_path):
    base, one, two = stacked(tmp_path)
    assert diff(base.data, base.proto) == ()
    for before, after in ((base, one), (one, two), (base, two)):
        differences = diff(before.data, after.data)
        assert only_the_splice(differences) and differences
        (change,) = (difference for difference in differences if difference.kind == "changed")
        assert change.where.startswith("graph.node[") and change.where.endswith("].output")
        assert change.detail.startswith("['logits'] -> ['onnxtweak/")
    assert not only_the_splice(diff(one.data, base.data))


def edited(proto, edit):
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    edit(copy)
    return copy


def swap_nodes(proto):
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend([nodes[1], nodes[0], *nodes[2:]])


def add_function(proto):
    node = helper.make_node("Relu", ["a"], ["b"])
    proto.functions.append(
        helper.make_function("d", "F", ["a"], ["b"], [node], [helper.make_opsetid("", 17)])
    )


def change_weight(proto):
    tensor = proto.graph.initializer[1]
    tensor.raw_data = b"\x01" + tensor.raw_data[1:]


EDITS = [
    (change_weight, "changed", "graph.initializer[weight_2]"),
    (lambda p: p.graph.node[0].attribute[0].CopyFrom(helper.make_attribute("transB", 0)), "changed",
     "graph.node[Gemm gemm_3].attribute[transB].i"),
    (lambda p: p.graph.node[0].attribute.append(helper.make_attribute("alpha", float("nan"))), "added",
     "graph.node[Gemm gemm_3].attribute[alpha]"),
    (lambda p: p.graph.node[1].ClearField("input"), "changed", "graph.node[Relu act1].input"),
    (lambda p: p.graph.node.pop(), "removed", "graph.node["),
    (lambda p: p.graph.node.append(helper.make_node("Neg", ["act1"], ["n"])), "added", "graph.node[Neg n]"),
    (swap_nodes, "reordered", "graph.node"),
    (lambda p: p.graph.initializer.pop(0), "removed", "graph.initializer["),
    (lambda p: p.graph.input[0].type.tensor_type.shape.dim[1].ClearField("dim_value"), "removed",
     "graph.input[input].type.tensor_type.shape.dim"),
    (lambda p: p.graph.output.add(name="act1"), "added", "graph.output[act1]"),
    (lambda p: setattr(p.opset_import[0], "version", 18), "changed", "opset_import[].version"),
    (lambda p: p.opset_import.add(domain="custom", version=1), "added", "opset_import[custom]"),
    (lambda p: setattr(p, "producer_name", "x"), "changed", "producer_name"),
    (lambda p: setattr(p, "doc_string", "x"), "added", "doc_string"),
    (lambda p: setattr(p, "ir_version", 7), "changed", "ir_version"),
    (lambda p: p.metadata_props.add(key="k", value="v"), "added", "metadata_props[k]"),
    (add_function, "added", "functions[F]"),
    (lambda p: p.MergeFromString(b"\xfa\x3e\x01x"), "changed", "model"),
    (lambda p: p.graph.node[2].MergeFromString(b"\xfa\x3e\x01x"), "changed", "graph.node["),
    (lambda p: p.graph.value_info.add(name="act1"), "added", "graph.value_info[act1]"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "kind", "where"), EDITS)
def test_diff_names_whatever_else_is_different(tmp_path, edit, kind, where):
    base, one = stacked(tmp_path, 1)
    (difference,) = diff(base.proto, edited(base.proto, edit))
    assert (difference.kind, difference.expected) == (kind, False)
    assert difference.where.startswith(where) and difference.detail
    differences = diff(base.proto, edited(one.proto, edit))
    assert not only_the_splice(differences)
    assert sum(not difference.expected for difference in differences) >= 1


def test_diff_sees_inside_bodies_and_functions(tmp_path):
    def with_body(op):
        body = helper.make_graph(
            [helper.make_node(op, ["x"], ["b"])], "body", [], [helper.make_empty_tensor_value_info("b")]
        )
        node = helper.make_node("If", ["c"], ["y"], name="branch", then_branch=body, else_branch=body)
        graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", 1, [1])], [])
        model = helper.make_model(graph)
        inner = helper.make_node(op, ["p"], ["q"])
        model.functions.append(
            helper.make_function("d", "F", ["p"], ["q"], [inner], [helper.make_opsetid("", 17)])
        )
        return model

    where = sorted(difference.where for difference in diff(with_body("Relu"), with_body("Neg")))
    assert where == [
        "functions[F].node[Relu q].op_type",
        "graph.node[If branch].attribute[else_branch].g.node[Relu b].op_type",
        "graph.node[If branch].attribute[then_branch].g.node[Relu b].op_type",
    ]


def test_diff_treats_nan_as_itself_and_tells_zeros_apart():
    def constant(value):
        node = helper.make_node("Constant", [], ["c"], value_float=value)
        return helper.make_model(
            helper.make_graph([node], "g", [], [helper.make_empty_tensor_value_info("c")])
        )

    assert diff(constant(float("nan")), constant(float("nan"))) == ()
    assert len(diff(constant(0.0), constant(-0.0))) == 1


def test_a_renamed_output_that_no_tweak_accounts_for_is_not_expected(tmp_path):
    base, one = stacked(tmp_path, 1)

    def rename(proto):
        node = next(node for node in proto.graph.node if "act2" in node.output)
        node.output[0] = "onnxtweak/1/other"

    assert not only_the_splice(diff(base.proto, edited(one.proto, rename)))


def test_what_another_tool_did_to_a_file_is_told_with_a_record_or_without(tmp_path):
    base, file = stacked(tmp_path, 1)
    assert rewriting(base, ()) == rewriting(file, tweaks_inside(file.proto)) == ""
    proto = parse(file.data)
    proto.producer_name = "another tool"
    again = base.holding(proto.SerializeToString())
    assert "as it was" in rewriting(again, tweaks_inside(again.proto))
    del proto.metadata_props[:]
    again = base.holding(proto.SerializeToString())
    assert "without the record" in rewriting(again, ())
