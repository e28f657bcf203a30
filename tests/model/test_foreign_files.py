"""Files that are no ONNX model are named, with a command that makes one of them, which is carried out."""

from __future__ import annotations

import gzip
import json
import pickle
import shlex
import struct
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import onnx
import pytest

from onnxtweak.errors import ModelError
from onnxtweak.model.file.model_file import read_model
from tests.support import nets


def refused(path) -> ModelError:
    with pytest.raises(ModelError) as raised:
        read_model(path)
    assert raised.value.where == str(path) and raised.value.hint
    return raised.value


def zipped(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"\x80\x02}.")


@pytest.mark.parametrize(
    ("head", "what", "hint"),
    [
        (b"\x24\0\0\0ORTM" + bytes(64), "ONNX Runtime's own format", "convert_onnx_models_to_ort"),
        (b"\x1c\0\0\0TFL3" + bytes(64), "TensorFlow Lite", "--tflite"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5", "--keras"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.rest", "PyTorch checkpoint", "torch.onnx.export"),
        (pickle.dumps({"weights": [1.0]}, 4), "Python pickle", "skl2onnx.to_onnx"),
        (struct.pack("<Q", 20) + b'{"w":{"dtype":"F32"}' + bytes(8), "safetensors", "torch.onnx.export"),
        (
            struct.pack("<Q", 60) + b'{"__metadata__":{"onnxtweak":"{}"}}' + bytes(30),
            "a tweak",
            "onnxtweak apply",
        ),
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "web page", "raw file"),
        (b'<?xml version="1.0"?><net name="m" version="11"></net>', "OpenVINO", "tweak the .onnx file"),
        (b"GGUF" + bytes(32), "GGUF", "to ONNX"),
        (b"\x93NUMPY\x01\0", "NumPy array", "-d"),
        (b'{"a": 1}', "JSON file", ".onnx"),
        (b"BZh91AY&SY", "bzip2", "bzip2 -dc"),
        (b"7z\xbc\xaf\x27\x1c", "7z", "7z x"),
        (b"no idea", "not an ONNX model", "export the model again"),
    ],
)
def test_what_it_is_and_what_to_do(tmp_path, head, what, hint):
    path = tmp_path / "it's a model.onnx"
    path.write_bytes(head)
    error = refused(path)
    assert what in error.what and hint in error.hint


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["archive/data.pkl", "archive/data/0"], "PyTorch checkpoint"),
        (["m/data.pkl", "m/constants.pkl", "m/code/__torch__.py"], "TorchScript"),
        (["config.json", "model.weights.h5"], "Keras"),
        (["x.npy", "y.npy"], ".npz"),
        (["readme.md", "model.onnx"], "zip archive"),
    ],
)
def test_zip_archives(tmp_path, names, what):
    zipped(tmp_path / "m.onnx", *names)
    error = refused(tmp_path / "m.onnx")
    assert what in error.what
    assert "model.onnx" in error.hint or "export" in error.hint or "-d" in error.hint


def test_folders(tmp_path):
    (tmp_path / "saved_model.pb").touch()
    assert "--saved-model" in refused(tmp_path).hint
    (tmp_path / "plain").mkdir()
    assert "folder" in refused(tmp_path / "plain").what


@pytest.mark.parametrize("kind", ["json", "textproto", "onnxtxt"])
def test_models_as_text_are_converted_by_the_command(tmp_path, kind):
    proto = nets.mlp()
    path = tmp_path / f"m.{kind}"
    onnx.save(proto, path, format=kind)
    error = refused(path)
    assert "an ONNX model as text" in error.what
    carry_out(error.hint, tmp_path)
    assert len(read_model(tmp_path / "model.onnx").proto.graph.node) == len(proto.graph.node)


def test_compressed_models_are_unpacked_by_the_command(tmp_path):
    onnx.save(nets.mlp(), tmp_path / "plain.onnx")
    (tmp_path / "m.onnx.gz").write_bytes(gzip.compress((tmp_path / "plain.onnx").read_bytes()))
    carry_out(refused(tmp_path / "m.onnx.gz").hint, tmp_path)
    assert (tmp_path / "model.onnx").read_bytes() == (tmp_path / "plain.onnx").read_bytes()
    for mode, name in (("w:gz", "m.tgz"), ("w", "m.tar")):
        with tarfile.open(tmp_path / name, mode) as archive:
            archive.add(tmp_path / "plain.onnx", "inside.onnx")
        carry_out(refused(tmp_path / name).hint, tmp_path)
        assert read_model(tmp_path / "inside.onnx").proto.graph.node
        (tmp_path / "inside.onnx").unlink()


def test_a_producer_that_looks_like_another_format_is_still_read(tmp_path):
    proto = nets.mlp()
    proto.producer_name = "ORTM"
    onnx.save(proto, tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_bytes()[4:8] == b"ORTM"
    assert read_model(tmp_path / "m.onnx").proto.producer_name == "ORTM"


def test_without_the_default_opset_the_command_adds_it(tmp_path):
    proto = nets.mlp()
    version = proto.opset_import[0].version
    del proto.opset_import[:]
    proto.opset_import.add(domain="ai.onnx.ml", version=3)
    onnx.save(proto, tmp_path / "m.onnx")
    error = refused(tmp_path / "m.onnx")
    assert "imports no version of ONNX's own operators" in error.what
    carry_out(error.hint, tmp_path)
    repaired = read_model(tmp_path / "m-repaired.onnx").proto
    assert {entry.domain for entry in repaired.opset_import} == {"", "ai.onnx.ml"}
    assert version <= 17


def carry_out(hint: str, folder) -> None:
    """Run the command at the end of a hint."""
    words = shlex.split(hint[hint.index("python -c") :] if "python -c" in hint else hint.partition(": ")[2])
    if words[0] == "python":
        words[0] = sys.executable
    shell = " ".join(word if word == ">" else shlex.quote(word) for word in words)
    subprocess.run(shell, shell=True, cwd=folder, check=True, capture_output=True)


def test_numbers_of_a_json_file_are_no_model(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"x": np.arange(3).tolist()}))
    assert "JSON file" in refused(tmp_path / "a.json").what
