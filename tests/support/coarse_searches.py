"""How finely does a test of a whole command search? In few steps: its patch need not be the best one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from onnxtweak.method import match
from onnxtweak.method.compare import controls
from onnxtweak.method.compare import repair as repair_of_all
from onnxtweak.method.fit import boxes, linear, small, weighted
from onnxtweak.method.fit.several import weights
from onnxtweak.method.listed import repair
from onnxtweak.method.tuning import spared_classes
from onnxtweak.metric import bootstrap

_RIDGES = linear.RIDGES[::2]


@contextmanager
def coarse_searches() -> Iterator[None]:
    """Within it, every second ridge is tried, and biases in longer steps; intervals rest on 100 resamples.

    And of samples that have to become right, one fold is held out.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in (linear, weighted, weights, boxes):
            patch.setattr(module, "RIDGES", _RIDGES)
        for fit in (linear.fit_linear, linear.search_ridges):
            patch.setitem(fit.__kwdefaults__, "ridges", _RIDGES)
        for fit in (small.fit_small, small.fit_targets):
            patch.setitem(fit.__kwdefaults__, "ridges", small.RIDGES[1:2])
        patch.setattr(match, "_RIDGES", _RIDGES)
        patch.setattr(controls, "RIDGES", _RIDGES)
        patch.setitem(repair_of_all.repair.__kwdefaults__, "ridges", _RIDGES)
        patch.setattr(spared_classes, "_STEP", 0.5)
        patch.setattr(spared_classes, "_FINEST", 0.1)
        patch.setattr(bootstrap, "_MOST_DRAWN", 0)  # so that the fewest are
        patch.setattr(repair._Problem.held_out, "__defaults__", (None, 1))
        yield
