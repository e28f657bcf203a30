"""What ONNX Runtime refuses is said in plain words, and the command in the hint repairs the file."""

from __future__ import annotations

import shlex
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxtweak.engine.session import open_session
from onnxtweak.errors import ModelError
from onnxtweak.settings import EngineSettings
from tests.support import nets


def loaded(path):
    return open_session(path, path.parent, EngineSettings(device="cpu", threads=1), path)


def same_names(proto):
    for node in proto.graph.node:
        node.name = "same"


def new_ir(proto):
    proto.ir_version = 99


def wrong_type(proto):
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (same_names, "two nodes have the name `same`"),
        (new_ir, "the model has IR version 99"),
        (wrong_type, "as double, but its node computes float"),
    ],
)
def test_the_command_repairs_the_file(tmp_path, damage, said):
    proto = nets.mlp()
    expected = loaded(saved(proto, tmp_path / "plain.onnx"))
    damage(proto)
    path = saved(proto, tmp_path / "it's.onnx")
    with pytest.raises(ModelError) as raised:
        loaded(path)
    assert said in raised.value.what and raised.value.where == str(path)
    words = shlex.split(raised.value.hint[raised.value.hint.index("python -c") :])
    subprocess.run([sys.executable, *words[1:]], check=True)
    repaired = loaded(tmp_path / "it's-repaired.onnx")
    feeds = {port.name: np.ones([size or 2 for size in port.shape], np.float32) for port in repaired.inputs}
    assert np.array_equal(repaired.run(feeds)[0], expected.run(feeds)[0])


@pytest.mark.parametrize("samples", [2, "N", None])
def test_an_old_opset_is_converted_by_the_command(tmp_path, samples):
    weight = numpy_helper.from_array(np.eye(3, dtype=np.float32), "w")
    bias = numpy_helper.from_array(np.zeros(3, np.float32), "b")
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], broadcast=1)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (samples, 3))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (samples, 3))],
        [weight, bias],
    )
    path = saved(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 6)], ir_version=4),
        tmp_path / "m.onnx",
    )
    with pytest.raises(ModelError, match="no Gemm of an opset as old as 6") as raised:
        loaded(path)
    words = shlex.split(raised.value.hint[raised.value.hint.index("python -c") :])
    subprocess.run([sys.executable, *words[1:]], check=True)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(loaded(tmp_path / "m-repaired.onnx").run({"x": x})[0], x)


def test_what_no_command_repairs_is_named(tmp_path):
    proto = nets.mlp()
    proto.opset_import[0].version = 99
    with pytest.raises(ModelError, match=r"opset 99 of \S+, and this ONNX Runtime knows opsets up to \d+"):
        loaded(saved(proto, tmp_path / "m.onnx"))
    proto = nets.mlp()
    proto.opset_import.add(domain="com.example", version=1)
    proto.graph.node[0].domain, proto.graph.node[0].op_type = "com.example", "Fancy"
    with pytest.raises(ModelError, match="does not know the operator com") as raised:
        loaded(saved(proto, tmp_path / "m.onnx"))
    assert "--custom-ops" in raised.value.hint


def saved(proto, path):
    onnx.save(proto, path)
    return path
