"""A changed bit of what a tweak added is found; what another tool stored differently is not a change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from onnxtweak.errors import ModelError
from onnxtweak.model.edit.diff import diff, only_the_splice
from onnxtweak.model.edit.digests import bytes_changed, deviations
from onnxtweak.model.edit.revert import revert
from onnxtweak.model.edit.slot import with_slot
from onnxtweak.model.edit.splice import splice
from onnxtweak.model.file.model_file import parse, read_model
from onnxtweak.model.file.tweak_metadata import tweaks_inside
from onnxtweak.model.logits_format import LogitsFormat
from onnxtweak.types import Tap
from tests.support import nets, tweaks
from tests.support.damage import bits_flipped, without_digests
from tests.support.tweaks import FILES_OF_FORM_1

TAPS = [Tap("act1", "Relu", (16,)), Tap("act2", "Relu", (12,))]


def made(kind, folder, **options):
    """The file that a tweak or slot was put into, and the file with it."""
    base = tweaks.saved(nets.mlp(**options), folder)
    if kind == "slot":
        return base, with_slot(base, TAPS, logits="logits", classes=4, bias=True)
    if kind == "stacked":
        base = base.holding(splice(base, tweaks.random_tweak(base, TAPS, 4, "mlp")))
        return base, splice(base, tweaks.random_tweak(base, TAPS, 4, seed=1))
    patch = "synapses" if kind == "shadow" else kind
    return base, splice(base, tweaks.random_tweak(base, TAPS, 4, patch), shadow=kind == "shadow")


def found_by_diff(base, data):
    return not only_the_splice(diff(base.proto, data))


def found_by_digests(data):
    proto = parse(data)
    try:
        inside = tweaks_inside(proto)
    except ModelError:
        return True  # the record is damaged, and says so
    if not inside or inside[-1].digests is None:
        return False
    return bool(deviations(proto, inside)) or bytes_changed(data, proto, inside[-1])


@pytest.mark.parametrize("kind", ["synapses", "linear", "mlp", "shadow", "slot", "stacked"])
def test_every_bit_counts(kind, tmp_path):
    """Flips in all that was added: arrays, nodes, declarations and every field of the record."""
    base, data = made(kind, tmp_path)
    assert not found_by_digests(data) and not found_by_diff(base, data)
    parsed = 0
    for damaged in bits_flipped(base.data, data, 300, seed=len(kind)):
        try:
            parse(damaged)
        except ModelError:
            continue
        parsed += 1
        assert found_by_diff(base, damaged)
    assert parsed > 180


def test_empty_arrays_of_a_slot_have_bytes_too():
    """A flip can leave the same values: of an empty array stored as something else nothing is lost.

    Slots of the first form have empty arrays.
    """
    data = (FILES_OF_FORM_1 / "slot.onnx").read_bytes()
    place = data.index(b"\x4a\x00")  # raw_data, of no bytes
    changed = data[:place] + b"\x5a" + data[place + 1 :]
    assert deviations(parse(changed), tweaks_inside(parse(changed))) == ()
    assert found_by_digests(changed) and not found_by_digests(data)


@pytest.mark.parametrize("ir", [3, 8])
def test_the_parts_that_changed_are_named(ir, tmp_path):
    _, data = made("stacked", tmp_path, ir=ir, opset=9)
    proto = parse(data)
    arrays = {tensor.name: tensor for tensor in proto.graph.initializer}
    nodes = {node.name: node for node in proto.graph.node}
    bias = arrays["onnxtweak/1/b2"]
    bias.raw_data = np.full(4, 1e6, np.float32).tobytes()
    nodes["onnxtweak/2/values"].input[:] = reversed(nodes["onnxtweak/2/values"].input)
    proto.graph.initializer.remove(arrays["onnxtweak/2/weight"])
    proto.graph.initializer.append(numpy_helper.from_array(np.ones(3), "onnxtweak/1/more"))
    assert {str(found) for found in deviations(proto, tweaks_inside(proto))} == {
        "array onnxtweak/1/b2 of tweak 1 was changed",
        "array onnxtweak/1/more of tweak 1 was added",
        "array onnxtweak/2/weight of tweak 2 is missing",
        "node onnxtweak/2/values of tweak 2 was changed",
    }
    entry = next(entry for entry in proto.metadata_props if entry.key == "onnxtweak.2.provenance")
    entry.value = '{"data_sha256":"0"}'
    assert "the record of tweak 2 was changed" in map(str, deviations(proto, tweaks_inside(proto)))


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "bfloat16"])
def test_values_count_and_not_how_they_are_stored(dtype, tmp_path):
    wide = "float32" if dtype == "bfloat16" else dtype
    base = tweaks.saved(nets.mlp(dtype=np.dtype(wide).type), tmp_path)
    taps = [replace(tap, dtype=wide) for tap in TAPS]
    tweak = tweaks.random_tweak(base, taps, 4, "linear")
    proto = parse(splice(base, tweak, LogitsFormat(dtype=dtype)))
    for tensor in proto.graph.initializer:
        typed = onnx.helper.make_tensor(
            tensor.name, tensor.data_type, tensor.dims, numpy_helper.to_array(tensor).ravel()
        )
        assert not typed.raw_data
        tensor.CopyFrom(typed)
    again = onnx.ModelProto.FromString(proto.SerializeToString(deterministic=True))
    assert deviations(again, tweaks_inside(again)) == ()
    weight = next(tensor for tensor in again.graph.initializer if tensor.name == "onnxtweak/1/weight")
    values = numpy_helper.to_array(weight).copy()
    values.flat[0] += 1
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    (found,) = deviations(again, tweaks_inside(again))
    assert found.part == "array onnxtweak/1/weight"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tensor: setattr(tensor, "data_location", TensorProto.EXTERNAL),
        lambda tensor: setattr(tensor, "doc_string", "mine"),
        lambda tensor: (tensor.ClearField("raw_data"), tensor.float_data.extend([1.0])),
        lambda tensor: setattr(tensor, "data_type", TensorProto.INT32),
    ],
)
def test_arrays_that_are_more_or_less_than_their_numbers(spoil, tmp_path):
    _, data = made("linear", tmp_path)
    proto = parse(data)
    spoil(next(tensor for tensor in proto.graph.initializer if tensor.name == "onnxtweak/1/weight"))
    assert [found.part for found in deviations(proto, tweaks_inside(proto))] == ["array onnxtweak/1/weight"]


def test_three_tweaks_on_the_same_logits_rename_each_other_s_outputs(tmp_path):
    file = tweaks.saved(nets.mlp(), tmp_path)
    for number, shadow in enumerate((False, True, False, False)):
        file = file.holding(splice(file, tweaks.random_tweak(file, TAPS, 4, seed=number), shadow=shadow))
    inside = tweaks_inside(file.proto)
    assert len(inside) == 4 and deviations(file.proto, inside) == ()
    first = next(node for node in file.proto.graph.node if node.name == "onnxtweak/1/add")
    assert first.output[0] == "onnxtweak/3/logits"  # as the third renamed it, and no other name will do
    for other in ("onnxtweak/4/logits", "logits", "onnxtweak/1/sum"):
        first.output[0] = other
        assert "node onnxtweak/1/add of tweak 1 was changed" in map(str, deviations(file.proto, inside))


def test_files_of_older_versions_revert_and_have_nothing_to_compare(tmp_path):
    base, data = made("linear", tmp_path)
    old = without_digests(data)
    (tmp_path / "old.onnx").write_bytes(old)
    (inside,) = tweaks_inside(read_model(tmp_path / "old.onnx").proto)
    assert inside.digests is None and deviations(parse(old), (inside,)) == ()
    assert revert(old) == base.data and only_the_splice(diff(base.data, old))


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"parts":[],"record":"","file":""}', "[" * 100_000])
def test_digests_that_cannot_be_read_are_a_change_and_no_obstacle(text, tmp_path):
    base, data = made("linear", tmp_path)
    proto = parse(data)
    entry = next(entry for entry in proto.metadata_props if entry.key == "onnxtweak.1.digests")
    entry.value = text
    assert [found.part for found in deviations(proto, tweaks_inside(proto))] == ["the list of digests"]
    assert found_by_diff(base, proto.SerializeToString())
    assert revert(data[: data.rindex(b"onnxtweak.1.digests") - 5]) == base.data
