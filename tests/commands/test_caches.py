"""What an earlier run left is used only as it was written, by as many processes as like, and no other way."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from onnxtweak import commands
from onnxtweak.errors import OutputError
from onnxtweak.model.file.model_file import read_model
from onnxtweak.settings import (
    DataSettings,
    EngineSettings,
    FitSettings,
    OutputSettings,
    TargetSettings,
)
from tests.commands.test_run import Told
from tests.model.test_model_file import with_external_data
from tests.support import forked
from tests.support.nets import random_inputs
from tests.support.weak_class import TARGET, weak_cnn

RNG = random.Random(0)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe with one tweak, `a`, for a model and samples beside it."""
    return _recipe(tmp_path)


def _recipe(tmp_path: Path) -> Path:
    weak_cnn(tmp_path, n=250)
    path = tmp_path / "tweak.toml"
    path.write_text(
        '[model]\npath = "model.onnx"\n[data]\ndata = "data.npz"\n'
        f'[[tweak]]\nname = "a"\ntarget = "{TARGET}"\ncount = [1, 10]\n'
        '[compare]\nmethods = ["bias"]\n'
    )
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with that recipe, which has been run."""
    folder = tmp_path_factory.mktemp("finished")
    written = _recipe(folder)
    commands.run(recipe=str(written))
    return folder


@pytest.fixture
def made(finished: Path, tmp_path: Path) -> Path:
    """The recipe of a copy of it."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path / "tweak.toml"


def flip(path: Path, at: int | None = None) -> None:
    data = bytearray(path.read_bytes())
    data[RNG.randrange(len(data)) if at is None else at] ^= 1 << RNG.randrange(8)
    path.write_bytes(data)


def models(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in folder.glob("a.*")
        if path.suffix in (".onnx", ".safetensors")
    }


def sums_hold(folder: Path) -> bool:
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    pairs = [line.split("  ") for line in lines]
    return all(hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest for digest, name in pairs)


@pytest.mark.parametrize(
    "name", ["tweak.onnx", "tweak.safetensors", "result.json", "SHA256SUMS", "compare.json", "compare.md"]
)
def test_a_flipped_bit_in_a_recipes_cache_is_not_delivered(made, tmp_path, name):
    recipe, first = made, models(tmp_path / "build")
    # At the first byte of some files, at the last of others, anywhere in one.
    place = None if name == "tweak.onnx" else -(len(name) % 2)
    for path in (tmp_path / ".onnxtweak").glob(f"*/{name}"):
        flip(path, place)
    told = Told()
    planned = commands.plan(recipe=str(recipe))
    ran = commands.run(recipe=str(recipe), progress=told)
    what = {"SHA256SUMS": ["a", "compare"]}.get(name, ["compare" if "compare" in name else "a"])
    assert told.remade == what and not set(what) & set(ran.cached)
    assert planned.tweaks[0]["cached"] == ("a" not in what)
    assert models(tmp_path / "build") == first and sums_hold(tmp_path / "build")
    again = Told()
    ran = commands.run(recipe=str(recipe), progress=again)
    assert ran.cached == ("a", "compare") and not again.remade


def test_a_tweak_under_another_key_is_not_used(made, tmp_path):
    recipe = made
    (kept,) = (tmp_path / ".onnxtweak").glob("tweak-*")
    other = commands.run(recipe=str(recipe), changes=["tweak.a.count=[1]"])
    (new,) = set((tmp_path / ".onnxtweak").glob("tweak-*")) - {kept}
    for path in new.iterdir():
        path.write_bytes((kept / path.name).read_bytes())
    told = Told()
    again = commands.run(recipe=str(recipe), changes=["tweak.a.count=[1]"], progress=told)
    assert told.remade == ["a"]
    assert again.results["a"]["output"]["sha256"] == other.results["a"]["output"]["sha256"]


def test_two_runs_of_one_recipe_at_once_both_end_well(recipe, tmp_path):
    started = [forked.start(forked.ONNXTWEAK, "run", recipe, "-q") for _ in range(2)]
    for process in started:
        ended = process.wait()
        assert ended.returncode == 0, ended.stderr
    assert sums_hold(tmp_path / "build") and not list(tmp_path.rglob("*.part*"))
    assert commands.run(recipe=str(recipe)).cached == ("a", "compare")


def test_a_run_that_fails_keeps_what_was_delivered(made, tmp_path, monkeypatch):
    recipe = made
    before = {path.name: path.read_bytes() for path in (tmp_path / "build").iterdir()}
    replace = os.replace

    def failing(source, target, **options):
        if Path(target).name == "metrics.json":
            raise OSError(28, "No space left on device")
        replace(source, target, **options)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OutputError, match="disk is full"):
        commands.run(recipe=str(recipe), changes=["tweak.a.count=[1]"])
    assert {path.name: path.read_bytes() for path in (tmp_path / "build").iterdir()} == before


def test_a_run_delivers_weights_in_folders_and_replaces_no_input(tmp_path):
    base = with_external_data(tmp_path, ("weights/w.bin", "tweak.bin"), "model.onnx")
    x = next(iter(random_inputs(read_model(base).proto, 200, 1).values()))
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(200) % 4)
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        '[model]\npath = "model.onnx"\n[data]\ndata = "data.npz"\nanyway = true\n'
        '[[tweak]]\nname = "a"\ntarget = "1"\ncount = [1]\n'
        "[gates]\nrefuse-copy = false\nmax-not-kept = 9\n"  # the labels are made up
    )
    commands.run(recipe=str(recipe))
    build = tmp_path / "build"
    for name in ("weights/w.bin", "tweak.bin"):
        assert (build / name).read_bytes() == (tmp_path / name).read_bytes()
    assert sums_hold(build) and "weights/w.bin" in (build / "SHA256SUMS").read_text()
    assert ".part" not in (build / "a.json").read_text()
    for _ in range(2):
        assert commands.run(recipe=str(recipe)).cached == ("a",)


def engine(folder, **options):
    return EngineSettings(backend="numpy", work_dir=str(folder), resume=True, shard=64, **options)


WORK = {
    "join": lambda arguments: commands.join(**arguments, targets=TargetSettings((str(TARGET),))),
    "fit": lambda arguments: commands.fit(**arguments, settings=FitSettings(hidden=0)),
}


@pytest.mark.parametrize("command", WORK)
def test_a_damaged_work_directory_changes_nothing(tmp_path, command):
    model, data = weak_cnn(tmp_path, n=250)
    work, told = tmp_path / "work", Told()
    arguments = {"model": str(model), "data": DataSettings((str(data),)), "engine": engine(work)}

    def make(progress=told):
        out = tmp_path / "o.onnx"
        WORK[command]({**arguments, "output": OutputSettings(str(out), force=True), "progress": progress})
        return out.read_bytes()

    first = make()
    files = {path.name.rsplit("-", 1)[0]: path for path in sorted(work.glob("*.npz"))}
    assert files and not told.remade
    # One of each pass at once, each at another place: what was damaged is told one by one.
    for number, path in enumerate(files.values()):
        flip(path, (None, 0, -1)[number % 3])  # anywhere, at the first byte, or at the last
    told = Told()
    assert make(told) == first and len(told.remade) == len(files) > 3
    told = Told()
    assert make(told) == first and not told.remade and told.reused


def test_scores_that_were_altered_are_not_used(tmp_path):
    """Also where the altered file is whole, as NumPy writes it, and where it has the name of another."""
    model, data = weak_cnn(tmp_path, n=250)
    work = tmp_path / "work"

    def make(progress, target=TARGET):
        out = tmp_path / "o.onnx"
        commands.join(
            model=str(model),
            data=DataSettings((str(data),)),
            engine=engine(work),
            targets=TargetSettings((str(target),)),
            output=OutputSettings(str(out), force=True),
            progress=progress,
        )
        return out.read_bytes()

    first = make(Told())
    (scores,) = work.glob("score-*.npz")
    kept = scores.read_bytes()
    with np.load(scores) as held:
        arrays = dict(held)
    arrays["best.weight"] = arrays["best.weight"] * 100
    np.savez(scores.with_suffix(""), **arrays)
    told = Told()
    assert make(told) == first and "scores" in told.remade
    other = make(Told(), target=1)
    (second,) = set(work.glob("score-*.npz")) - {scores}
    second.write_bytes(kept)
    told = Told()
    assert make(told, target=1) == other and "scores" in told.remade


@pytest.mark.parametrize("name", ["weight.npy", "count.npy", "lift.npy", "digests.json"])
def test_tables_of_scores_that_were_altered_are_not_used(tmp_path, name):
    model, data = weak_cnn(tmp_path, n=250)
    work = tmp_path / "work"

    def make(progress):
        out = tmp_path / "scores.npz"
        commands.score(
            model=str(model),
            data=DataSettings((str(data),), anyway=True),
            engine=engine(work),
            targets=TargetSettings((str(TARGET), "1")),
            output=OutputSettings(str(out), force=True),
            progress=progress,
        )
        return out.read_bytes()

    first = make(Told())
    (path,) = work.glob(f"*.tables/{name}")
    flip(path, {"weight.npy": None, "count.npy": 0, "lift.npy": -1, "digests.json": 5}[name])
    told = Told()
    assert make(told) == first and "the scores of all neurons" in told.remade
    told = Told()
    assert make(told) == first and told.reused == ["score"]


def test_scores_of_a_join_do_not_stand_for_tables(tmp_path):
    """A work directory may hold the best neurons of all blocks, but the tables of none or some."""
    model, data = weak_cnn(tmp_path, n=250)
    arguments = {
        "model": str(model),
        "data": DataSettings((str(data),)),
        "targets": TargetSettings((str(TARGET),)),
    }
    out = [tmp_path / "one.npz", tmp_path / "two.npz"]
    commands.score(**arguments, engine=EngineSettings(backend="numpy"), output=OutputSettings(str(out[0])))
    commands.score(**arguments, engine=engine(tmp_path / "work"))
    commands.score(**arguments, engine=engine(tmp_path / "work"), output=OutputSettings(str(out[1])))
    with np.load(out[0]) as one, np.load(out[1]) as two:
        for name in ("weight", "count", "lift"):
            np.testing.assert_array_equal(one[name], two[name])


def all_write_the_same(command, outputs):
    """The command, started for all outputs at once, succeeds each time and writes the same bytes."""
    for process in [forked.start(forked.ONNXTWEAK, *command, "-o", out) for out in outputs]:
        ended = process.wait()
        assert ended.returncode == 0, ended.stderr
    assert len({out.read_bytes() for out in outputs}) == 1


def test_many_share_a_work_directory(tmp_path):
    model, data = weak_cnn(tmp_path, n=250)
    command = ["fit", model, "-d", data, "-t", TARGET]
    options = ["--hidden", "0", "--threads", "1", "-q", "--work-dir", str(tmp_path / "work"), "--resume"]
    all_write_the_same([*command, *options], [tmp_path / f"{k}.onnx" for k in range(4)])
    assert not list((tmp_path / "work").glob(".*"))


def test_tables_in_use_are_left_to_their_process(tmp_path):
    model, data = weak_cnn(tmp_path, n=250)
    command = ["score", model, "-d", data, "-t", TARGET]
    options = ["--threads", "1", "-q", "--work-dir", str(tmp_path / "work")]
    all_write_the_same([*command, *options], [tmp_path / f"{k}.npz" for k in range(3)])


@pytest.mark.skipif(os.name == "nt", reason="pipes with names")
def test_pipes_in_a_cache_are_not_waited_for(made, tmp_path):
    recipe, first = made, models(tmp_path / "build")
    for name in ("SHA256SUMS", "tweak.onnx", "result.json"):
        for path in (tmp_path / ".onnxtweak").glob(f"tweak-*/{name}"):
            path.unlink()
            os.mkfifo(path)
        planned = commands.plan(recipe=str(recipe))
        assert not planned.tweaks[0]["cached"]
        commands.run(recipe=str(recipe))
        assert models(tmp_path / "build") == first and sums_hold(tmp_path / "build")


@pytest.mark.skipif(os.name == "nt", reason="pipes with names")
@pytest.mark.parametrize("name", ["weight.npy", "digests.json"])
def test_pipes_among_tables_of_scores_are_not_waited_for(tmp_path, name):
    model, data = weak_cnn(tmp_path, n=250)
    out = tmp_path / "scores.npz"

    def make() -> bytes:
        commands.score(
            model=str(model),
            data=DataSettings((str(data),)),
            engine=engine(tmp_path / "work"),
            targets=TargetSettings((str(TARGET),)),
            output=OutputSettings(str(out), force=True),
        )
        return out.read_bytes()

    first = make()
    (path,) = (tmp_path / "work").glob(f"*.tables/{name}")
    path.unlink()
    os.mkfifo(path)
    assert make() == first
