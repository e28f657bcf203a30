"""Models are read with external data in place; outputs are whole or absent."""

from __future__ import annotations

import errno
import hashlib
import os
import tracemalloc

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from onnxtweak.errors import ModelError, OutputError
from onnxtweak.model.file.external_data import hash_file
from onnxtweak.model.file.model_file import parse, read_model
from onnxtweak.model.file.output_file import write_atomic, write_model
from onnxtweak.model.file.output_paths import check_model_output, check_output
from tests.support import nets, tweaks


def with_external_data(folder, locations=("weights.bin",), name="base.onnx"):
    """An MLP whose weights lie in one or several files, spread over `locations` in turn."""
    proto = nets.mlp()
    for number, tensor in enumerate(proto.graph.initializer):
        raw = numpy_helper.to_array(tensor).tobytes()
        path = folder / locations[number % len(locations)]
        path.parent.mkdir(exist_ok=True)
        with open(path, "ab") as file:
            offset = file.tell()
            file.write(raw)
        tensor.ClearField("float_data")
        tensor.raw_data = b""
        set_external_data(tensor, locations[number % len(locations)], offset, len(raw))
        tensor.ClearField("raw_data")
    (folder / name).write_bytes(proto.SerializeToString())
    return folder / name


def left_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_the_graph_is_indexed_once(tmp_path):
    model = tweaks.saved(nets.mlp(), tmp_path)
    assert model.graph is model.graph and model.graph.proto is model.proto
    other = model.holding(model.data)
    assert other.graph is not model.graph and other.graph.proto is other.proto


@pytest.mark.parametrize("name", [b"logits", b"sample-1", b"transB"])
def test_a_name_that_is_no_text_is_refused_wherever_it_stands(name):
    """Of a tensor, of an axis, of an attribute."""
    proto = nets.mlp()
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "sample-1"
    whole = proto.SerializeToString()
    assert whole.count(name) and parse(whole) == proto
    with pytest.raises(ModelError, match="not UTF-8"):
        parse(whole.replace(name, b"\xff" + name[1:]))


def test_read_model_tells_what_the_file_holds(tmp_path):
    proto = nets.mlp()
    model = tweaks.saved(proto, tmp_path)
    assert model.proto == proto
    assert model.sha256 == hashlib.sha256(proto.SerializeToString()).hexdigest() == model.base_sha256
    assert model.external == () and model.folder == tmp_path
    assert model.files == (model.path,)


@pytest.mark.parametrize("locations", [("weights.bin",), ("a.bin", "b.bin", "sub/c.bin")])
def test_external_data_is_found_hashed_and_not_loaded(tmp_path, locations):
    path = with_external_data(tmp_path, locations)
    model = read_model(path)
    assert tuple(file.location for file in model.external) == tuple(sorted(locations))
    assert all(not tensor.raw_data for tensor in model.proto.graph.initializer)
    assert [file.sha256 for file in model.external] == [
        hash_file(tmp_path / name) for name in sorted(locations)
    ]
    assert model.base_sha256 != model.sha256
    with open(tmp_path / locations[0], "r+b") as file:
        file.write(b"\x01")
    changed = read_model(path)
    assert changed.sha256 == model.sha256 and changed.base_sha256 != model.base_sha256


def test_external_data_is_hashed_without_being_held(tmp_path):
    data = np.random.default_rng(0).bytes(20_000_001)
    (tmp_path / "large.bin").write_bytes(data)
    tracemalloc.start()
    try:
        digest = hash_file(tmp_path / "large.bin")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert digest == hashlib.sha256(data).hexdigest() and peak < len(data) / 4


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"this is not a model at all, it is a text", "not an ONNX model"),
        (b"\x00" * 64, "not an ONNX model"),
        (b"\x08\x08", "no nodes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        (helper.make_model(helper.make_graph([], "g", [], [])).SerializeToString(), "no nodes"),
        (
            TensorProto(name="t", dims=[1], data_type=1, raw_data=b"abcd").SerializeToString(),
            "not an ONNX model",
        ),
    ],
)
def test_what_is_no_model_is_refused(tmp_path, content, says):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=says) as caught:
        read_model(path)
    assert caught.value.hint and str(path) in str(caught.value)


def test_a_model_cut_short_is_refused_wherever_it_is_cut(tmp_path):
    data = nets.mlp().SerializeToString()
    path = tmp_path / "m.onnx"
    for length in (1, 5, 20, len(data) // 2, len(data) - 40, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(ModelError):
            read_model(path)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="truncated"):
        read_model(path)


def test_paths_that_are_no_files_are_refused(tmp_path):
    with pytest.raises(ModelError, match="no such"):
        read_model(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="folder"):
        read_model(tmp_path)
    with pytest.raises(ModelError):
        read_model("a\0b")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError, match="regular"):
        read_model(tmp_path / "pipe")


@pytest.mark.parametrize(
    "location",
    ["../weights.bin", "/etc/passwd", "sub/../../weights.bin", "C:\\weights.bin", "..\\w.bin", "", "a\0b",
     "*/_ORT_MEM_ADDR_/*", "absent.bin", "."],
)  # fmt: skip
def test_external_data_outside_the_folder_is_refused(tmp_path, location):
    (tmp_path / "weights.bin").write_bytes(b"\0" * 4096)
    (tmp_path / "inner").mkdir()
    proto = nets.mlp()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path = tmp_path / "inner" / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="external"):
        read_model(path)


def test_external_data_behind_a_link_out_is_refused_and_in_a_model_cache_is_not(tmp_path):
    store, snapshot, elsewhere = (tmp_path / name for name in ("store", "snapshot", "elsewhere"))
    for folder in (store, snapshot, elsewhere):
        folder.mkdir()
    path = with_external_data(store)
    (elsewhere / "base.onnx").write_bytes(path.read_bytes())
    (elsewhere / "weights.bin").symlink_to(store / "weights.bin")
    with pytest.raises(ModelError, match="link"):
        read_model(elsewhere / "base.onnx")
    for name in ("base.onnx", "weights.bin"):
        (snapshot / name).symlink_to(store / name)
    assert read_model(snapshot / "base.onnx").external[0].path == store / "weights.bin"


@pytest.mark.parametrize(("key", "value"), [("length", "99999999"), ("offset", "-1"), ("offset", "x")])
def test_external_data_of_the_wrong_extent_is_refused(tmp_path, key, value):
    path = with_external_data(tmp_path)
    proto = onnx.load(path, load_external_data=False)
    entry = next(entry for entry in proto.graph.initializer[0].external_data if entry.key == key)
    entry.value = value
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="external"):
        read_model(path)


def test_external_tensors_inside_bodies_and_attributes_are_seen(tmp_path):
    tensor = numpy_helper.from_array(np.ones(2, np.float32), "t")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="gone.bin")
    constant = helper.make_node("Constant", [], ["c"], value=tensor)
    body = helper.make_graph([constant], "b", [], [helper.make_tensor_value_info("c", 1, [2])])
    node = helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body)
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", 1, [2])],
    )  # fmt: skip
    with pytest.raises(ModelError, match="missing"):
        tweaks.saved(helper.make_model(graph), tmp_path)


def test_write_atomic_writes_the_chunks_with_ordinary_permissions(tmp_path):
    target = tmp_path / "out.bin"
    check_output(target)
    write_atomic(target, [b"ab", b"", b"c"])
    assert target.read_bytes() == b"abc" and left_in(tmp_path) == ["out.bin"]
    (tmp_path / "plain").touch()
    assert target.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_an_existing_output_needs_force(tmp_path):
    target = tmp_path / "out.bin"
    target.write_bytes(b"old")
    for attempt in (lambda: check_output(target), lambda: write_atomic(target, [b"new"])):
        with pytest.raises(OutputError, match="exists") as caught:
            attempt()
        assert "--force" in caught.value.hint
    assert target.read_bytes() == b"old"
    write_atomic(target, [b"new"], force=True)
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize("how", ["itself", "spelled differently", "symlink", "hardlink", "dangling symlink"])
def test_a_protected_file_is_never_an_output(tmp_path, how):
    base = tmp_path / "base.onnx"
    base.write_bytes(b"base")
    (tmp_path / "sub").mkdir()
    out = tmp_path / "out.onnx"
    if how == "itself":
        out = base
    elif how == "spelled differently":
        out = tmp_path / "sub" / ".." / "base.onnx"
    elif how == "symlink":
        out.symlink_to(base)
    elif how == "hardlink":
        os.link(base, out)
    else:
        base.unlink()
        out.symlink_to(base)
    for attempt in (check_output, lambda path, **options: write_atomic(path, [b"x"], **options)):
        with pytest.raises(OutputError, match="made from"):
            attempt(out, force=True, protect=[base])
    assert not base.exists() or base.read_bytes() == b"base"


def test_outputs_that_cannot_be_are_refused_before_the_work(tmp_path):
    with pytest.raises(OutputError, match="folder does not exist"):
        check_output(tmp_path / "absent" / "out.onnx")
    with pytest.raises(OutputError, match="is a folder"):
        check_output(tmp_path, force=True)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="folder does not exist"):
        check_output(tmp_path / "file" / "out.onnx")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="regular"):
        check_output(tmp_path / "pipe", force=True)
    with pytest.raises(OutputError, match="cannot be written"):
        check_output(tmp_path / ("n" * 300))
    with pytest.raises(OutputError):
        check_output("a\0b")
    assert left_in(tmp_path) == ["file"]


def test_an_unwritable_folder_is_refused(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("onnxtweak.model.file.output_file.os.open", refuse)
    for attempt in (check_output, lambda path: write_atomic(path, [b"x"])):
        with pytest.raises(OutputError, match="Permission denied"):
            attempt(tmp_path / "out.onnx")


def test_nothing_stays_behind_when_the_disk_is_full(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("onnxtweak.model.file.output_file.os.fsync", full)
    with pytest.raises(OutputError, match="disk is full"):
        write_atomic(tmp_path / "out.onnx", [b"x" * 1000])
    assert left_in(tmp_path) == []


def test_nothing_stays_behind_after_an_interruption(tmp_path):
    (tmp_path / "out.onnx").write_bytes(b"old")

    def interrupted():
        yield b"half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "out.onnx", interrupted(), force=True)
    assert left_in(tmp_path) == ["out.onnx"] and (tmp_path / "out.onnx").read_bytes() == b"old"


def test_write_model_takes_external_data_along(tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    model = read_model(with_external_data(tmp_path / "here", ("w.bin", "sub/v.bin")))
    there = tmp_path / "there"
    written = write_model(model, there / "out.onnx", [model.data])
    assert {path.relative_to(there).as_posix() for path in written} == {"out.onnx", "w.bin", "sub/v.bin"}
    feeds = nets.random_inputs(model.proto, 3)
    assert np.array_equal(tweaks.run(there / "out.onnx", feeds)[0], tweaks.run(model.path, feeds)[0])
    assert not any(path.is_symlink() for path in written)
    again = write_model(model, there / "second.onnx", [model.data])
    assert again == (there / "second.onnx",)
    beside = write_model(model, tmp_path / "here" / "out.onnx", [model.data])
    assert beside == (tmp_path / "here" / "out.onnx",)


def test_write_model_never_replaces_other_weights(tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    model = read_model(with_external_data(tmp_path / "here"))
    with pytest.raises(OutputError, match="made from"):
        write_model(model, tmp_path / "here" / "weights.bin", [model.data], force=True)
    other = tmp_path / "there" / "weights.bin"
    other.write_bytes(b"other")
    for attempt in (check_model_output, lambda *where, **how: write_model(*where, [b"x"], **how)):
        with pytest.raises(OutputError, match="different file"):
            attempt(model, tmp_path / "there" / "out.onnx", force=True)
    assert other.read_bytes() == b"other" and left_in(tmp_path / "there") == ["weights.bin"]


def test_write_model_takes_copies_back_when_the_model_cannot_be_written(tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    model = read_model(with_external_data(tmp_path / "here", ("w.bin", "sub/v.bin")))

    def interrupted():
        yield b"half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_model(model, tmp_path / "there" / "out.onnx", interrupted())
    assert list((tmp_path / "there").iterdir()) == []


def test_an_output_beside_linked_weights_is_refused(tmp_path):
    store, snapshot = tmp_path / "store", tmp_path / "snapshot"
    store.mkdir()
    snapshot.mkdir()
    with_external_data(store)
    for name in ("base.onnx", "weights.bin"):
        (snapshot / name).symlink_to(store / name)
    model = read_model(snapshot / "base.onnx")
    with pytest.raises(OutputError, match="link"):
        write_model(model, snapshot / "out.onnx", [model.data])
    assert left_in(snapshot) == ["base.onnx", "weights.bin"]
