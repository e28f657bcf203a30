"""Charts: numbers land where they should, and odd ranges draw something."""

from __future__ import annotations

import re

import pytest

from onnxtweak.report.page import charts
from onnxtweak.report.page.graph_picture import graph_picture


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-2.5, 9, [-2.5, 0, 2.5, 5, 7.5]),
        (3, 3, [3]),
        (0, float("inf"), [0]),
    ],
)
def test_ticks_are_round(low, high, found):
    assert charts.ticks(low, high) == pytest.approx(found)


def test_more_is_higher_and_further_right():
    line = charts.Curve("a", [(0.0, 1.0), (10.0, 5.0)], "after")
    drawn = charts.xy([line], "x", "y", "a line")
    (x0, y0), (x1, y1) = [
        (float(x), float(y)) for x, y in re.findall(r'<circle cx="([^"]+)" cy="([^"]+)"', drawn)
    ]
    assert x1 > x0
    assert y1 < y0  # SVG counts downwards


def test_one_point_and_no_point():
    assert "<circle" in charts.xy([charts.Curve("a", [(0.0, 0.0)], "after", joined=False)], "x", "y", "")
    assert charts.xy([], "x", "y", "") == ""
    assert charts.heat([], [], [], "") == ""
    assert charts.histogram([], [], None, "", "") == ""


def test_heat_has_a_cell_for_each_value_with_its_sign():
    drawn = charts.heat(["a", "b"], ["c", "d"], [[1.0, -2.0], [None, 0.0]], "grid", chosen=(0, 1))
    assert drawn.count("cell gain") == 1
    assert drawn.count("cell loss") == 1
    assert drawn.count("cell blank") == 2
    assert drawn.count('class="chosen"') == 1


def test_the_histogram_marks_what_the_cut_takes():
    drawn = charts.histogram([0.1, 1.0, 10.0, 100.0], [5, 3, 1], 20.0, "theta", "")
    assert drawn.count('class="before"') == 2
    assert drawn.count('class="after"') == 1


def test_a_dumbbell_stays_in_its_cell():
    drawn = charts.dumbbell(0.5, 1.0, (0.4, 1.0), 0.5)
    numbers = [float(x) for x in re.findall(r'cx="([^"]+)"', drawn)]
    assert numbers == [4.0, 196.0]
    assert "gain" in drawn


def test_the_graph_puts_readers_below():
    places = [{"name": n, "op": "Op", "role": "base"} for n in "abc"]
    drawn = graph_picture(places, [[0, 1, False], [1, 2, True], [0, 2, False]])
    heights = [float(y) for y in re.findall(r'<rect x="[^"]+" y="([^"]+)"', drawn)]
    assert heights == sorted(heights) and len(set(heights)) == 3
    with pytest.raises(ValueError, match="cycle"):
        graph_picture(places, [[0, 1, False], [1, 0, False]])
    with pytest.raises(ValueError, match="missing"):
        graph_picture(places, [[0, 9, False]])
