"""Hidden units that imitations teach: they put these right, and leave guarded rows alone."""

from __future__ import annotations

import numpy as np

from onnxtweak.method.listed.imitation import Imitated
from onnxtweak.method.listed.repair import HeldOut, teach
from onnxtweak.method.listed.taught import taught
from onnxtweak.method.table import Table

WIDTH, CLASSES = 12, 3


def rows(count, seed, spoiled):
    """Values that show the class in one half of the columns, or, spoiled, in the other half."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    T = rng.normal(size=(count, WIDTH)).astype(np.float32) / 4
    T[np.arange(count), labels + 6 * spoiled] += 2
    T[:, 11] += 2 * spoiled
    Z = 3 * T[:, :CLASSES] + (0 if not spoiled else 2 * np.eye(CLASSES)[(labels + 1) % CLASSES])
    return Table(T, Z.astype(np.float32), labels)


def right(Z, table):
    return (Z.argmax(axis=1) == table.labels).mean()


def test_imitations_are_put_right_and_guarded_rows_hardly_move(monkeypatch):
    sound, spoiled = rows(600, 1, False), rows(900, 2, True)
    patch = taught(sound, spoiled)
    unseen, others = rows(500, 3, True), rows(500, 4, False)
    assert right(unseen.Z, unseen) < 0.2 < 0.95 < right(patch.applied(unseen.Z, unseen.T), unseen)
    assert right(patch.applied(others.Z, others.T), others) >= right(others.Z, others) - 0.005
    again = taught(sound, spoiled)
    assert all(np.array_equal(a, b) for a, b in zip(vars(patch).values(), vars(again).values(), strict=True))
    monkeypatch.setattr("onnxtweak.method.listed.taught._QUIET", 3.0)
    moved = [np.abs(each.delta(others.T)).mean() for each in (taught(sound, spoiled), patch)]
    assert moved[0] < 0.5 * moved[1]


def test_a_class_without_imitations_gets_nothing():
    sound, spoiled = rows(300, 1, False), rows(300, 2, True)
    patch = taught(sound, spoiled.rows(np.flatnonzero(spoiled.labels != 2)))
    assert not patch.delta(sound.T)[:, 2].any()


def test_held_out_rows_decide_whether_units_are_taught_and_what_they_read():
    sound, spoiled, must = rows(600, 1, False), rows(900, 2, True), rows(60, 5, True)
    imitated = Imitated(spoiled, np.arange(900) % 60)
    # The class is told in columns 6 to 8 alone: the first 6 do not help.
    found = teach(must, sound, 1.0, imitated, (6, WIDTH), HeldOut(0.3, 0.0))
    assert found.inputs and found.held_out.fixed > 0.9 and found.imitations == 900
    assert right(found.patch.applied(must.Z, must.T), must) > 0.95
    assert teach(must, sound, 1.0, imitated, (6,), HeldOut(1.0, 0.0)) is None
