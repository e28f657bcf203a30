"""dump and score: tables on disk say what the model says."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest

from onnxtweak import commands
from onnxtweak.engine.shared import kept_shards
from onnxtweak.errors import DataError, InputError, OutputError
from onnxtweak.settings import (
    DataSettings,
    EngineSettings,
    JoinSettings,
    OutputSettings,
    TapSettings,
    TargetSettings,
)
from onnxtweak.theta.gaps import reciprocal_gaps
from tests.support.plain_session import plain_session
from tests.support.weak_class import TARGET, weak_cnn, weak_mlp

NUMPY = EngineSettings(backend="numpy")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    model, data = weak_cnn(folder, n=250)
    directory = folder / "dump"
    dumped = commands.dump(
        model=str(model), data=DataSettings((str(data),)), directory=str(directory), engine=NUMPY
    )
    return model, data, directory, dumped


def test_the_tables_are_the_models_own_values(made):
    model, data, directory, dumped = made
    assert (dumped.samples, dumped.shards, dumped.neurons) == (250, 1, 4 * 64 + 4 * 16 + 8 * 4)
    manifest = json.loads((directory / "manifest.json").read_text())
    proto = onnx.load(model)
    for tap in manifest["taps"]:
        proto.graph.output.append(onnx.ValueInfoProto(name=tap["name"]))
    session = plain_session(proto.SerializeToString())
    with np.load(data) as file:
        Z, *V = session.run(None, {session.get_inputs()[0].name: file["x"]})
        np.testing.assert_array_equal(np.load(directory / "L-00000.npy"), file["y"])
    np.testing.assert_allclose(np.load(directory / "Z-00000.npy"), Z, atol=1e-6)
    flat = np.concatenate([v.reshape(250, -1) for v in V], axis=1)
    np.testing.assert_allclose(np.load(directory / "V-00000.npy"), flat, atol=1e-6)


def test_a_dump_that_was_killed_goes_on_with_the_same_bytes(made, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    plain, saved = kept_shards.save_arrays, []

    def save(file, arrays):
        plain(file, arrays)
        saved.append(file.name)
        raise Killed

    def dumped(name, **changes):
        engine = replace(NUMPY, batch=7, shard=60, threads=1, **changes)
        settings = {"model": str(made[0]), "data": DataSettings((str(made[1]),))}
        commands.dump(**settings, directory=str(tmp_path / name), engine=engine)
        return {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}

    whole = dumped("whole")
    monkeypatch.setattr(kept_shards, "save_arrays", save)
    for _ in range(5):
        with pytest.raises(Killed):
            dumped("again", work_dir=str(tmp_path / "work"), resume=True)
    assert dumped("again", work_dir=str(tmp_path / "work"), resume=True) == whole
    assert len(saved) == len(set(saved)) == 5


def test_scores_from_a_dump_are_those_from_the_model(made, tmp_path):
    model, data, directory, _ = made
    files = []
    for source in (str(data), str(directory)):
        files.append(tmp_path / f"{len(files)}.npz")
        scored = commands.score(
            model=str(model),
            data=DataSettings((source,)),
            engine=NUMPY,
            targets=TargetSettings(("0", str(TARGET))),
            settings=JoinSettings(count=(5,)),
            output=OutputSettings(str(files[-1])),
        )
        assert scored.neurons == 352 and len(scored.top) == 10
    assert files[0].read_bytes() == files[1].read_bytes()


def test_scores_keep_their_promise_on_the_dumped_tables(made, tmp_path):
    model, _, directory, _ = made
    commands.score(
        model=str(model),
        data=DataSettings((str(directory),)),
        engine=NUMPY,
        targets=TargetSettings((str(TARGET),)),
        output=OutputSettings(str(tmp_path / "s.npz")),
    )
    V, Z, L = (np.load(directory / f"{name}-00000.npy") for name in "VZL")
    with np.load(tmp_path / "s.npz") as scores:
        weight, count = scores["weight"][0], scores["count"][0]
    gaps = reciprocal_gaps(Z, L, np.array([TARGET]))
    for m in np.argsort(-count)[:30]:
        boosted = Z.astype(np.float64)
        boosted[:, TARGET] += weight[m] * V[:, m]
        before, after = Z.argmax(axis=1) == L, boosted.argmax(axis=1) == L
        assert not (before & ~after).any()
        assert (after & ~before)[gaps.wanted[:, 0] > 0].sum() == count[m]


def test_chosen_neurons_alone_can_be_dumped(made, tmp_path):
    model, data, directory, _ = made
    scores = tmp_path / "s.npz"
    commands.score(
        model=str(model),
        data=DataSettings((str(data),)),
        engine=NUMPY,
        targets=TargetSettings((str(TARGET),)),
        settings=JoinSettings(count=(7,)),
        output=OutputSettings(str(scores)),
    )
    dumped = commands.dump(
        model=str(model),
        data=DataSettings((str(data),)),
        directory=str(tmp_path / "few"),
        engine=NUMPY,
        neurons=str(scores),
    )
    assert dumped.neurons == 7
    with np.load(scores) as file:
        weight = file["weight"][0]
    manifest = json.loads((tmp_path / "few" / "manifest.json").read_text())
    starts = {"": 0}
    at = 0
    for tap in json.loads((directory / "manifest.json").read_text())["taps"]:
        starts[tap["name"]] = at
        at += int(np.prod(tap["shape"]))
    chosen = manifest["neurons"]
    columns = [
        starts[chosen["taps"][t]["name"]] + i for t, i in zip(chosen["tap_of"], chosen["index"], strict=True)
    ]
    whole = np.load(directory / "V-00000.npy")
    np.testing.assert_allclose(np.load(tmp_path / "few" / "V-00000.npy"), whole[:, columns], atol=1e-6)
    assert (weight[columns] != 0).all()
    with pytest.raises(DataError, match="chosen neurons only"):
        commands.score(
            model=str(model),
            data=DataSettings((str(tmp_path / "few"),)),
            engine=NUMPY,
            targets=TargetSettings((str(TARGET),)),
        )


def test_a_dump_is_not_replaced_without_force_and_nothing_else_is_ever_replaced(made, tmp_path):
    model, data, directory, _ = made
    settings = {"model": str(model), "data": DataSettings((str(data),)), "engine": NUMPY}
    with pytest.raises(OutputError, match="exists"):
        commands.dump(**settings, directory=str(directory))
    commands.dump(**settings, directory=str(directory), force=True)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    with pytest.raises(OutputError, match="not a dump"):
        commands.dump(**settings, directory=str(precious), force=True)
    assert (precious / "file").read_text() == "mine"


def test_a_dump_of_another_model_is_refused(made, tmp_path):
    _, _, directory, _ = made
    other, _ = weak_mlp(tmp_path, n=20)
    with pytest.raises(DataError, match="another model"):
        commands.score(
            model=str(other),
            data=DataSettings((str(directory),)),
            engine=NUMPY,
            taps=TapSettings(),
            targets=TargetSettings(("0",)),
        )


@pytest.mark.parametrize("harm", ["manifest", "shard"])
def test_a_damaged_dump_is_refused(made, tmp_path, harm):
    model, _, directory, _ = made
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in directory.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    if harm == "manifest":
        (copy / "manifest.json").write_text("{}")
    else:
        (copy / "V-00000.npy").write_bytes((copy / "V-00000.npy").read_bytes()[:200])
    with pytest.raises(DataError, match="damaged"):
        commands.score(
            model=str(model),
            data=DataSettings((str(copy),)),
            engine=NUMPY,
            targets=TargetSettings((str(TARGET),)),
        )


def other_headers(data: bytes):
    """What NumPy's own reader of headers trips over in different ways."""
    yield data[:30]
    yield b""
    yield data[:12] + bytes(40) + data[52:]
    yield data.replace(b"{", b"(", 1)
    yield data.replace(b"}", b" ", 1)
    yield data.replace(b"'descr'", b'\'\n"""  \'', 1)
    yield data.replace(b"'shape': (", b"'shape': (99999999999999999999,", 1)


@pytest.mark.parametrize("name", ["V-00000.npy", "L-00000.npy"])
def test_tables_with_damaged_headers_are_refused(made, tmp_path, name):
    model, _, directory, _ = made
    tables = tmp_path / "tables"
    shutil.copytree(directory, tables)
    whole = (tables / name).read_bytes()
    for data in other_headers(whole):
        assert data != whole
        (tables / name).write_bytes(data)
        with pytest.raises(DataError, match=r"damaged|shape"):
            commands.score(
                model=str(model),
                data=DataSettings((str(tables),)),
                targets=TargetSettings((str(TARGET),)),
                engine=NUMPY,
            )


@pytest.mark.skipif(os.name == "nt", reason="pipes with names")
@pytest.mark.parametrize("name", ["V-00000.npy", "L-00000.npy"])
@pytest.mark.parametrize("instead", ["a pipe", "a folder", "a device"])
def test_what_is_no_file_is_not_waited_for(made, tmp_path, name, instead):
    model, _, directory, _ = made
    tables = tmp_path / "tables"
    shutil.copytree(directory, tables)
    for path in (tables / name, tmp_path / "other.npz"):
        path.unlink(missing_ok=True)
        if instead == "a pipe":
            os.mkfifo(path)
        elif instead == "a folder":
            path.mkdir()
        else:
            path.symlink_to("/dev/zero")
    asked = {"model": str(model), "engine": NUMPY}
    with pytest.raises(DataError, match="not a regular file"):
        targets = TargetSettings((str(TARGET),))
        commands.score(**asked, data=DataSettings((str(tables),)), targets=targets)
    with pytest.raises(DataError, match="not a regular file"):
        data = DataSettings((str(made[1]),))
        commands.dump(**asked, data=data, directory=str(tmp_path / "n"), neurons=str(tmp_path / "other.npz"))
    with pytest.raises(DataError, match="not a regular file"):
        commands.report(
            results=[str(tmp_path / "other.npz")], output=OutputSettings(str(tmp_path / "r.html"))
        )


def test_a_damaged_file_of_scores_is_refused(made, tmp_path):
    model, data, _, _ = made
    asked = {"model": str(model), "data": DataSettings((str(data),)), "engine": NUMPY}
    scores = tmp_path / "scores.npz"
    commands.score(**asked, targets=TargetSettings((str(TARGET),)), output=OutputSettings(str(scores)))
    whole = scores.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for cut in [10, 100, len(whole) // 2, len(whole) - 10, *rng.integers(0, len(whole), 12)]:
        for damaged in (whole[:cut], whole[:cut] + b"\xff" * 20 + whole[cut + 20 :]):
            scores.write_bytes(damaged)
            try:
                commands.dump(**asked, directory=str(tmp_path / f"{refused}-{cut}"), neurons=str(scores))
            except DataError as error:
                refused += "not a file of scores" in error.what
    assert refused > 12


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_a_link_to_itself_is_refused(made, tmp_path):
    model, data, _, _ = made
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    asked = {"model": str(model), "data": DataSettings((str(data),)), "directory": str(tmp_path / "n")}
    for name in ("model", "data", "directory"):
        value = DataSettings((str(loop),)) if name == "data" else str(loop)
        with pytest.raises((InputError, OutputError), match=r"link|no such|levels"):
            commands.dump(**{**asked, name: value})
