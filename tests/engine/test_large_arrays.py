"""Arrays in files: the same numbers as in memory, little of it while they are read, nothing left."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from onnxtweak.engine.machine import large_arrays
from onnxtweak.engine.machine.large_arrays import (
    any_in_columns,
    beside,
    blocks,
    by_rows,
    column_sums,
    end_to_end,
    filled,
    is_mapped,
    new_array,
    of_columns,
    put_rows,
    require_free,
    taken,
)
from onnxtweak.engine.machine.products import product, transposed_product
from onnxtweak.errors import OutputError
from onnxtweak.goal import ResolvedGoal
from onnxtweak.head import SEVERAL_LABELS
from onnxtweak.method import augment
from onnxtweak.method.augment import train
from onnxtweak.method.compare.repair import repair
from onnxtweak.method.fit.fit import settle, try_all
from onnxtweak.method.fit.learning import Learning
from onnxtweak.method.fit.several.labels import fit_labels
from onnxtweak.method.solvers.design import design
from onnxtweak.method.solvers.multinomial import multinomial
from onnxtweak.method.table import Table
from onnxtweak.method.tuning import bias_path
from onnxtweak.settings import AugmentSettings, FitSettings
from tests.support import forked
from tests.test_disk_space import largest_file

ROWS, COLUMNS = 1000, 7


@pytest.fixture
def both(tmp_path, monkeypatch):
    """The same numbers in memory and in a file."""
    monkeypatch.setattr(large_arrays, "ROWS", 64)
    plain = np.random.default_rng(0).standard_normal((ROWS, COLUMNS)).astype(np.float32)
    stored = new_array(plain.shape, plain.dtype, tmp_path)
    stored[:] = plain
    return plain, stored


def test_what_is_made_of_an_array_is_the_same_and_lies_where_it_lies(both):
    rng = np.random.default_rng(1)
    rows, columns = np.sort(rng.permutation(ROWS)[:700]), np.array([4, 0, 5])
    U, R = rng.standard_normal((COLUMNS, 3)).astype(np.float32), rng.standard_normal((700, 2))
    made = [
        {
            "rows": taken(T, rows[::-1]),
            "columns": of_columns(T, columns),
            "end to end": end_to_end([T, T[:10], T]),
            "filled": filled(T, ((part, block[:, :2] * 2) for part, block in blocks(T)), 2, np.float64),
            "axes": design(T, columns).X,
            "standardised": design(T, turn=False).X,
        }
        for T in both
    ]
    for name, one in made[0].items():
        assert is_mapped(made[1][name]) and not is_mapped(one), name
        np.testing.assert_array_equal(one, made[1][name], name)
    sums = [
        (
            product(T, U, rows),
            transposed_product(T, R, rows),
            column_sums(T),
            any_in_columns(T),
            design(T).of_rows(rows).scores(np.ones((COLUMNS + 1, 2))),
        )
        for T in both
    ]
    for one, other in zip(*sums, strict=True):
        assert not is_mapped(other)
        np.testing.assert_array_equal(one, other)


def test_samples_that_are_read_again_and_again_are_copied_once(both):
    rows, U = np.arange(0, ROWS, 3), np.ones((COLUMNS + 1, 2))
    for T in both:
        whole = design(T)
        lasting, found = whole.remembering(), whole.of_rows(rows).scores(U)
        pieces = [lasting.in_one_piece(rows) for _ in range(2)]
        assert pieces[0] is pieces[1] and is_mapped(pieces[0].X) == is_mapped(T)
        assert whole.in_one_piece(rows) is not whole.in_one_piece(rows)
        np.testing.assert_array_equal(pieces[0].scores(U), found)


def test_blocks_are_the_same_however_rows_are_chosen(both):
    for T in both:
        parts = [(part, block.copy()) for part, block in blocks(T, np.arange(0, ROWS, 3))]
        assert [part.start for part, _ in parts] == list(range(0, 334, 64)) and parts[-1][0].stop == 334
        np.testing.assert_array_equal(np.concatenate([block for _, block in parts]), T[::3])


def test_a_file_has_no_name(tmp_path):
    array = new_array((50, 3), np.float64, tmp_path)
    array[:] = 1
    assert not list(tmp_path.iterdir()) and array.sum() == 150
    assert is_mapped(array[3:, 1]) and is_mapped(beside(array[2:], (4,), np.int64))
    assert not is_mapped(new_array((0, 3), np.float32, tmp_path)), "nothing needs no file"
    assert not is_mapped(new_array((2, 3), np.float32, None))


def test_a_disk_without_room_is_said(tmp_path):
    with largest_file(10_000), pytest.raises(OutputError, match="larger than a file may be") as caught:
        new_array((10_000, 3), np.float32, tmp_path)
    assert "--work-dir" in caught.value.hint
    with pytest.raises(OutputError, match="bytes of disk"):
        require_free(tmp_path, 10**18)
    require_free(tmp_path, 1)


def test_logits_are_not_held(tmp_path, monkeypatch):
    """Where logits lie in a file, learning and setting biases make arrays as large there, not in memory."""
    monkeypatch.setattr(large_arrays, "ROWS", 64)
    monkeypatch.setattr(large_arrays, "LIGHT", 2**12)
    monkeypatch.setattr(augment, "_CHUNK", 64)
    monkeypatch.setattr(bias_path, "_CACHE_BYTES", 1)
    rng = np.random.default_rng(0)
    T, plain = (rng.standard_normal((800, count), np.float32) for count in (3, 120))
    labels = (plain + T[:, :1] * np.linspace(-3, 3, 120) + rng.gumbel(size=plain.shape)).argmax(axis=1)
    stored = new_array(plain.shape, np.float32, tmp_path)
    stored[:] = plain
    goals = ResolvedGoal(np.array([3, 70]), max_class_drop=5.0), ResolvedGoal(np.arange(120))

    def learnt(Z):
        table = Table(T, Z, labels)
        tried = try_all(*_learning(table, 3), hidden=0)
        found = [settle(table, tried, goal) for goal in goals]
        mlp = train(table, table, AugmentSettings(hidden=2, iterations=10)).patch
        arrays = [mlp.w1, mlp.w2, *(array for one in found for array in (one.bias, one.patch[1].bias))]
        return [one.notes for one in found], arrays

    whole = learnt(plain)
    tracemalloc.start()
    try:
        notes, arrays = learnt(stored)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * plain.nbytes, "in memory it is ten times as much"
    assert notes == whole[0]
    for one, other in zip(arrays, whole[1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_shortlists_of_logits_are_not_held(tmp_path, monkeypatch):
    """What REPAIR makes of each sample is as large as the logits of some dozen classes."""
    monkeypatch.setattr(large_arrays, "LIGHT", 2**12)
    rng = np.random.default_rng(0)
    plain = rng.normal(0, 2, (2000, 30)).astype(np.float32)
    labels = (plain + rng.gumbel(size=plain.shape)).argmax(axis=1)
    stored = new_array(plain.shape, np.float32, tmp_path)
    stored[:] = plain
    tables = [Table(np.empty((2000, 0), np.float32), Z, labels) for Z in (plain, stored)]
    whole = repair(tables[0], tables[0], 1.0, ridges=[0.1, 0.01])
    tracemalloc.start()
    try:
        found = repair(tables[1], tables[1], 1.0, ridges=[0.1, 0.01])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * plain.nbytes, "held, they make it seventeen times"
    np.testing.assert_array_equal(found.offset, whole.offset)
    np.testing.assert_array_equal(found.theta, whole.theta)


@pytest.mark.parametrize("settings", [FitSettings(hidden=0), FitSettings(synapses=8)])
def test_logits_of_several_labels_are_not_held(settings, tmp_path, monkeypatch):
    """What is made of them lies where they do; in memory are marks, a byte each."""
    monkeypatch.setattr(large_arrays, "LIGHT", 2**10)
    rng = np.random.default_rng(0)
    T, plain = (rng.standard_normal((400, count), np.float32) for count in (3, 6))
    marks = (plain + T[:, :1] + rng.logistic(size=plain.shape) > 0).astype(np.int8)
    goal = ResolvedGoal(np.arange(4), SEVERAL_LABELS)

    def learnt(Z):
        learning = Learning(Table(T, Z, marks), np.ones(len(T), bool))
        return fit_labels(learning, {"all": np.arange(3)}, goal, settings)

    whole, stored, sizes = learnt(plain), new_array(plain.shape, np.float32, tmp_path), []
    stored[:] = plain
    in_file = large_arrays.new_array

    def noted(shape, dtype, folder):
        sizes.append((shape, folder))
        return in_file(shape, dtype, folder)

    monkeypatch.setattr(large_arrays, "new_array", noted)
    found = learnt(stored)
    assert sum(shape == (400, 4) and folder is not None for shape, folder in sizes) > 6
    assert found.notes == whole.notes
    np.testing.assert_array_equal(found.bias, whole.bias)
    for one, other in zip(*(vars(each.patch[1]).values() for each in (found, whole)), strict=True):
        np.testing.assert_array_equal(one, other)


def _learning(table, folds):
    learning = Learning(table, np.ones(len(table.T), bool))
    return learning, {"all": np.arange(table.T.shape[1])}, learning.folds(folds, 0)


def test_scores_of_a_class_without_samples_lie_where_those_of_the_others_do(both):
    labels = np.arange(ROWS) % 5
    found = [multinomial(T[:, :2], T, labels, ridge=1.0).scores for T in both]
    assert [is_mapped(scores) for scores in found] == [False, True]
    np.testing.assert_array_equal(*found)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="what is resident is read from there")
def test_rows_that_were_looked_at_are_let_go(tmp_path, monkeypatch):
    monkeypatch.setattr(large_arrays, "LIGHT", 2**14)
    arrays = [new_array((5000, 386), np.float32, tmp_path) for _ in range(2)]
    for array in arrays:
        put_rows(array, np.arange(5000), np.ones(array.shape, np.float32))
    by_rows(np.add, *arrays)
    names, resident = [array.ctypes.data for array in arrays], []
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            low, high = (int(address, 16) for address in line.split()[0].split("-"))
        elif line.startswith("Rss:") and any(low <= name < high for name in names):
            resident.append(int(line.split()[1]) * 1024)
    assert sum(resident) < 0.1 * arrays[0].nbytes, "pages around a block do not stay"


@pytest.mark.parametrize("columns", [3, 5000])
def test_a_function_of_rows_is_given_few_numbers_at_a_time(columns, tmp_path):
    given = []
    array = new_array((3 * large_arrays.LIGHT // columns, columns), np.float32, tmp_path)
    by_rows(lambda rows: given.append(rows.size) or rows, array)
    assert sum(given) == array.size and max(given) <= large_arrays.LIGHT


LEARN = """
import sys
from pathlib import Path
import numpy as np
from onnxtweak.engine.machine import large_arrays
from onnxtweak.method.fit.learning import Learning
from onnxtweak.method.fit.several.labels import fit_labels
from onnxtweak.method.fit.fit import try_all
from onnxtweak.method.table import Table
from onnxtweak.method.tuning import bias_path
from onnxtweak.settings import AugmentSettings, FitSettings

large_arrays.ROWS = 1024
folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
rng, T = np.random.default_rng(0), large_arrays.new_array((10_000, 400), np.float32, folder)
Z = rng.standard_normal((len(T), 2), np.float32)
labels = (Z[:, 1] > Z[:, 0]).astype(np.int64)
for part, block in large_arrays.blocks(T):
    block[:] = rng.standard_normal(block.shape, np.float32)
    labels[part] = np.where(block[:, 0] > 0.5, 0, labels[part])
learning = Learning(Table(T, Z, labels), np.ones(len(T), bool))
tried = try_all(learning, {"all": np.arange(400)}, learning.folds(None, 0), hidden=0)
print([candidate.loss for candidate in tried])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_memory_does_not_follow_the_table(tmp_path):
    def learnt(*folder):
        done = forked.run(LEARN, *folder)
        assert done.returncode == 0, done.stderr
        losses, peak = done.stdout.splitlines()
        return losses, int(peak) * 1024

    here, there = learnt(), learnt(str(tmp_path))
    table = 10_000 * 400 * 4
    assert here[0] == there[0]
    assert there[1] + 2 * table < here[1], "the table, its axes and the samples of a fold are not held"
