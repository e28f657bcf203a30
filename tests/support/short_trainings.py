"""How long does a fit train hidden layers? Until they learn no more, which few tests need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from onnxtweak.method.fit import mlp, trainings
from onnxtweak.method.fit.several import hidden
from onnxtweak.settings import AugmentSettings


@contextmanager
def short_trainings(iterations: int = 60, *decays: float) -> Iterator[None]:
    """Within it, hidden layers of a fit are trained for so many minibatches, with these weight decays.

    Without any it is 1.
    """
    decays = decays or (1.0,)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainings, "AugmentSettings", partial(AugmentSettings, iterations=iterations))
        patch.setattr(hidden, "DECAYS", decays)
        patch.setitem(mlp.fit_mlp.__kwdefaults__, "decays", decays)
        yield
