"""The best neurons by each criterion are those of a plain sort, however the neurons are cut."""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak.engine.machine.memory_plan import TapSlice
from onnxtweak.engine.scoring.finish import BlockScores
from onnxtweak.method.selection import candidates
from onnxtweak.method.selection.candidates import add_block, no_theta
from onnxtweak.theta.state import empty_state, finish, state_slice
from onnxtweak.types import Tap

NEURONS = 600


def state_of(seed, most_counted):
    """A finished state with many ties; fewer or more neurons that fix something."""
    made, rng = empty_state(NEURONS, 1), np.random.default_rng(seed)
    made.hi[:] = rng.integers(1, 40, NEURONS)
    made.peak[:] = 1
    made.total[:] = rng.integers(1, 5, NEURONS)
    made.count_hi[:] = np.where(rng.random(NEURONS) < most_counted, rng.integers(0, 4, NEURONS), 0)
    made.seen[:] = 3
    return made


@pytest.mark.parametrize("most_counted", [0.0, 0.03, 0.2, 1.0])
@pytest.mark.parametrize("most", [1, 7, 40])
@pytest.mark.parametrize("threads", [1, 3])
def test_what_is_kept_is_the_best_of_a_plain_sort(monkeypatch, most, most_counted, threads):
    state = state_of(most, most_counted)
    monkeypatch.setattr(candidates, "_CHUNK", 32)
    taps = Tap("a", "Relu", (250,)), Tap("b", "Relu", (NEURONS - 250,))
    block = TapSlice(taps[0], 0, 250, 0), TapSlice(taps[1], 0, NEURONS - 250, 250)
    cut = [state_slice(state, s.number, s.number + len(s)) for s in block]
    theta = add_block(no_theta(1, most), BlockScores(block, tuple(cut), np.empty(0)), threads=threads)
    scores = finish(state, 0)
    size, count, lift = np.abs(scores.weight), scores.count, scores.lift
    expected = {
        *sorted(range(NEURONS), key=lambda m: (-size[m], m))[:most],
        *sorted(range(NEURONS), key=lambda m: (-lift[m], -size[m], m))[:most],
        *sorted(np.flatnonzero(count), key=lambda m: (-count[m], -size[m], m))[:most],
    }
    (best,) = theta.best
    assert best.number.tolist() == sorted(expected)
    np.testing.assert_array_equal(best.weight, scores.weight[best.number])
    np.testing.assert_array_equal(best.count, count[best.number])
    np.testing.assert_array_equal(best.lift, lift[best.number])
