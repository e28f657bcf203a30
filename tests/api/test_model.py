"""A model may be handed over as a path, as bytes, as an onnx.ModelProto, or opened once for several calls."""

from __future__ import annotations

import onnx
import pytest

import onnxtweak
from onnxtweak.errors import ModelError, UsageError
from tests.support.weak_class import TARGET, weak_mlp

ASKED = {"target": TARGET, "count": 5, "max_overall_drop": 0.5}


def test_a_model_in_memory_gives_the_bytes_that_its_file_gives(tmp_path):
    model, data = weak_mlp(tmp_path, n=300)
    onnxtweak.join(model, data=data, output=tmp_path / "file.onnx", **ASKED)
    proto = onnx.load(model)
    kept = proto.SerializeToString()
    forms = {
        "bytes": model.read_bytes(),
        "bytearray": bytearray(model.read_bytes()),
        "proto": proto,
        "opened": onnxtweak.open(model),
        "opened bytes": onnxtweak.open(model.read_bytes()),
    }
    for name, form in forms.items():
        made = onnxtweak.join(form, data=data, output=tmp_path / f"{name}.onnx", **ASKED)
        assert (tmp_path / f"{name}.onnx").read_bytes() == (tmp_path / "file.onnx").read_bytes(), name
        words = {"proto": "<ModelProto>", "opened": str(model)}
        assert made.model.path == words.get(name, "<bytes>")
    assert proto.SerializeToString() == kept


def test_a_model_that_was_opened_is_not_read_again(tmp_path, monkeypatch):
    model, data = weak_mlp(tmp_path, n=300)
    opened = onnxtweak.open(model)
    assert opened.path == model and bytes(opened) == model.read_bytes()
    assert repr(opened).startswith(f"<Model {model}: ") and opened.sha256[:12] in repr(opened)
    monkeypatch.setattr("onnxtweak.model.file.model_file.parse", None)
    assert onnxtweak.evaluate(opened, data=data).model.sha256 == opened.sha256
    assert onnxtweak.open(opened).file is opened.file


def test_a_file_that_changes_after_it_was_opened_is_noticed(tmp_path):
    model, data = weak_mlp(tmp_path, n=300)
    opened = onnxtweak.open(model)
    model.write_bytes(model.read_bytes() + b"\x32\x00")
    with pytest.raises(onnxtweak.errors.VerificationError, match="the base changed on disk"):
        onnxtweak.join(opened, data=data, **ASKED)


def test_a_model_in_memory_protects_no_file(tmp_path, monkeypatch):
    model, data = weak_mlp(tmp_path, n=300)
    monkeypatch.chdir(tmp_path)
    made = onnxtweak.join(model.read_bytes(), data=data, output="<bytes>", **ASKED)
    assert (tmp_path / "<bytes>").is_file() and made.output.path == "<bytes>"


def test_revert_diff_and_apply_take_models_in_memory(tmp_path):
    model, data = weak_mlp(tmp_path, n=300)
    made = onnxtweak.join(model, data=data, tweak=tmp_path / "t.safetensors", **ASKED)
    base, tweaked = model.read_bytes(), made.to_bytes()
    assert onnxtweak.diff(base, tweaked).checks
    onnxtweak.revert(tweaked, tmp_path / "base.onnx")
    assert (tmp_path / "base.onnx").read_bytes() == base
    onnxtweak.apply(base, tmp_path / "t.safetensors", tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == tweaked


@pytest.mark.parametrize(
    ("model", "error", "what"),
    [
        (b"", ModelError, "the model file is empty"),
        (b"nonsense", ModelError, "not an ONNX model"),
        (onnx.ModelProto(), ModelError, ""),
        (5, UsageError, "int is not a model"),
        (None, UsageError, "NoneType is not a model"),
    ],
)
def test_what_is_no_model_is_refused(model, error, what):
    with pytest.raises(error) as raised:
        onnxtweak.open(model)
    assert what in raised.value.what and raised.value.where and raised.value.hint


def test_weights_in_other_files_need_a_path(tmp_path):
    model, _ = weak_mlp(tmp_path, n=300)
    proto = onnx.load(model)
    place = tmp_path / "large.onnx"
    onnx.save(proto, place, save_as_external_data=True, location="w.bin", size_threshold=0)
    with pytest.raises(ModelError, match="weights are in other files") as raised:
        onnxtweak.open(place.read_bytes())
    assert "give the path" in raised.value.hint
    assert onnxtweak.open(onnx.load(place)).path is None  # onnx.load has loaded them
    assert onnxtweak.open(place).file.external
