"""The frame of benchmarks/science/thesis: samples, recipes, tables, the page. No net is trained here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.science.thesis.collect import collect
from benchmarks.science.thesis.data import Sample, as_file, divide
from benchmarks.science.thesis.pictures import curves
from benchmarks.science.thesis.recipes import Recipe, calm_epochs, repeated, retrainings
from benchmarks.science.thesis.sizes import SIZES, Options, base_recipe
from benchmarks.science.thesis.tables import cell, grid, interval

CLASSES = 4


@pytest.fixture
def folder(tmp_path):
    """A data set whose images carry their own number, in a reader's folder."""
    rng = np.random.default_rng(0)
    x = np.arange(400, dtype=np.uint16)[:, None].view(np.uint8).reshape(400, 1, 2)
    y = rng.integers(0, CLASSES, 400)
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=x[:50], y_test=y[:50])
    return tmp_path


def numbers(x: np.ndarray) -> set[int]:
    return {int(n) for n in np.ascontiguousarray(x).reshape(len(x), 2).view(np.uint16).ravel()}


def test_training_and_held_out_samples_never_meet(folder):
    of = divide(Sample("mnist", 200, 100, seed=0), folder)
    assert (len(of.x_train), len(of.x_held)) == (200, 100)
    assert not numbers(of.x_train) & numbers(of.x_held)
    assert of.x_train.shape[1:] == (1, 1, 2)


def test_a_seed_gives_the_same_samples_again_and_another_seed_others(folder):
    first, again, other = (divide(Sample("mnist", 200, 100, seed=s), folder) for s in (0, 0, 1))
    assert np.array_equal(first.x_train, again.x_train)
    assert numbers(first.x_held) != numbers(other.x_held)


def test_a_long_tail_declines_geometrically_and_leaves_the_held_out_samples_alone(folder):
    sample = Sample("mnist", 160, 100, seed=3)
    even, tailed = divide(sample, folder), divide(replace(sample, tail=0.1), folder)
    counts = np.sort(np.bincount(tailed.y_train, minlength=CLASSES))[::-1]
    assert counts.tolist() == [round(40 * 0.1 ** (k / 3)) for k in range(4)]
    assert np.array_equal(even.x_held, tailed.x_held)


def test_the_file_for_onnxtweak_holds_the_held_out_samples(folder):
    sample = Sample("mnist", 200, 100, seed=0, test=20)
    with np.load(as_file(sample, folder, folder)) as file:
        assert np.array_equal(file["x_fit"], divide(sample, folder).x_held)
        assert len(file["y_test"]) == 20


def test_rows_of_an_epoch():
    y = np.array([0, 0, 0, 1])
    assert repeated(y, y == 1, 3, balanced=False).tolist() == [0, 1, 2, 3, 3, 3]
    assert np.bincount(y[repeated(y, y == 1, 1, balanced=True)]).tolist() == [3, 3]


def test_a_recipe_is_named_by_what_determines_it(folder):
    base = Recipe(Sample("mnist", 200, 100, 0), "cnn3", 8, 0)
    names = {recipe.name for recipe in retrainings(base, (1,), 2).values()} | {base.name}
    assert len(names) == 8
    assert replace(base, batch=64).name == base.name


@pytest.mark.parametrize(("epochs", "calm"), [(1, 1), (3, 1), (8, 2), (160, 40)])
def test_the_last_quarter_is_calm(epochs, calm):
    assert calm_epochs(epochs) == calm


def test_every_size_names_a_base_for_both_nets(folder):
    for sizes in SIZES.values():
        options = Options(folder, folder, sizes)
        assert base_recipe(options, "cnn3", 0) != base_recipe(options, "resnet20", 0)


def test_the_interval_is_students():
    mean, half = interval([0.1, 0.2, 0.3])
    assert mean == pytest.approx(0.2)
    assert half == pytest.approx(4.303 * 0.1 / np.sqrt(3))


def test_cells_say_what_is_missing():
    assert cell([0.5, 0.5]) == "50.0 ± 0.0"
    assert cell([0.5, 0.5, float("nan")]) == "50.0 ± 0.0 (1 of 3 not reached)"
    assert cell([float("nan")]) == "not reached"


def test_a_grid_is_markdown():
    assert grid(["a", "b"], [[1, "x"]]) == "| a | b |\n| --- | --- |\n| 1 | x |"


def test_a_picture_escapes_its_names():
    drawn = curves([("<a & b>", [(0, 1), (1, 2)])], "x", "y", "said")
    assert "&lt;a &amp; b&gt;" in drawn
    assert drawn.count("<circle") == 3  # two points, one key


def test_collecting_replaces_only_what_is_between_the_markers(tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    (results / "table_3_1.md").write_text("### One\n\n![x](pictures/fig.svg)\n", encoding="utf-8")
    (results / "fig.svg").write_text("<svg/>", encoding="utf-8")
    page = tmp_path / "docs" / "lab_book.md"
    page.parent.mkdir()
    page.write_text("above\n<!-- thesis:begin -->\nold\n<!-- thesis:end -->\nbelow\n", encoding="utf-8")
    for _ in range(2):
        assert collect(tmp_path, page) == ["table_3_1"]
    text = page.read_text(encoding="utf-8")
    assert text.startswith("above\n<!-- thesis:begin -->")
    assert text.endswith("<!-- thesis:end -->\nbelow\n")
    assert "old" not in text
    assert text.count("### One") == 1
    assert (page.parent / "pictures" / "fig.svg").exists()
