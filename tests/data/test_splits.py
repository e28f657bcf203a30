"""The stratified split, and which samples go where."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxtweak.data import InputSpec, open_splits, stratified_split
from onnxtweak.data.stratified import deal_groups
from onnxtweak.errors import DataError
from onnxtweak.settings import DataSettings

FLAT = (InputSpec("input", "float32", (None, 1)),)
FRACTIONS = st.sampled_from([(0.6, 0.2, 0.2), (0.75, 0.25), (0.5, 0.5), (0.98, 0.01, 0.01)])


@settings(deadline=None)
@given(st.lists(st.integers(-1, 4), min_size=30, max_size=120), FRACTIONS, st.integers(0, 9))
def test_every_sample_once_every_class_everywhere(labels, fractions, seed):
    labels = np.array(labels + [7] * 3)
    parts = stratified_split(labels, fractions, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    for part in parts:
        assert (np.diff(part) > 0).all()
    for number in np.unique(labels):
        total = (labels == number).sum()
        counts = np.array([(labels[part] == number).sum() for part in parts])
        if total >= len(parts):
            assert counts.min() >= 1
        if total * min(fractions) >= 1:
            assert (np.abs(counts - total * np.array(fractions)) < 1).all()
    again = stratified_split(labels, fractions, seed)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


def test_round_numbers_come_out_round():
    parts = stratified_split(np.repeat(np.arange(10), 1000), (0.6, 0.2, 0.2), 0)
    assert [len(part) for part in parts] == [6000, 2000, 2000]
    assert not np.array_equal(
        parts[0], stratified_split(np.repeat(np.arange(10), 1000), (0.6, 0.2, 0.2), 1)[0]
    )


def test_too_few_samples_are_refused():
    with pytest.raises(DataError, match="too few"):
        stratified_split(np.array([0, 1]), (0.6, 0.2, 0.2), 0)


def save(path, labels, **more):
    labels = np.asarray(labels)
    np.savez(path, x=np.arange(len(labels), dtype=np.float32)[:, None], y=labels, **more)
    return str(path)


def test_nothing_given_is_60_20_20(tmp_path):
    data = save(tmp_path / "a.npz", np.arange(100) % 2)
    splits = open_splits(DataSettings((data,)), FLAT)
    assert [len(view) for view in (splits.fit, splits.validation, splits.test)] == [60, 20, 20]
    inputs, labels, rows = next(splits.test.batches(100))
    np.testing.assert_array_equal(inputs["input"][:, 0], splits.test.rows)
    np.testing.assert_array_equal(labels, splits.test.labels)
    np.testing.assert_array_equal(rows, splits.test.rows)
    other = open_splits(DataSettings((data,), seed=1), FLAT)
    assert other.digest != splits.digest == open_splits(DataSettings((data,)), FLAT).digest


def test_only_test_given_is_75_25(tmp_path):
    data, test = save(tmp_path / "a.npz", np.arange(100) % 2), save(tmp_path / "b.npz", [0, 1])
    splits = open_splits(DataSettings((data,), test=(test,)), FLAT)
    assert [len(view) for view in (splits.fit, splits.validation, splits.test)] == [75, 25, 2]
    assert splits.test.dataset is not splits.fit.dataset
    assert splits.notes == ()


def test_only_validation_given_leaves_no_test(tmp_path):
    data, val = save(tmp_path / "a.npz", np.arange(100) % 2), save(tmp_path / "b.npz", [0, 1])
    splits = open_splits(DataSettings((data,), val=(val,)), FLAT)
    assert [len(splits.fit), len(splits.validation), splits.test] == [100, 2, None]


def test_class_names_of_the_data_hold_for_the_others(tmp_path):
    data = save(tmp_path / "a.npz", ["cat", "dog", "eel"] * 10)
    val, test = save(tmp_path / "b.npz", ["dog", "eel"]), save(tmp_path / "c.npz", ["eel"])
    splits = open_splits(DataSettings((data,), (val,), (test,)), FLAT)
    assert splits.classes == ("cat", "dog", "eel")
    assert splits.validation.labels.tolist() == [1, 2]
    assert splits.test.labels.tolist() == [2]
    save(tmp_path / "c.npz", ["fox"])
    with pytest.raises(DataError, match="`fox`"):
        open_splits(DataSettings((data,), (val,), (test,)), FLAT)


def test_names_file_wins(tmp_path):
    (tmp_path / "names.txt").write_text("eel\ndog\ncat\n")
    data = save(tmp_path / "a.npz", ["cat", "dog"] * 10)
    splits = open_splits(DataSettings((data,), names=str(tmp_path / "names.txt")), FLAT)
    assert splits.classes == ("eel", "dog", "cat")
    assert set(splits.fit.labels) == {1, 2}


@pytest.mark.parametrize(
    ("data", "val", "test", "expected"),
    [
        ("#[0:50]", "#[50:70]", "#[70:]", []),
        ("#[0:50]", "#[40:70]", "", ["10 validation samples also serve as fit samples"]),
        ("", "", "#[90:]", ["10 test samples also serve as fit or validation samples"]),
        ("#[0:50]", "#[50:80]", "#[70:]", ["10 test samples also serve as validation samples"]),
    ],
)
def test_overlap_is_noted(tmp_path, data, val, test, expected):
    path = save(tmp_path / "a.npz", np.arange(100) % 2)
    chosen = [(path + text,) if text else () for text in (val, test)]
    splits = open_splits(DataSettings((path + data,), *chosen), FLAT)
    assert [note.partition(":")[0] for note in splits.notes] == expected


@pytest.mark.parametrize("role", ["fit", "validation"])
def test_one_class_only_is_refused(tmp_path, role):
    two, one = save(tmp_path / "a.npz", [0, 1] * 9), save(tmp_path / "b.npz", [1] * 9)
    data, val = (one, two) if role == "fit" else (two, one)
    with pytest.raises(DataError, match=f"all 9 {role} samples are of class 1"):
        open_splits(DataSettings((data,), val=(val,)), FLAT)


def test_memory_is_shared_between_what_is_opened(tmp_path):
    for name in "ab":
        np.savez_compressed(tmp_path / f"{name}.npz", x=np.zeros((64, 1), np.float32), y=np.arange(64) % 2)
    sources = [(str(tmp_path / f"{name}.npz"),) for name in "ab"]
    tight = open_splits(DataSettings(*sources), FLAT, memory=8 * 256 - 1)
    loose = open_splits(DataSettings(*sources), FLAT, memory=8 * 256)
    kinds = [
        type(view.dataset.parts[0].columns["input"]).__name__
        for splits in (tight, loose)
        for view in (splits.fit, splits.validation)
    ]
    assert kinds == ["CompressedColumn", "CompressedColumn", "ArrayColumn", "ArrayColumn"]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 25)), min_size=40, max_size=150),
    FRACTIONS,
    st.integers(0, 9),
)
def test_no_group_is_divided(rows, fractions, seed):
    labels, groups = np.array(rows).T
    dealt = deal_groups(labels, groups, fractions, seed)
    assert all(len(np.unique(dealt[groups == group])) == 1 for group in np.unique(groups))
    # Numbers of groups are names: other numbers in the same order change nothing, and neither do more runs.
    np.testing.assert_array_equal(dealt, deal_groups(labels, groups * 3 - 7, fractions, seed))
    for number in np.unique(labels):
        holding = np.unique(groups[labels == number])
        alone = all(len(np.unique(labels[groups == group])) == 1 for group in holding)
        if alone and len(holding) >= len(fractions):
            assert len(np.unique(dealt[labels == number])) == len(fractions)


def test_classes_are_divided_as_evenly_as_groups_allow():
    labels = np.repeat(np.arange(5), 200)
    dealt = deal_groups(labels, np.arange(1000) // 20, (0.6, 0.2, 0.2), 0)
    counts = [np.bincount(labels[dealt == part]).tolist() for part in range(3)]
    assert counts == [[120] * 5, [40] * 5, [40] * 5]
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(0, 10, 3000), rng.integers(0, 300, 3000)
    for seed in range(3):
        dealt = deal_groups(labels, groups, (0.6, 0.2, 0.2), seed)
        shares = [np.bincount(labels[dealt == part]) / np.bincount(labels) for part in range(3)]
        assert np.abs(np.array(shares) - np.array([[0.6], [0.2], [0.2]])).max() < 0.03
    assert not np.array_equal(dealt, deal_groups(labels, groups, (0.6, 0.2, 0.2), 0))


def test_samples_of_a_group_go_to_one_split(tmp_path):
    patient = np.arange(100) // 4
    data = save(tmp_path / "a.npz", np.arange(100) % 2, patient=patient)
    plain, splits = (open_splits(DataSettings((data,), group=group), FLAT) for group in (None, "patient"))
    views = (splits.fit, splits.validation, splits.test)
    held = [set(patient[view.rows]) for view in views]
    assert set.union(*held) == set(range(25)) and sum(map(len, held)) == 25
    assert [len(view) for view in views] == [60, 20, 20]
    assert splits.digest != plain.digest
    np.testing.assert_array_equal(splits.test.groups("patient"), patient[splits.test.rows])
    assert any("groups by `patient`: 15 in fit, 5 in validation, 5 in test" in note for note in splits.notes)
    other = save(tmp_path / "b.npz", np.arange(100) % 2, patient=patient // 2)
    assert open_splits(DataSettings((other,), group="patient"), FLAT).digest != splits.digest


def test_what_grouping_cannot_give_is_said(tmp_path):
    labels = np.arange(60) % 2
    labels[:6] = 2
    data = save(tmp_path / "a.npz", labels, patient=np.arange(60) // 6, one=np.zeros(60), all=np.arange(60))
    notes = open_splits(DataSettings((data,), group="patient"), FLAT).notes
    assert any("classes of so few groups that some split has no sample of them: 2" in note for note in notes)
    with pytest.raises(DataError, match="samples of 1 group are too few to split into 3 parts"):
        open_splits(DataSettings((data,), group="one"), FLAT)
    with pytest.raises(DataError, match="another value for each of the 60 samples"):
        open_splits(DataSettings((data,), group="all"), FLAT)


def test_a_group_in_two_given_sources_is_refused(tmp_path):
    labels = np.arange(20) % 2
    data = save(tmp_path / "a.npz", labels, patient=np.arange(20) // 4)
    test = save(tmp_path / "b.npz", labels, patient=np.arange(20) // 4 + 4)
    apart = save(tmp_path / "c.npz", labels, patient=np.arange(20) // 4 + 10)
    with pytest.raises(
        DataError, match="1 group of `patient`, such as `4`, lies in both --data and --test"
    ) as caught:
        open_splits(DataSettings((data,), test=(test,), group="patient"), FLAT)
    assert caught.value.where == "--group" and "give all samples with --data" in caught.value.hint
    with pytest.raises(DataError, match="both --val and --test"):
        open_splits(DataSettings((apart,), (data,), (test,), group="patient"), FLAT)
    splits = open_splits(DataSettings((data,), test=(apart,), group="patient"), FLAT)
    # Numbers of groups are common to all splits.
    assert not set(splits.test.groups("patient")) & set(splits.fit.groups("patient"))
