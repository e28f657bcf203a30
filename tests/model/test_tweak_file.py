"""A tweak is read back exactly; a file that is not a tweak is refused in one clear sentence."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from onnxtweak.errors import InputError, OutputError
from onnxtweak.model.edit import tweak_file
from onnxtweak.model.edit.splice import splice
from onnxtweak.patch import Linear, Tweak
from onnxtweak.types import Neurons, Tap
from tests.support import nets, tweaks

TAPS = (Tap("act1", "Relu", (16,)), Tap("map", "Relu", (3, 4, 5), "float16", "mean", 2))


def make_tweak(kind="synapses"):
    neurons = tweaks.random_neurons(TAPS, 9)
    return Tweak(
        "join", "0" * 64, "logits", 4, neurons, tweaks.random_patch(kind, 9, 4), {"a": [1, 2.5], "b": "ü"}
    )


def assert_same(one, other):
    for name in ("kind", "base_sha256", "logits", "classes", "provenance"):
        assert getattr(one, name) == getattr(other, name)
    assert one.neurons.taps == other.neurons.taps and type(one.patch) is type(other.patch)
    pairs = [(one.neurons.tap_of, other.neurons.tap_of), (one.neurons.index, other.neurons.index)]
    pairs += [(array, getattr(other.patch, name)) for name, array in vars(one.patch).items()]
    for before, after in pairs:
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("kind", ["synapses", "linear", "mlp"])
def test_a_tweak_comes_back_as_it_was(tmp_path, kind):
    tweak = make_tweak(kind)
    tweak_file.save(tweak, tmp_path / "t.safetensors")
    assert_same(tweak, tweak_file.load(tmp_path / "t.safetensors"))


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_tweak_in_single_precision_takes_little_more_than_its_arrays(tmp_path, kind):
    neurons = tweaks.random_neurons((Tap("act1", "Relu", (4096,)),), 900)
    patch = tweaks.random_patch(kind, 900, 40).as_written("float32")
    sizes = 4 * sum(array.size for array in patch.arrays.values()) + 8 * 900  # and where each neuron is
    tweak = Tweak("fit", "0" * 64, "logits", 40, neurons, patch)
    tweak_file.save(tweak, tmp_path / "t.safetensors")
    assert_same(tweak, tweak_file.load(tmp_path / "t.safetensors"))
    assert (tmp_path / "t.safetensors").stat().st_size < sizes + 1000


def test_a_pure_bias_and_a_missing_threshold_come_back(tmp_path):
    none = Neurons((), np.zeros(0, np.int32), np.zeros(0, np.int64))
    bias = Tweak("bias", "0" * 64, "logits", 4, none, Linear(np.zeros((0, 4)), np.arange(4.0)))
    tweak_file.save(bias, tmp_path / "bias.safetensors")
    assert_same(bias, tweak_file.load(tmp_path / "bias.safetensors"))
    tweak = make_tweak()
    tweak = replace(tweak, patch=replace(tweak.patch, threshold=np.full(9, np.nan)))
    tweak_file.save(tweak, tmp_path / "t.safetensors")
    assert_same(tweak, tweak_file.load(tmp_path / "t.safetensors"))


def test_the_same_tweak_gives_the_same_bytes_and_the_same_splice(tmp_path):
    model = tweaks.saved(nets.mlp(), tmp_path)
    tweak = tweaks.random_tweak(model, [Tap("act1", "Relu", (16,)), Tap("act2", "Relu", (12,))], 4)
    for name in ("one", "other"):
        tweak_file.save(tweak, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    assert splice(model, tweak_file.load(tmp_path / "one")) == splice(model, tweak)


def test_a_tensor_tapped_pooled_and_by_position_comes_back(tmp_path):
    pooled, positions = tweaks.CNN3_TAPS[1], replace(tweaks.CNN3_TAPS[1], pool="none")
    model = tweaks.saved(nets.cnn3(), tmp_path)
    tweak = tweaks.random_tweak(model, [pooled, positions], 5, "linear")
    tweak_file.save(tweak, tmp_path / "t")
    loaded = tweak_file.load(tmp_path / "t")
    assert_same(tweak, loaded)
    assert splice(model, loaded) == splice(model, tweak)


def test_an_existing_file_needs_force(tmp_path):
    tweak_file.save(make_tweak(), tmp_path / "t")
    with pytest.raises(OutputError, match="exists"):
        tweak_file.save(make_tweak("mlp"), tmp_path / "t")
    tweak_file.save(make_tweak("mlp"), tmp_path / "t", force=True)
    assert_same(tweak_file.load(tmp_path / "t"), make_tweak("mlp"))


def rewrite(folder, change, kind="synapses"):
    """A tweak file whose header and arrays went through `change`."""
    path = folder / "t.safetensors"
    tweak_file.save(make_tweak(kind), path, force=True)
    with safetensors.safe_open(path, framework="numpy") as file:
        header = json.loads(file.metadata()["onnxtweak"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(header, arrays)
    path.write_bytes(safetensors.numpy.save(arrays, metadata={"onnxtweak": json.dumps(header)}))
    return path


def test_rewriting_nothing_changes_nothing(tmp_path):
    assert_same(tweak_file.load(rewrite(tmp_path, lambda header, arrays: None)), make_tweak())


BAD = {
    "format": (lambda h, a: h.update(format=2), "format"),
    "patch": (lambda h, a: h.update(patch="forest"), "unknown type"),
    "patch list": (lambda h, a: h.update(patch=[]), "usable"),
    "kind": (lambda h, a: h.pop("kind"), "'kind'"),
    "sha": (lambda h, a: h.update(base_sha256=5), "'base_sha256'"),
    "logits": (lambda h, a: h.update(logits=""), "'logits'"),
    "classes": (lambda h, a: h.update(classes=0), "'classes'"),
    "classes float": (lambda h, a: h.update(classes=4.0), "'classes'"),
    "few classes": (lambda h, a: h.update(classes=1), "target"),
    "provenance": (lambda h, a: h.update(provenance=[]), "'provenance'"),
    "taps": (lambda h, a: h.update(taps={}), "not a list"),
    "no taps": (lambda h, a: h.update(taps=[]), "not in tap"),
    "tap field": (lambda h, a: h["taps"][0].pop("op"), "have the right fields"),
    "tap extra": (lambda h, a: h["taps"][0].update(more=1), "have the right fields"),
    "tap shape": (lambda h, a: h["taps"][0].update(shape=[-16]), "positive"),
    "tap shape text": (lambda h, a: h["taps"][0].update(shape="16"), "not a list"),
    "tap dtype": (lambda h, a: h["taps"][0].update(dtype="int64"), "type"),
    "tap pool": (lambda h, a: h["taps"][0].update(pool="sum"), "pooling"),
    "tap axis": (lambda h, a: h["taps"][1].update(channel_axis=3), "channel axis"),
    "tap name": (lambda h, a: h["taps"][0].update(name=""), "name"),
    "tap twice": (lambda h, a: h["taps"].__setitem__(1, h["taps"][0]), "twice"),
    "header constant": (lambda h, a: h.update(provenance={"x": float("nan")}), "NaN"),
    "index": (lambda h, a: a["index"].__setitem__(0, 10**6), "not in tap"),
    "negative index": (lambda h, a: a["index"].__setitem__(0, -1), "not in tap"),
    "tap_of": (lambda h, a: a["tap_of"].__setitem__(0, 2), "not in tap"),
    "tap_of wraps": (lambda h, a: a.update(tap_of=np.full(9, 2**32)), "not in tap"),
    "target": (lambda h, a: a["target"].__setitem__(0, 4), "target"),
    "negative target": (lambda h, a: a["target"].__setitem__(0, -1), "target"),
    "weight": (lambda h, a: a["weight"].__setitem__(0, np.inf), "finite"),
    "lengths": (lambda h, a: a.update(weight=np.zeros(8)), "shape"),
    "rank": (lambda h, a: a.update(index=np.zeros((3, 3), np.int64)), "length"),
    "dtype": (lambda h, a: a.update(weight=np.zeros(9, np.float16)), "float16"),
    "array gone": (lambda h, a: a.pop("count"), "arrays"),
    "array extra": (lambda h, a: a.update(more=np.zeros(1)), "arrays"),
}


@pytest.mark.parametrize("name", BAD)
def test_inconsistent_tweaks_are_refused(tmp_path, name):
    change, says = BAD[name]
    path = rewrite(tmp_path, change)
    with pytest.raises(InputError, match=says) as caught:
        tweak_file.load(path)
    assert caught.value.hint and caught.value.where == str(path)


@pytest.mark.parametrize(
    ("kind", "name", "array"),
    [("linear", "bias", np.zeros(3)), ("linear", "weight", np.zeros((8, 4))), ("mlp", "w1", np.zeros((9, 4))),
     ("mlp", "w2", np.zeros((5, 3))), ("mlp", "b1", np.zeros((5, 1))), ("mlp", "b2", np.full(4, np.nan))],
)  # fmt: skip
def test_dense_patches_of_the_wrong_shape_are_refused(tmp_path, kind, name, array):
    path = rewrite(tmp_path, lambda header, arrays: arrays.update({name: array}), kind)
    with pytest.raises(InputError, match=name):
        tweak_file.load(path)


def test_foreign_truncated_and_missing_files_are_refused(tmp_path):
    path = tmp_path / "t"
    tweak_file.save(make_tweak(), path)
    data = path.read_bytes()
    for content in (
        b"",
        b"hello",
        data[:4],
        data[:60],
        data[:-1],
        data + b"\0",
        b"\xff" * 64,
        nets.mlp().SerializeToString(),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a usable tweak file"):
            tweak_file.load(path)
    path.write_bytes(safetensors.numpy.save({"a": np.zeros(2)}))
    with pytest.raises(InputError, match="not written by onnxtweak"):
        tweak_file.load(path)
    path.write_bytes(safetensors.numpy.save({"a": np.zeros(2)}, metadata={"onnxtweak": "["}))
    with pytest.raises(InputError):
        tweak_file.load(path)
    with pytest.raises(InputError, match="no such"):
        tweak_file.load(tmp_path / "absent")
    with pytest.raises(InputError):
        tweak_file.load(tmp_path)


def test_damaged_bytes_never_crash(tmp_path):
    path = tmp_path / "t"
    tweak_file.save(make_tweak(), path)
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        data = bytearray(good)
        for position in rng.integers(0, len(data), rng.integers(1, 4)):
            data[position] = rng.integers(0, 256)
        path.write_bytes(data)
        try:
            tweak_file.load(path)
        except InputError:
            refused += 1
    assert refused > 100
