"""The .npz reader: stored members are mapped, compressed ones held or streamed, damage is reported."""

import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onnxtweak.data import InputSpec, open_data
from onnxtweak.data.samples import ArrayColumn
from onnxtweak.data.sources.npy import MappedColumn
from onnxtweak.data.sources.npz import CompressedColumn
from onnxtweak.errors import DataError
from onnxtweak.settings import GiB, Preprocess

FLAT = (InputSpec("input", "float32", (None, 5)),)


def opened(path, inputs=FLAT, memory=4 * GiB):
    return open_data([str(path)], inputs=inputs, preprocess=Preprocess(), memory=memory)


def arrays(samples=40, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(samples, 5)).astype(np.float32), np.arange(samples) % 3


def read(dataset, rows=None, size=7):
    batches = list(dataset.batches(rows, size))
    return np.concatenate([inputs["input"] for inputs, _, _ in batches])


def test_stored_members_are_mapped_where_they_lie(tmp_path):
    x, y = arrays()
    np.savez(tmp_path / "a.npz", x=x, y=y)
    dataset = opened(tmp_path / "a.npz", memory=0)
    assert isinstance(dataset.parts[0].columns["input"], MappedColumn)
    np.testing.assert_array_equal(read(dataset), x)
    np.testing.assert_array_equal(dataset.labels, y)


def test_compressed_members_are_held_only_when_they_fit_into_a_quarter(tmp_path):
    x, y = arrays()
    np.savez_compressed(tmp_path / "a.npz", x=x, y=y)
    held = opened(tmp_path / "a.npz", memory=4 * x.nbytes)
    streamed = opened(tmp_path / "a.npz", memory=4 * x.nbytes - 4)
    assert isinstance(held.parts[0].columns["input"], ArrayColumn)
    assert isinstance(streamed.parts[0].columns["input"], CompressedColumn)
    np.testing.assert_array_equal(read(held), x)
    np.testing.assert_array_equal(read(streamed), x)
    np.testing.assert_array_equal(read(streamed), x)  # a second pass begins anew


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_streaming_equals_numpy_for_any_ascending_rows(tmp_path, monkeypatch, data):
    samples = data.draw(st.integers(1, 60))
    x, y = arrays(samples, seed=samples)
    np.savez_compressed(tmp_path / "a.npz", x=x, y=y)
    rows = np.array(sorted(data.draw(st.sets(st.integers(0, samples - 1)))), np.int64)
    monkeypatch.setattr(
        "onnxtweak.data.sources.npz._BLOCK", data.draw(st.sampled_from([1, 60, 200, 1 << 20]))
    )
    size = data.draw(st.integers(1, 70))
    dataset = opened(tmp_path / "a.npz", memory=0)
    got = list(dataset.batches(rows, size))
    assert [len(labels) for _, labels, _ in got] == [
        len(rows[i : i + size]) for i in range(0, len(rows), size)
    ]
    for inputs, labels, numbers in got:
        np.testing.assert_array_equal(inputs["input"], x[numbers])
        np.testing.assert_array_equal(labels, y[numbers])
    np.testing.assert_array_equal(np.concatenate([np.empty(0, np.int64), *(n for _, _, n in got)]), rows)


def test_data_larger_than_memory_is_read_in_bounded_memory(tmp_path):
    x = np.zeros((400_000, 5), np.float32)
    x[:, 0] = np.arange(len(x))
    np.savez_compressed(tmp_path / "a.npz", x=x, y=np.zeros(len(x), np.uint8))
    dataset = opened(tmp_path / "a.npz", memory=x.nbytes // 2)
    tracemalloc.start()
    last = [inputs["input"][-1, 0] for inputs, _, _ in dataset.batches(None, 1000)][-1]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert last == 399_999
    assert peak < x.nbytes  # 3.2 MB of these are the row numbers


def test_a_streamed_column_goes_forward_only(tmp_path, monkeypatch):
    monkeypatch.setattr("onnxtweak.data.sources.npz._BLOCK", 60)
    x, y = arrays()
    np.savez_compressed(tmp_path / "a.npz", x=x, y=y)
    column = opened(tmp_path / "a.npz", memory=0).parts[0].columns["input"]
    with column.open() as take:
        take(np.array([20]))
        np.testing.assert_array_equal(take(np.array([21])), x[21:22])
    with pytest.raises(ValueError, match="ascend"), column.open() as take:
        take(np.array([20]))
        take(np.array([3]))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_fortran_order_reads_the_same(tmp_path, save):
    x, y = arrays()
    save(tmp_path / "a.npz", x=np.asfortranarray(x), y=y)
    np.testing.assert_array_equal(read(opened(tmp_path / "a.npz", memory=0)), x)


def test_big_endian_values_arrive_native(tmp_path):
    x, y = arrays()
    np.savez(tmp_path / "a.npz", x=x.astype(">f4"), y=y.astype(">i2"))
    dataset = opened(tmp_path / "a.npz")
    assert next(dataset.batches(None, 4))[0]["input"].dtype == np.dtype("<f4")
    np.testing.assert_array_equal(read(dataset), x)
    np.testing.assert_array_equal(dataset.labels, y)


def test_class_names_come_along(tmp_path):
    x, y = arrays()
    np.savez(tmp_path / "a.npz", x=x, y=y, classes=np.array(["cat", "dog", "eel"]))
    assert opened(tmp_path / "a.npz").classes == ("cat", "dog", "eel")


def test_several_inputs_by_name(tmp_path):
    x, y = arrays()
    np.savez(tmp_path / "a.npz", left=x, right=x[:, :2], labels=y)
    specs = (InputSpec("right", "float32", (None, 2)), InputSpec("left", "float32", (1, 5)))
    dataset = opened(tmp_path / "a.npz", specs)
    inputs, _, _ = next(dataset.batches(np.array([3, 5]), 9))
    assert dataset.inputs == ("right", "left")
    np.testing.assert_array_equal(inputs["left"], x[[3, 5]])
    np.testing.assert_array_equal(inputs["right"], x[[3, 5], :2])


def test_python_objects_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{}, {}], object), y=np.arange(2))
    with pytest.raises(DataError, match="Python objects") as caught:
        opened(tmp_path / "a.npz")
    assert "run code" in str(caught.value)


def test_what_is_no_zip_is_refused(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"not a zip")
    with pytest.raises(DataError, match=r"not a \.npz file"):
        opened(tmp_path / "a.npz")


def test_a_member_that_is_no_array_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", b"hello, this is not an array")
        archive.writestr("y.npy", b"hello, this is not an array")
    with pytest.raises(DataError, match=r"not a \.npy array"):
        opened(tmp_path / "a.npz")


@pytest.mark.parametrize("memory", [0, 4 * GiB])
def test_damage_inside_a_compressed_member_is_said(tmp_path, memory):
    x, y = arrays(4000)
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=x, y=y)
    raw = bytearray(path.read_bytes())
    raw[20000:20100] = bytes(100)
    path.write_bytes(raw)
    with pytest.raises(DataError, match="damaged"):
        read(opened(path, memory=memory))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    at=st.integers(0, 1200), byte=st.integers(0, 255), save=st.sampled_from([np.savez, np.savez_compressed])
)
def test_any_damaged_byte_is_read_or_refused_never_a_crash(tmp_path, at, byte, save):
    x, y = arrays(20)
    path = tmp_path / "a.npz"
    save(path, x=x, y=y)
    raw = bytearray(path.read_bytes())
    raw[at % len(raw)] = byte
    path.write_bytes(raw)
    try:
        got = read(opened(path, memory=0))
    except DataError:
        return
    assert got.shape == (20, 5)


@pytest.mark.parametrize(
    ("key", "looked_for", "hint"),
    [
        ("trian", "x_trian", "did you mean {path}#train?"),
        ("zzz", "x_zzz", "choose one of {path}#train, {path}#test"),
    ],
)
def test_a_key_that_is_misspelt_is_shown_with_what_was_looked_for(tmp_path, key, looked_for, hint):
    path = tmp_path / "a.npz"
    rows = {"x": np.zeros((2, 2), np.float32), "y": np.zeros(2, int)}
    np.savez(path, **{f"{name}_{part}": array for name, array in rows.items() for part in ("train", "test")})
    with pytest.raises(DataError) as raised:
        opened(f"{path}#{key}")
    assert f"`{looked_for}`" in raised.value.what and "found `x_test`, `x_train`" in raised.value.what
    assert raised.value.hint == hint.format(path=path)


def test_labels_need_another_name_where_an_input_is_called_y(tmp_path):
    x, y = arrays()
    inputs = (InputSpec("y", "float32", (None, 5)),)
    np.savez(tmp_path / "a.npz", x=x, y=y)
    with pytest.raises(DataError) as caught:
        opened(tmp_path / "a.npz", inputs)
    assert "as `labels`" in caught.value.hint
    np.savez(tmp_path / "b.npz", x=x, labels=y)
    np.testing.assert_array_equal(opened(tmp_path / "b.npz", inputs).labels, y)
