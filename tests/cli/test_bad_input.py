"""Bad input gets one error that says what, where and what to do, exit code 2, and leaves nothing behind."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxtweak.cli.main import main
from onnxtweak.demo_files import demo_files
from tests.support import forked

MODEL = str(demo_files().model)
DATA = f"{demo_files().data}#fit"


@pytest.fixture
def refused(tmp_path, capsys):
    """Run a command that must fail with code 2; returns its error, after checking the form and the folder."""

    def run(*arguments) -> str:
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        assert main([str(argument) for argument in arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        *_, error, hint = err.splitlines()
        assert error.startswith("error: ")
        assert hint.startswith("hint: ")
        assert "Traceback" not in err
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
        return error

    return run


@pytest.fixture
def joined(refused, tmp_path):
    """The same for `join`, with a target and an output that would do."""

    def run(model=MODEL, data=DATA, target="8", output=None, *more) -> str:
        output = tmp_path / "out.onnx" if output is None else output
        return refused("join", model, "-d", data, "-t", target, "-o", output, *more)

    return run


@pytest.fixture
def samples(tmp_path):
    """A function that stores digits with some arrays changed; returns the path of the .npz."""

    def store(**changes) -> str:
        with np.load(demo_files().data) as file:
            arrays = {"x": file["x_fit"], "y": file["y_fit"]}
        arrays = {name: array for name, array in (arrays | changes).items() if array is not None}
        np.savez(tmp_path / "samples.npz", **arrays)
        return str(tmp_path / "samples.npz")

    return store


@pytest.fixture
def digits():
    with np.load(demo_files().data) as file:
        return file["x_fit"], file["y_fit"]


# ------------------------------------------------------------------------------------------- models


def test_no_such_model(joined):
    assert "nothing.onnx" in joined(model="nothing.onnx")


def test_not_onnx(joined, tmp_path):
    (tmp_path / "text.onnx").write_text("this is not a model\n" * 20)
    assert "text.onnx" in joined(model=tmp_path / "text.onnx")


def test_truncated_model(joined, tmp_path):
    (tmp_path / "half.onnx").write_bytes(demo_files().model.read_bytes()[:30_000])
    assert "half.onnx" in joined(model=tmp_path / "half.onnx")


def test_empty_model(joined, tmp_path):
    (tmp_path / "empty.onnx").write_bytes(b"")
    assert "empty.onnx" in joined(model=tmp_path / "empty.onnx")


def test_a_model_without_a_hidden_float_tensor(joined, samples, tmp_path):
    weight = helper.make_tensor("w", TensorProto.FLOAT, [64, 10], np.ones(640, np.float32))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["logits"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])],
        [weight],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, tmp_path / "linear.onnx")
    with np.load(demo_files().data) as file:
        flat = samples(x=file["x_fit"].reshape(-1, 64))
    assert "linear.onnx" in joined(model=tmp_path / "linear.onnx", data=flat)


def test_a_tap_that_is_not_there(joined):
    assert "nowhere" in joined(MODEL, DATA, "8", None, "--taps", "nowhere")


def test_logits_that_are_not_there(joined):
    assert "nowhere" in joined(MODEL, DATA, "8", None, "--logits", "nowhere")


# --------------------------------------------------------------------------------------------- data


def test_no_such_data(joined):
    assert "nothing.npz" in joined(data="nothing.npz")


def test_no_labels(joined, samples):
    assert "labels" in joined(data=samples(y=None))


def test_labels_out_of_range(joined, samples, digits):
    assert "10" in joined(data=samples(y=digits[1] + 1))


def test_negative_labels(joined, samples, digits):
    assert "-1" in joined(data=samples(y=digits[1] - 1))


def test_labels_that_are_not_integers(joined, samples, digits):
    assert "samples.npz" in joined(data=samples(y=digits[1] + 0.5))


def test_fewer_labels_than_samples(joined, samples, digits):
    assert "samples.npz" in joined(data=samples(y=digits[1][:-1]))


def test_wrong_input_shape(joined, samples, digits):
    assert "samples.npz" in joined(data=samples(x=digits[0].reshape(-1, 4, 16)))


def test_wrong_input_name(joined, samples, digits):
    assert "samples.npz" in joined(data=samples(x=None, other_input=digits[0]))


def test_wrong_dtype(joined, samples, digits):
    assert "samples.npz" in joined(data=samples(x=digits[0].astype("U4")))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_data_that_are_not_finite(joined, samples, digits, value):
    broken = digits[0].copy()
    broken[17, 0, 3, 3] = value
    assert "samples.npz" in joined(data=samples(x=broken))


def test_no_samples_at_all(joined, samples, digits):
    assert "samples.npz" in joined(data=samples(x=digits[0][:0], y=digits[1][:0]))


def test_samples_of_a_single_class(joined, samples, digits):
    ones = digits[1] == 8
    assert "class" in joined(data=samples(x=digits[0][ones], y=digits[1][ones]))


# ------------------------------------------------------------------------------------------- targets


def test_an_unknown_target(joined):
    assert "zebra" in joined(target="zebra")
    assert "10" in joined(target="10")


def test_a_target_without_fit_samples(joined, samples, digits):
    others = digits[1] != 8
    few = samples(x=digits[0][others], y=digits[1][others])
    assert "8" in joined(MODEL, few, "8", None, "--val", DATA)


def test_a_target_without_validation_samples(joined, samples, digits):
    others = digits[1] != 8
    few = samples(x=digits[0][others], y=digits[1][others])
    assert "8" in joined(MODEL, DATA, "8", None, "--val", few)


# -------------------------------------------------------------------------------------------- output


def test_the_base_is_no_output(joined, tmp_path):
    (tmp_path / "base.onnx").write_bytes(demo_files().model.read_bytes())
    assert "base.onnx" in joined(tmp_path / "base.onnx", DATA, "8", tmp_path / "base.onnx", "--force")


def test_an_existing_output_needs_force(joined, tmp_path):
    (tmp_path / "out.onnx").write_bytes(b"precious")
    assert "out.onnx" in joined()


def test_an_existing_tweak_needs_force(joined, tmp_path):
    (tmp_path / "t.safetensors").write_bytes(b"precious")
    assert "t.safetensors" in joined(MODEL, DATA, "8", None, "--tweak", tmp_path / "t.safetensors")


def test_a_folder_that_cannot_be_written(joined, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    assert "file" in joined(MODEL, DATA, "8", tmp_path / "file" / "out.onnx")
    assert "missing" in joined(MODEL, DATA, "8", tmp_path / "missing" / "out.onnx")


def test_a_tweak_of_another_model(refused, tmp_path, capsys):
    assert main(["demo", "-o", str(tmp_path / "demo"), "-q"]) == 0
    capsys.readouterr()
    tweak, base = tmp_path / "demo" / "tweak.safetensors", tmp_path / "other.onnx"
    other = onnx.load(MODEL)
    other.doc_string = "another"
    onnx.save(other, base)
    assert "other.onnx" in refused("apply", base, tweak, "-o", tmp_path / "out.onnx")


def test_a_tweak_that_is_none(refused, tmp_path):
    (tmp_path / "t.safetensors").write_bytes(b"nothing of the kind")
    assert "t.safetensors" in refused("apply", MODEL, tmp_path / "t.safetensors", "-o", tmp_path / "out.onnx")


def test_a_full_disk_leaves_no_part_of_a_file(tmp_path, root, monkeypatch):
    pytest.importorskip("resource", reason="no limit of file size to set here")
    # A limit of file size fails a write half-way, as a full disk does.
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
    arguments = ["join", MODEL, "-d", DATA, "-t", "8", "-o", str(tmp_path / "out.onnx"), "--backend", "numpy"]
    monkeypatch.chdir(root)
    ran = forked.run(limit + forked.ONNXTWEAK, *arguments)
    assert ran.returncode == 2, ran.stderr
    assert "out.onnx" in ran.stderr.splitlines()[-2]
    assert ran.stderr.splitlines()[-1].startswith("hint: ")
    assert list(tmp_path.iterdir()) == []
