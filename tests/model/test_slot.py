"""One loaded model, many tweaks: slots and adapters, and a shadow beside the base."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from onnxtweak.errors import ModelError, OutputError
from onnxtweak.model.edit.diff import diff, only_the_splice
from onnxtweak.model.edit.revert import revert
from onnxtweak.model.edit.slot import adapter_bytes, fill, slot_inside, with_slot
from onnxtweak.model.edit.splice import splice
from onnxtweak.model.file import protobuf_edit
from onnxtweak.model.file.model_file import parse, read_model
from onnxtweak.model.graph import GraphIndex
from onnxtweak.model.inspect.logits import find_logits
from onnxtweak.model.logits_format import LogitsFormat
from onnxtweak.types import Tap
from tests.support import tweaks
from tests.support.nets import TAILS, cnn3, mlp, random_inputs
from tests.support.plain_session import plain_session
from tests.support.tweaks import random_tweak, saved

TAPS = (Tap("act1", "Relu", (16,)), Tap("act2", "Relu", (12,)))
CNN = {"size": 16, "channels": (8, 8, 8), "classes": 5}


def session(data: bytes) -> ort.InferenceSession:
    return plain_session(data)


def switched(loaded, feeds, arrays, folder) -> list[np.ndarray]:
    """One call with an adapter made of `arrays`, through a file."""
    path = folder / "one.onnx_adapter"
    path.write_bytes(adapter_bytes(arrays))
    adapter = ort.LoraAdapter()
    adapter.Load(str(path))
    options = ort.RunOptions()
    options.add_active_adapter(adapter)
    return loaded.run(None, feeds, options)


def test_three_tweaks_in_one_session_each_equal_to_its_constant_splice(tmp_path):
    model = saved(cnn3(**CNN), tmp_path)
    feeds = random_inputs(model.proto, 4)
    made = [
        random_tweak(model, tweaks.CNN3_TAPS, 5, count=7, seed=1),
        random_tweak(model, tweaks.CNN3_TAPS[:1], 5, count=3, seed=2),
        random_tweak(model, tweaks.CNN3_TAPS[2:], 5, "linear", count=12, seed=3),
    ]
    data = with_slot(model, tweaks.CNN3_TAPS, logits="logits", classes=5, bias=True)
    onnx.checker.check_model(data)
    loaded, slot = session(data), slot_inside(parse(data))
    base = tweaks.run(model.path, feeds)[0]
    assert [value.name for value in loaded.get_inputs()] == ["input"]
    arrays = [*parse(data).graph.initializer]
    fed = [fill(slot, tweak) for tweak in made]
    assert all(0 not in tensor.dims for tensor in arrays)
    assert all(array.size for each in fed for array in each.values())
    for tweak in [*made, *reversed(made)]:
        np.testing.assert_array_equal(loaded.run(None, feeds)[0], base)
        (out,) = switched(loaded, feeds, fill(slot, tweak, 0.5), tmp_path)
        (constant,) = tweaks.run(splice(model, tweak, scale=0.5), feeds)
        np.testing.assert_allclose(out, constant, rtol=1e-5, atol=1e-5)
        assert not np.allclose(out, base, atol=1e-3)


@pytest.mark.parametrize("tail", [tail for tail in TAILS if tail != "softmax-zipmap"])
def test_an_empty_slot_is_the_base_behind_every_tail(tail, tmp_path):
    model = saved(cnn3(tail=tail, **CNN), tmp_path)
    feeds = random_inputs(model.proto, 3)
    data = with_slot(model, tweaks.CNN3_TAPS, logits=find_logits(model.graph).name, classes=5)
    for one, other in zip(tweaks.run(data, feeds), tweaks.run(model.path, feeds), strict=True):
        np.testing.assert_array_equal(one, other)
    assert revert(data) == model.data
    differences = diff(model.data, data)
    assert differences and only_the_splice(differences)


@pytest.mark.parametrize(
    "options", [{"dtype": np.float16}, {"dtype": np.float64}, {"classes": 1}, {"opset": 7}]
)
def test_slots_in_other_types_and_for_a_single_logit(options, tmp_path):
    model = saved(mlp(**options), tmp_path)
    dtype = np.dtype(options.get("dtype", np.float32)).name
    classes, layout = (2, "N1") if options.get("classes") == 1 else (4, "NC")
    taps = tuple(replace(tap, dtype=dtype) for tap in TAPS)
    logits_format = LogitsFormat(layout, dtype)
    data = with_slot(model, taps, logits="logits", classes=classes, logits_format=logits_format)
    tweak, feeds = random_tweak(model, taps, classes), random_inputs(model.proto, 3)
    (out,) = switched(session(data), feeds, fill(slot_inside(parse(data)), tweak), tmp_path)
    tolerance = 2e-2 if dtype == "float16" else 1e-5
    np.testing.assert_allclose(
        out, tweaks.run(splice(model, tweak, logits_format), feeds)[0], rtol=tolerance, atol=tolerance
    )


def test_an_adapter_of_another_base_is_refused(tmp_path):
    model, other = saved(mlp(), tmp_path), saved(mlp(seed=1), tmp_path, "other.onnx")
    slots = [with_slot(m, TAPS, logits="logits", classes=4) for m in (model, other)]
    feeds = random_inputs(model.proto, 2)
    arrays = fill(slot_inside(parse(slots[0])), random_tweak(model, TAPS, 4))
    with pytest.raises(Exception, match="Invalid input name"):
        switched(session(slots[1]), feeds, arrays, tmp_path)
    with pytest.raises(ModelError, match="belongs to another model"):
        fill(slot_inside(parse(slots[1])), random_tweak(model, TAPS, 4))


def test_what_does_not_fit_into_a_slot_is_refused(tmp_path):
    model = saved(mlp(), tmp_path)
    slot = slot_inside(parse(with_slot(model, TAPS[:1], logits="logits", classes=4)))
    with pytest.raises(ModelError, match="does not have this tap"):
        fill(slot, random_tweak(model, TAPS, 4))
    with pytest.raises(ModelError, match="a hidden layer does not fit"):
        fill(slot, random_tweak(model, TAPS[:1], 4, "mlp"))
    with pytest.raises(ModelError, match="but the slot takes none"):
        fill(slot, random_tweak(model, TAPS[:1], 4, "linear"))
    old = saved(mlp(opset=9, ir=3), tmp_path, "old.onnx")
    with pytest.raises(ModelError, match="IR version 3"):
        with_slot(old, TAPS, logits="logits", classes=4)
    with pytest.raises(ModelError, match="bfloat16"):
        with_slot(model, TAPS, logits="logits", classes=4, logits_format=LogitsFormat(dtype="bfloat16"))
    assert slot_inside(model.proto) is None


def test_adapters_and_slots_are_reproducible(tmp_path):
    model = saved(mlp(), tmp_path)
    one, other = (with_slot(model, TAPS, logits="logits", classes=4) for _ in range(2))
    assert one == other
    slot, tweak = slot_inside(parse(one)), random_tweak(model, TAPS, 4)
    assert adapter_bytes(fill(slot, tweak)) == adapter_bytes(fill(slot, tweak))


@pytest.mark.parametrize(("opset", "ir"), [(9, 3), (17, 8)])
@pytest.mark.parametrize("tail", ["none", "softmax", "argmax", "sigmoid"])
def test_a_shadow_is_beside_the_base_s_outputs(tail, opset, ir, tmp_path):
    model = saved(cnn3(tail=tail, opset=opset, ir=ir, **CNN), tmp_path)
    tweak, feeds = random_tweak(model, tweaks.CNN3_TAPS, 5), random_inputs(model.proto, 3)
    data = splice(model, tweak, shadow=True)
    assert revert(data) == model.data
    # Some readers take the last of several graph fields for the whole graph.
    assert len(protobuf_edit.fields(protobuf_edit.scan(data), 7)) == 1
    onnx.checker.check_model(data)
    names = [value.name for value in parse(data).graph.output]
    assert names[-1] == "logits_tweaked"
    *outputs, tweaked = tweaks.run(data, feeds)
    for one, other in zip(outputs, tweaks.run(model.path, feeds), strict=True):
        np.testing.assert_array_equal(one, other)
    exposed = parse(splice(model, tweak))
    del exposed.graph.output[:]
    exposed.graph.output.append(onnx.ValueInfoProto(name="logits"))
    np.testing.assert_array_equal(tweaked, tweaks.run(exposed, feeds)[0])
    differences = diff(model.data, data)
    assert only_the_splice(differences) and any(d.where.startswith("graph.output") for d in differences)
    assert find_logits(GraphIndex(parse(data))).name == "logits"


def test_a_tweak_on_a_shadowed_file_and_a_second_shadow(tmp_path):
    model = saved(mlp(), tmp_path)
    feeds = random_inputs(model.proto, 3)
    first = splice(model, random_tweak(model, TAPS, 4), shadow=True)
    one = saved(parse(first), tmp_path, "one.onnx")
    one.path.write_bytes(first)
    one = read_model(one.path)
    second = splice(one, random_tweak(one, TAPS, 4, seed=5), shadow=True)
    assert revert(second) == first and revert(second, "all") == model.data
    outputs = tweaks.run(second, feeds)
    assert len(outputs) == 3
    np.testing.assert_array_equal(outputs[1], tweaks.run(first, feeds)[1])
    third = splice(one, random_tweak(one, TAPS, 4, seed=6))
    assert revert(third) == first and only_the_splice(diff(first, third))


def test_an_adapter_that_cannot_be_written_is_told(monkeypatch):
    def full(self, path):
        raise RuntimeError("Failed to write :4096 bytes")

    monkeypatch.setattr("onnxtweak.model.edit.slot.ort.AdapterFormat.export_adapter", full)
    with pytest.raises(OutputError, match="cannot write the adapter"):
        adapter_bytes({"w": np.ones(3, np.float32)})
