"""How many ridges does a test of a whole command need? Three: which of them is best is no matter there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from onnxtweak.method import match
from onnxtweak.method.fit import linear, weighted
from onnxtweak.method.fit.several import weights

RIDGES = (3.0, 0.3, 0.03)


@contextmanager
def few_ridges() -> Iterator[None]:
    """Within it, linear fits of all classes or labels try a strong ridge, a middling and a weak one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(linear.search_ridges.__kwdefaults__, "ridges", RIDGES)
        for module in (weighted, weights):
            patch.setattr(module, "RIDGES", RIDGES)
        patch.setattr(match, "_RIDGES", RIDGES)
        yield
