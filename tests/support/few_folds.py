"""How many folds does a test of a whole command need? Three: small tables would get ten or twenty."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def three_folds() -> Iterator[None]:
    """Within it, who names no number of folds gets three."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("onnxtweak.method.folds.folds_for", lambda labels: 3)
        yield
