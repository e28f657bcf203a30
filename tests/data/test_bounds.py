"""Sizes are read from headers before anything is loaded; what is no regular file is refused."""

from __future__ import annotations

import io
import os
import tempfile
import tracemalloc
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from onnxtweak.data.labels import read_names
from onnxtweak.data.open_data import open_data
from onnxtweak.data.preprocess.transforms import pillow_decoder
from onnxtweak.data.samples import InputSpec
from onnxtweak.data.sources import held_whole
from onnxtweak.errors import DataError, InputError, UsageError
from onnxtweak.input_files import require_regular
from onnxtweak.model.edit.tweak_file import load
from onnxtweak.recipe.reading import read_recipe
from onnxtweak.settings import Preprocess

INPUTS = (InputSpec("input", "float32", (None, 4)),)
X = np.zeros((3, 4), np.float32)


def opened(path):
    return open_data([str(path)], inputs=INPUTS, preprocess=Preprocess())


def header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """A .npy header alone."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def bomb(path, **claimed):
    """An archive whose arrays `claimed` (dtype, shape) are zeros that compress to nearly nothing."""
    np.savez(path, x=X, **({} if "y" in claimed else {"y": np.arange(3)}))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, (dtype, shape) in claimed.items():
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                member.write(header(dtype, shape))
                for _ in range(-(-size // 2**24)):
                    member.write(bytes(2**24))


@pytest.mark.parametrize(
    ("claimed", "said"),
    [
        ({"y": ("<i8", (10_000_000,))}, "labels of shape .10000000,., int64, would take 76 MiB"),
        ({"y": ("<U10000", (2_000,))}, "labels of shape .2000,., <U10000, would take 76 MiB"),
        ({"classes": ("<U2000", (10_000,))}, "class names of shape .10000,., <U2000, would take 76 MiB"),
        ({"y": ("<f8", (3, 4, 5))}, "are float64"),
    ],
)
def test_arrays_that_expand_are_refused_before_they_are_loaded(tmp_path, claimed, said, monkeypatch):
    monkeypatch.setitem(held_whole._MOST_BYTES, "labels", 2**26)
    bomb(tmp_path / "a.npz", **claimed)
    assert (tmp_path / "a.npz").stat().st_size < 2**22
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=said):
            opened(tmp_path / "a.npz")
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_labels_may_be_as_many_as_half_a_gigabyte_holds():
    asked = (np.dtype(np.int64), "y in a.npz", "labels", 2**40)
    held_whole.require_small((2**26,), *asked)
    with pytest.raises(DataError, match="would take 534 MiB: more than the 512 MiB allowed"):
        held_whole.require_small((70_000_000,), *asked)


def test_a_stored_array_with_a_wrong_checksum_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=X + 1, y=np.arange(3))
    data = bytearray(path.read_bytes())
    place = data.index(np.float32(1).tobytes() * 4)
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="Bad CRC-32"):
        opened(path)


def test_boolean_class_arrays_and_labels_without_width(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=np.arange(3), classes=np.ones(3, bool))
    assert opened(tmp_path / "a.npz").classes is None
    np.savez(tmp_path / "b.npz", x=X, y=np.empty((3, 0)))
    with pytest.raises(DataError, match=r"labels of shape \(3, 0\) are empty"):
        opened(tmp_path / "b.npz")


@pytest.mark.parametrize(
    "read", [load, read_recipe, read_names, opened], ids=["tweak", "recipe", "names", "data"]
)
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, read, kind):
    path = tmp_path / "pipe.npz"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match="not a regular file, but a pipe, socket or device"):
        read(path)


def test_a_picture_that_is_a_pipe_is_refused(tmp_path):
    (tmp_path / "images" / "a").mkdir(parents=True)
    os.mkfifo(tmp_path / "images" / "a" / "0.png")
    with pytest.raises(DataError, match=r"not a regular file|no images"):
        opened(tmp_path / "images")


def test_texts_of_absurd_size_are_refused(tmp_path):
    for name, read, kind in (("names.txt", read_names, DataError), ("tweak.toml", read_recipe, UsageError)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(2**30)
        with pytest.raises(kind, match="1,024 MiB, over the 64 MiB"):
            read(tmp_path / name)


def test_what_may_not_be_read_is_said(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"x")
    monkeypatch.setattr("os.access", lambda *_, **__: False)  # root may read everything
    with pytest.raises(InputError, match="the file cannot be read: Permission denied"):
        load(path)
    monkeypatch.setattr("os.stat", _denied)
    with pytest.raises(InputError, match="the file cannot be read: Permission denied"):
        require_regular(path, InputError)


def _denied(*_):
    raise PermissionError(13, "Permission denied")


@contextmanager
def nobody():
    """As a user who owns nothing; root may read everything."""
    if not hasattr(os, "seteuid") or os.geteuid() != 0:
        pytest.skip("only root can become another user")
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def files():
    """A folder that anybody may enter, with a source of each kind."""
    pytest.importorskip("PIL.Image", reason="images are read by Pillow")
    from PIL import Image

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "shards").mkdir()
        for place in ("a.npz", "shards/s0.npz"):
            np.savez(folder / place, x=X, y=np.arange(3))
        np.save(folder / "x.npy", X)
        np.save(folder / "y.npy", np.arange(3))
        (folder / "a.csv").write_text("a,b,c,d,label\n1,2,3,4,0\n")
        (folder / "f.py").write_text("def f(): yield 1, 2\n")
        (folder / "names.txt").write_text("a\nb\n")
        (folder / "images" / "c").mkdir(parents=True)
        Image.new("L", (4, 4)).save(folder / "images" / "c" / "0.png")
        yield folder


SOURCES = ["a.npz", "a.npz#train", "x.npy", "a.csv", "f.py:f", "shards", "images"]


@pytest.mark.parametrize("what", ["files", "folder"])
@pytest.mark.parametrize("source", SOURCES)
def test_what_another_may_not_read_is_said(files, source, what):
    opened(files / "a.npz")
    pillow_decoder()  # what is imported on the way, another may not be able to read
    for path in files.rglob("*"):
        if path.is_file():
            path.chmod(0 if what == "files" else 0o644)
    files.chmod(0o755 if what == "files" else 0)
    try:
        with nobody(), pytest.raises(DataError, match="cannot be read: Permission denied") as caught:
            opened(files / source)
        assert "ls -l" in caught.value.hint or "who may read" in caught.value.hint
    finally:
        files.chmod(0o755)


@pytest.mark.parametrize("closed", ["images", "images/c", "shards"])
def test_folders_that_may_not_be_listed_are_said(files, closed):
    (files / closed).chmod(0)
    with nobody(), pytest.raises(DataError, match="it cannot be read: Permission denied"):
        opened(files / closed.partition("/")[0])


def test_recipes_and_long_names(files):
    (files / "r.toml").write_text("")
    files.chmod(0)
    with nobody(), pytest.raises(UsageError, match="cannot be read: Permission denied"):
        read_recipe(files / "r.toml")
    for read, kind in ((opened, DataError), (read_recipe, UsageError)):
        with pytest.raises(kind, match="it cannot be read: File name too long"):
            read("n" * 5000)


@pytest.mark.parametrize("name", ["s1.npz", "y.npy"])
def test_pipes_among_files_are_refused(files, name):
    place = files / ("shards" if name == "s1.npz" else ".") / name
    place.unlink(missing_ok=True)
    os.mkfifo(place)
    with pytest.raises(DataError, match="not a regular file, but a pipe"):
        opened(place.parent if name == "s1.npz" else files / "x.npy")
