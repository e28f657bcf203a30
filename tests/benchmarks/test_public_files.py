"""How benchmarks/science/fit/public reads the files of others, and what its page says of them."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from benchmarks.science.fit import public_nets
from benchmarks.science.fit.public import pickles, sounds, torch_file
from benchmarks.science.fit.public.graph import Graph, any_batch
from benchmarks.science.fit.public.images import halved
from benchmarks.science.fit.public.repositories import Clones, Repository

PAGE = Path(public_nets.__file__).parent / "public" / "README.md"


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("made-by-a-pickle",)


def test_a_pickle_of_others_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    held = pickles.read(pickle.dumps({"array": np.arange(3.0), "harm": Harmful()}))
    assert held["array"].tolist() == [0, 1, 2] and isinstance(held["harm"], pickles.Stranger)
    assert not list(tmp_path.iterdir())


class Storage:
    def __init__(self, key: str, values: np.ndarray) -> None:
        self.key, self.values = key, values


class FloatStorage:
    __module__ = "torch"


class Rebuilt:
    """A tensor, pickled as PyTorch pickles it."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments

    def __reduce__(self):
        return _rebuild_tensor_v2, self.arguments


def _rebuild_tensor_v2(*arguments: object) -> None:
    raise AssertionError("the reader has a function of its own")


def saved(storage: Storage, whole: object) -> bytes:
    """A pickle with the storage outside it."""

    class Writer(pickle.Pickler):
        def persistent_id(self, value: object) -> tuple | None:
            kind = "FloatStorage"
            return ("storage", kind, value.key, "cpu", len(value.values)) if value is storage else None

    file = io.BytesIO()
    Writer(file, protocol=2).dump(whole)
    return file.getvalue()


@pytest.fixture
def stored(monkeypatch):
    """A storage, a checkpoint with a transposed view of it, and what that view holds."""
    storage = Storage("0", np.arange(8, dtype=np.float32))
    monkeypatch.setattr(torch_file, "DTYPES", {"FloatStorage": "<f4"})
    view = Rebuilt(storage, 2, (2, 3), (1, 2), False, None)
    return storage, {"epoch": 3, "state": {"W": view}}, np.arange(2, 8, dtype=np.float32).reshape(3, 2).T


def test_tensors_of_a_zip(stored):
    storage, whole, W = stored
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("net/data.pkl", saved(storage, whole))
        archive.writestr("net/data/0", storage.values.tobytes())
    found = torch_file.tensors(file.getvalue())
    assert list(found) == ["state.W"]
    np.testing.assert_array_equal(found["state.W"], W)


def test_tensors_of_the_older_format(stored):
    storage, whole, W = stored
    parts = [pickle.dumps(each, protocol=2) for each in (0x1950A86A20F9469CFC6C, 1001, {})]
    parts += [saved(storage, whole), pickle.dumps(["0"], protocol=2)]
    parts += [len(storage.values).to_bytes(8, "little"), storage.values.tobytes()]
    np.testing.assert_array_equal(torch_file.tensors(b"".join(parts))["state.W"], W)


def outputs(model: bytes, x: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(model).run(None, {"x": x})[0]


def test_files_come_from_the_commit_that_is_named(tmp_path):
    place = tmp_path / "owner+name"
    (place / "data").mkdir(parents=True)
    git = ["git", "-C", str(place), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    for content in ("old", "new"):
        (place / "data" / "a.txt").write_text(content)
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-qm", content], check=True)
    told = subprocess.run([*git, "rev-parse", "HEAD~1"], check=True, stdout=subprocess.PIPE, text=True)
    clones, repository = (
        Clones(tmp_path / "cache", tmp_path),
        Repository("owner/name", told.stdout.strip(), ""),
    )
    assert clones.read(repository, "data/a.txt") == b"old"
    assert clones.read_all(repository, "data") == {"data/a.txt": b"old"}


def test_a_shortcut_without_parameters():
    graph = Graph()
    model = graph.model((4, 4, 4), halved(graph, "x", inner_width=8))
    x = np.random.default_rng(0).normal(size=(3, 4, 4, 4)).astype(np.float32)
    found = outputs(model, x)
    assert found.shape == (3, 8, 2, 2) and not found[:, [0, 1, 6, 7]].any()
    np.testing.assert_array_equal(found[:, 2:6], x[:, :, ::2, ::2])


def test_a_model_for_one_sample_takes_any_number():
    graph = Graph()
    one = graph.model((2,), graph.dense("x", np.eye(2), np.ones(2)))
    assert outputs(any_batch(one), np.zeros((5, 2), np.float32)).shape == (5, 2)


def test_a_keras_file_in_both_orders_of_its_axes():
    h5py = pytest.importorskip("h5py")
    from benchmarks.science.fit.public.keras_file import convert

    rng = np.random.default_rng(0)
    W, b = rng.normal(size=(3, 3, 2, 4)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    V = rng.normal(size=(2 * 3 * 4, 5)).astype(np.float32)
    conv = {"name": "c", "batch_input_shape": [None, 4, 5, 2], "padding": "valid", "strides": [1, 1]}
    layers = [
        {"class_name": "Conv2D", "config": {**conv, "activation": "relu"}},
        {"class_name": "Flatten", "config": {"name": "f"}},
        {"class_name": "Dense", "config": {"name": "d", "activation": "linear"}},
    ]
    file = io.BytesIO()
    with h5py.File(file, "w") as held:
        held.attrs["model_config"] = json.dumps({"config": {"layers": layers}})
        for name, arrays in (("c", (W, b)), ("d", (V, np.zeros(5, np.float32)))):
            for i, array in enumerate(arrays):
                held[f"model_weights/{name}/{i}"] = array
            held[f"model_weights/{name}"].attrs["weight_names"] = [str(i) for i in range(len(arrays))]
    x = rng.normal(size=(2, 4, 5, 2)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    maps = np.maximum(np.einsum("nijcuv,uvco->nijo", windows, W) + b, 0)
    np.testing.assert_allclose(outputs(convert(file.getvalue()), x), maps.reshape(2, -1) @ V, rtol=2e-5)


def test_a_tone_lies_in_its_band():
    tone = np.sin(2 * np.pi * 1000 * np.arange(4000) / sounds.RATE).astype(np.float32)
    power = np.abs(np.fft.rfft(sounds.windows(tone, sounds.WINDOW, sounds.HOP))) ** 2
    loudest = (power @ sounds.mel_bands().T).mean(0).argmax()
    knee = 15 / (15 + np.log(4) / np.log(6.4) * 27) * (sounds.BANDS + 1) - 1  # the band of 1 kHz
    assert abs(loudest - knee) <= 1.5
    assert sounds.cepstra(tone, sounds.mel_bands()).shape == (33, sounds.CEPSTRA)
    quiet = np.concatenate([np.zeros(1000, np.float32), tone, np.zeros(1000, np.float32)])
    assert 4000 <= len(sounds.trimmed(quiet)) <= 4000 + 2 * sounds.WINDOW


def test_the_page_says_where_each_net_is_from():
    page = PAGE.read_text(encoding="utf-8")
    assert len({net.name for net in public_nets.NETS}) == len(public_nets.NETS) >= 8
    for net in public_nets.NETS:
        row = next(line for line in page.splitlines() if line.startswith(f"| `{net.name}` |"))
        assert all(said in row for said in (net.kind, net.note, net.source, net.licence)), net.name
