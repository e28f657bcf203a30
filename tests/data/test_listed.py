"""Listed samples: kept ones need no labels, and no list needs the columns of groups that the data have."""

import numpy as np
import pytest
from PIL import Image

from onnxtweak.data import InputSpec, open_splits
from onnxtweak.data.samples import MarkedAt
from onnxtweak.errors import DataError
from onnxtweak.in_memory import InMemory
from onnxtweak.settings import DataSettings

FLAT = (InputSpec("input", "float32", (None, 2)),)
IMAGES = (InputSpec("input", "float32", (None, 3, 4, 4)),)
X = np.arange(40, dtype=np.float32).reshape(20, 2)
Y = np.tile([2, 3], 10)
SITES = np.repeat(["kyoto", "lima", "oslo", "quito", "rabat"], 4)


def opened(tmp_path, inputs=FLAT, /, **lists):
    if inputs is FLAT:
        np.savez(tmp_path / "data.npz", x=X, y=Y, site=SITES)
    return open_splits(DataSettings((str(tmp_path / "data.npz"),), **lists), inputs)


def inputs_of(view):
    return np.concatenate([feeds["input"] for feeds, _, _ in view.batches(100)])


def table(folder, kind):
    if kind == "csv":
        np.savetxt(folder / "keep.csv", X[:6] + 1, delimiter=",", header="a,b", comments="")
    else:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.table({"a": X[:6, 0] + 1, "b": X[:6, 1] + 1}), folder / "keep.parquet")
    return folder / f"keep.{kind}"


def stored(folder, kind):
    """Samples without labels."""
    if kind == "npz":
        np.savez(folder / "keep.npz", x=X[:6] + 1)
    elif kind == "npy":
        np.save(folder / "keep.npy", X[:6] + 1)
    elif kind == "npy folder":
        (folder / "keep").mkdir()
        np.save(folder / "keep" / "x.npy", X[:6] + 1)
        return folder / "keep"
    else:
        return table(folder, kind)
    return folder / f"keep.{kind}"


@pytest.mark.parametrize("kind", ["npz", "npy", "npy folder", "csv", "parquet"])
def test_kept_samples_need_no_labels(tmp_path, kind):
    path = stored(tmp_path, kind)
    splits = opened(tmp_path, keep=(str(path),))
    np.testing.assert_array_equal(inputs_of(splits.listed["keep"]), X[:6] + 1)
    dataset = splits.listed["keep"].dataset
    assert dataset.known.sum() == 20 and "26 samples of 2 classes" in dataset.describe()
    with pytest.raises(DataError, match="labels"):
        opened(tmp_path, lock=(str(path),))


def test_labels_of_kept_samples_are_not_heeded(tmp_path):
    np.savez(tmp_path / "keep.npz", x=X[:3] + 1, y=["what", "ever", "else"])
    splits = opened(tmp_path, keep=(str(tmp_path / "keep.npz"),))
    assert splits.classes is None and not splits.listed["keep"].dataset.known[20:].any()


@pytest.mark.parametrize("layout", ["loose", "list"])
def test_kept_pictures_need_no_labels(tmp_path, layout):
    rng = np.random.default_rng(0)
    names = []
    for folder in ("data.npz/cat", "data.npz/dog", "keep"):
        (tmp_path / folder).mkdir(parents=True)
        for k in range(6):
            name = tmp_path / folder / f"{k}.png"
            Image.fromarray(rng.integers(0, 255, (4, 4, 3), np.uint8)).save(name)
            names += [f"keep/{k}.png"] if folder == "keep" else []
    (tmp_path / "keep.csv").write_text("\n".join(["path", *names]) + "\n")
    keep = tmp_path / "keep" if layout == "loose" else tmp_path / "keep.csv"
    splits = opened(tmp_path, IMAGES, keep=(str(keep),))
    assert len(splits.listed["keep"]) == 6 and splits.classes == ("cat", "dog")


def test_lists_need_no_columns_of_groups(tmp_path):
    np.savez(tmp_path / "must.npz", x=X[:2] + 1, y=Y[:2])
    np.savez(tmp_path / "lock.npz", x=X[2:5] + 1, y=Y[2:5], site=["oslo", "sucre", "oslo"])
    lists = {role: (str(tmp_path / f"{role}.npz"),) for role in ("must", "lock")}
    splits = opened(tmp_path, group="site", by=("site",), **lists)
    groups = splits.fit.dataset.groups["site"]
    assert groups.codes[20:22].tolist() == [-1, -1]
    assert [groups.names[code] for code in groups.codes[22:]] == ["oslo", "sucre", "oslo"]
    with pytest.raises(DataError, match="no array `region`"):
        opened(tmp_path, group="region", **lists)


@pytest.mark.parametrize("marked", [False, True])
def test_listed_samples_leave_the_test_split_at_positions_too(tmp_path, marked):
    labels = np.arange(60).reshape(20, 3) % 2 if marked else np.arange(60).reshape(20, 3) % 4
    for name in ("data", "test"):
        np.savez(tmp_path / f"{name}.npz", x=X, y=labels)
    test = str(tmp_path / "test.npz")
    several = MarkedAt((None, 3), 0) if marked else False
    settings = DataSettings((str(tmp_path / "data.npz"),), test=(test,), keep=(f"{test}#[:8]",))
    splits = open_splits(settings, FLAT, several=several)
    assert splits.test.samples.tolist() == [*range(8, 20)] and len(splits.test) == 36
    with pytest.raises(DataError, match="all test samples are listed too"):
        open_splits(DataSettings(settings.data, test=(test,), must=(test,)), FLAT, several=several)


def test_lists_in_memory_contradict_each_other_position_by_position():
    labels = np.arange(60).reshape(20, 3) % 4
    own = {"data": slice(4, 20), "must": slice(0, 4), "lock": slice(0, 2)}
    held = {name: InMemory(name, {"x": X[rows], "y": labels[rows]}) for name, rows in own.items()}
    other = held["lock"].samples["y"] = held["lock"].samples["y"].copy()
    other[1, 2] += 1
    settings = DataSettings((held["data"],), must=(held["must"],), lock=(held["lock"],))
    splits = open_splits(settings, FLAT)
    assert splits.listed["lock"].samples.tolist() == [21]  # of the two that are must-samples too


def test_an_empty_list_is_named_whatever_labels_are(tmp_path):
    np.savez(tmp_path / "data.npz", x=X, y=np.arange(60).reshape(20, 3) % 2)
    np.savez(tmp_path / "must.npz", x=X[:0], y=np.empty(0, np.int64))
    settings = DataSettings((str(tmp_path / "data.npz"),), must=(str(tmp_path / "must.npz"),))
    with pytest.raises(DataError, match=r"no samples \(must: .*must.npz\)"):
        open_splits(settings, FLAT, several=True)
