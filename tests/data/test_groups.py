"""Columns of groups: read from every kind of source, and refused with a way out where they are none."""

import numpy as np
import pytest

from onnxtweak.data import InputSpec, open_data
from onnxtweak.data.groups import require_shared
from onnxtweak.errors import DataError
from onnxtweak.settings import Preprocess

FLAT = (InputSpec("input", "float32", (None, 2)),)
IMAGES = (InputSpec("input", "float32", (None, 3, 4, 4)),)
X = np.arange(12, dtype=np.float32).reshape(6, 2)
Y = np.array([0, 1, 0, 1, 0, 1])
SITES = ["kyoto", "lima", "kyoto", "oslo", "oslo", "lima"]


def opened(*sources, inputs=FLAT, groups=("site",)):
    return open_data([str(s) for s in sources], inputs=inputs, preprocess=Preprocess(), groups=groups)


def named(dataset, column="site"):
    groups = dataset.groups[column]
    return [groups.names[code] for code in groups.codes]


def refused(match, hint, *sources, **changes):
    with pytest.raises(DataError, match=match) as caught:
        opened(*sources, **changes)
    assert hint in caught.value.hint, caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("stored", "names"),
    [
        (np.array(SITES), SITES),
        (np.array(SITES).astype("S"), SITES),
        (np.array([10, 9, 10, -1, -1, 9]), ["10", "9", "10", "-1", "-1", "9"]),
        (np.array([7, 3, 7, 3, 3, 3], np.uint8)[:, None], ["7", "3", "7", "3", "3", "3"]),
        (np.array([True, False] * 3), ["True", "False"] * 3),
        (np.array([1.0, 2.0] * 3), ["1", "2"] * 3),
    ],
)
def test_an_array_of_an_npz(tmp_path, stored, names):
    np.savez(tmp_path / "a.npz", x=X, y=Y, site=stored)
    dataset = opened(tmp_path / "a.npz")
    assert named(dataset) == names
    assert named(opened(f"{tmp_path}/a.npz#[1:4]")) == names[1:4]
    assert named(opened(f"{tmp_path}/a.npz#[4:]", f"{tmp_path}/a.npz#[:2]")) == names[4:] + names[:2]


def test_a_key_chooses_the_column_too(tmp_path):
    held = {
        "x_train": X,
        "y_train": Y,
        "site_train": SITES,
        "x_test": X[:2],
        "y_test": Y[:2],
        "test_site": ["a", "b"],
    }
    np.savez(tmp_path / "a.npz", **held)
    assert named(opened(f"{tmp_path}/a.npz#train")) == SITES
    assert named(opened(f"{tmp_path}/a.npz#test")) == ["a", "b"]
    error = refused(
        "no array `sites` .it would be `sites_train`", "`site`", f"{tmp_path}/a.npz#train", groups=("sites",)
    )
    assert error.hint == "did you mean `site`?"


def test_several_columns_and_sources_share_names(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=Y, site=np.arange(6) % 2 + 3, half=np.arange(6) // 3)
    (tmp_path / "b.csv").write_text("a,b,label,site,half\n1,2,0,4,0\n3,4,1,5.0,1\n", encoding="utf-8")
    dataset = opened(tmp_path / "a.npz", tmp_path / "b.csv", groups=("site", "half"))
    assert named(dataset) == ["3", "4", "3", "4", "3", "4", "4", "5"]
    assert dataset.groups["site"].names == ("3", "4", "5")
    assert named(dataset, "half") == ["0", "0", "0", "1", "1", "1", "0", "1"]


def test_a_file_beside_an_npy_pair_and_in_a_folder(tmp_path):
    np.save(tmp_path / "x_train.npy", X)
    np.save(tmp_path / "y_train.npy", Y)
    np.save(tmp_path / "site_train.npy", SITES)
    dataset = opened(tmp_path / "x_train.npy")
    assert named(dataset) == SITES
    assert dataset.parts[0].groups["site"].file == tmp_path / "site_train.npy"
    refused(
        "no column `sight` beside the file, as sight_train.npy",
        "site_train",
        tmp_path / "x_train.npy",
        groups=("sight",),
    )
    shards = tmp_path / "shards"
    shards.mkdir()
    for number, rows in enumerate((slice(0, 4), slice(4, 6))):
        for name, values in (("x", X), ("y", Y), ("site", np.array(SITES))):
            np.save(shards / f"{name}-{number:03}.npy", values[rows])
    assert named(opened(shards)) == SITES
    (shards / "site-001.npy").unlink()
    refused("no column|no array", "`x`", shards)


def test_a_folder_of_npz_files(tmp_path):
    for number, rows in enumerate((slice(0, 4), slice(4, 6))):
        np.savez(tmp_path / f"{number}.npz", x=X[rows], y=Y[rows], site=np.array(SITES)[rows])
    assert named(opened(tmp_path)) == SITES


def table(path, **more):
    columns = {"a": X[:, 0], "b": X[:, 1], "label": Y, **more}
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def as_parquet(path, **more):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"a": X[:, 0], "b": X[:, 1], "label": Y, **more}
    pq.write_table(pa.table({name: pa.array(values) for name, values in columns.items()}), path)
    return path


@pytest.mark.parametrize("write", [table, as_parquet])
def test_a_column_of_a_table_is_no_feature(tmp_path, write):
    place = write(
        tmp_path / f"a.{'csv' if write is table else 'parquet'}", site=SITES, old=[0, 1, 0, 1, 1, 1]
    )
    dataset = opened(place, groups=("site", "old"))
    assert named(dataset) == SITES
    assert named(dataset, "old") == ["0", "1", "0", "1", "1", "1"]
    read = np.concatenate([inputs["input"] for inputs, _, _ in dataset.batches(None, 4)])
    np.testing.assert_array_equal(read, X)
    assert not any("site" in note for note in dataset.notes)
    refused("no column `Sight`", "did you mean `site`?", place, groups=("Sight",))
    assert "`label`" in refused("no column `zzz`", "there are:", place, groups=("zzz",)).hint


@pytest.mark.parametrize("write", [table, as_parquet])
def test_a_feature_may_be_a_group_as_well(tmp_path, write):
    """Where the model takes as many columns as there are, or names the column, it stays a feature."""
    place = write(tmp_path / f"a.{'csv' if write is table else 'parquet'}", old=[0, 1, 0, 1, 1, 1])
    three = (InputSpec("input", "float32", (None, 3)),)
    named_features = (InputSpec("input", "float32", (None, 2), features=("Old", "b")),)
    for inputs, wanted in ((three, [0, 1, 0]), (named_features, [0, 1])):
        dataset = opened(place, inputs=inputs, groups=("old",))
        read = next(dataset.batches(None, 1))[0]["input"][0]
        assert len(read) == len(wanted)
        assert named(dataset, "old") == ["0", "1", "0", "1", "1", "1"]


def test_a_column_named_like_labels_is_not_taken_for_them(tmp_path):
    place = table(tmp_path / "a.csv")
    text = place.read_text(encoding="utf-8").replace("label", "class").splitlines()
    lines = [f"{line},{'label' if number == 0 else 'left'}" for number, line in enumerate(text)]
    place.write_text("\n".join(lines), encoding="utf-8")
    dataset = opened(place, groups=("label",))
    np.testing.assert_array_equal(dataset.labels, Y)
    np.savez(tmp_path / "a.npz", x=X, target=Y, labels=SITES)
    dataset = opened(tmp_path / "a.npz", groups=("labels",))
    np.testing.assert_array_equal(dataset.labels, Y)
    assert named(dataset, "labels") == SITES
    np.savez(tmp_path / "b.npz", x=X, y=Y)
    assert named(opened(tmp_path / "b.npz", groups=("y",)), "y") == list(map(str, Y))


def test_text_of_a_csv_stays_what_it_is(tmp_path):
    held = ["007", "7", "007", "7", "8", "8"]
    assert named(opened(table(tmp_path / "a.csv", site=held))) == held
    # What reads as the same number has an order of its own, the same in every run.
    zeros = opened(table(tmp_path / "e.csv", site=["7", "007", "07", "8", "08", "7"]))
    assert zeros.groups["site"].names == ("007", "07", "7", "08", "8")
    refused("0.5, a quantity", "ranges", table(tmp_path / "b.csv", site=["0.5", "1", "1", "2", "2", "2"]))
    refused("missing", "fill it in", table(tmp_path / "c.csv", site=["1.0", "nan", "1", "2", "2", "2"]))
    error = refused(
        "the cell is empty", "fill it in", table(tmp_path / "d.csv", site=["a", "", "b", "c", "d", "e"])
    )
    assert "column `site`" in error.where


@pytest.mark.parametrize(
    ("stored", "match", "hint", "row"),
    [
        (np.array([1, 2, 2.5, 1, 1, 2]), "`site` is 2.5, a quantity", "ranges", "row 2"),
        (np.array([1, 2, 2, np.inf, 1, 2]), "`site` is inf, a quantity", "ranges", "row 3"),
        (np.array([1, 2, 2, np.nan, 1, 2]), "the value of `site` is missing", "fill it in", "row 3"),
        (np.array(["a", "b", "", "b", "a", "a"]), "the value of `site` is missing", "fill it in", "row 2"),
        (np.arange(5), "shape .5,., but there are 6", "in the same order", "site in"),
        (np.arange(12).reshape(6, 2), "no one value per sample", "shape (N,)", "site in"),
        (np.array(3), "shape .., but there are 6", "in the same order", "site in"),
        (np.array([b"a", b"\xff"] * 3), "not UTF-8", "UTF-8", "site in"),
    ],
)
def test_what_is_no_group_is_refused(tmp_path, stored, match, hint, row):
    np.savez(tmp_path / "a.npz", x=X, y=Y, site=stored)
    assert row in refused(match, hint, tmp_path / "a.npz").where


def test_parquet_says_what_is_missing_or_of_another_kind(tmp_path):
    import datetime

    error = refused(
        "values are missing", "leave out", as_parquet(tmp_path / "a.parquet", site=["a", None, *"bcde"])
    )
    assert error.where.startswith("row 1, column `site`")
    days = [datetime.date(2020, 1, day + 1) for day in range(6)]
    refused("values are date32", "whole number or text", as_parquet(tmp_path / "b.parquet", site=days))


def test_a_function_yields_groups_among_its_inputs(tmp_path):
    place = tmp_path / "samples.py"
    place.write_text(
        "import numpy as np\n"
        "def batches():\n"
        "    for k in range(3):\n"
        "        x = np.full((2, 2), k, np.float32)\n"
        "        yield {'input': x, 'site': np.array(['a', 'b' * (k + 1)])}, np.arange(2)\n"
        "def bare():\n"
        "    yield np.zeros((2, 2), np.float32), np.arange(2)\n"
        "def short():\n"
        "    yield {'input': np.zeros((2, 2), np.float32), 'site': [1]}, np.arange(2)\n",
        encoding="utf-8",
    )
    assert named(opened(f"{place}:batches")) == ["a", "b", "a", "bb", "a", "bbb"]
    assert named(opened(f"{place}:batches#[1:4]")) == ["b", "a", "bb"]
    refused("the batch holds no column `sit`", "did you mean `site`?", f"{place}:batches", groups=("sit",))
    refused("the batch holds no column `site`", "yield a dict", f"{place}:bare")
    refused("of shape .1,., but the batch has 2 samples", "per sample", f"{place}:short")


def pictures(root, places):
    from PIL import Image

    for place in places:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(root / place)
    return root


def test_folders_inside_the_classes_are_groups(tmp_path):
    places = ["cat/kyoto/1.png", "cat/lima/1.png", "dog/kyoto/1.png", "dog/oslo/north/1.png"]
    root = pictures(tmp_path / "root", places)
    dataset = opened(root, inputs=IMAGES, groups=("folder",))
    assert named(dataset, "folder") == ["kyoto", "lima", "kyoto", "oslo/north"]
    assert dataset.labels.tolist() == [0, 0, 1, 1] and dataset.classes == ("cat", "dog")
    refused("no column `site`", "root/class/GROUP/*", root, inputs=IMAGES)
    pictures(root, ["dog/2.png"])
    refused("lies in no folder", "root/class/GROUP/*", root, inputs=IMAGES, groups=("folder",))


def test_a_list_of_pictures_has_columns_and_folders(tmp_path):
    pictures(tmp_path, ["north/1.png", "south/2.png"])
    (tmp_path / "a.csv").write_text("path,site,label\nnorth/1.png,a,1\nsouth/2.png,b,0\n", encoding="utf-8")
    dataset = opened(tmp_path / "a.csv", inputs=IMAGES, groups=("site", "folder"))
    assert named(dataset) == ["a", "b"] and named(dataset, "folder") == ["north", "south"]
    assert dataset.labels.tolist() == [1, 0]
    (tmp_path / "b.csv").write_text("north/1.png,1\nsouth/2.png,0\n", encoding="utf-8")
    refused("no column `site`", "path,label,site", tmp_path / "b.csv", inputs=IMAGES)
    (tmp_path / "c.csv").write_text("path,label,site\nnorth/1.png,1,a\nsouth/2.png,0\n", encoding="utf-8")
    refused("the value of `site` is missing", "fill it in", tmp_path / "c.csv", inputs=IMAGES)


def test_a_group_per_sample_is_no_group(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=Y, site=np.arange(6), half=np.arange(6) // 2, most=[0, 1, 2, 3, 3, 3])
    dataset = opened(tmp_path / "a.npz", groups=("site", "half", "most"))
    with pytest.raises(DataError, match="another value for each of the 6 samples") as caught:
        require_shared(dataset.groups["site"], "site", 1.0, "--group")
    assert "several samples share" in caught.value.hint
    with pytest.raises(DataError, match="`most` has 4 groups for 6 samples"):
        require_shared(dataset.groups["most"], "most", 2.0, "--by")
    require_shared(dataset.groups["most"], "most", 1.0, "--group")
    require_shared(dataset.groups["half"], "half", 2.0, "--by")
