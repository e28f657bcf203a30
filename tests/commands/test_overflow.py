"""Samples on which a model overflows are named at the start, with what they hold."""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak import commands
from onnxtweak.errors import DataError
from onnxtweak.settings import DataSettings, EngineSettings
from tests.support.weak_class import weak_mlp


@pytest.mark.parametrize("value", [3e38, -3e38])
def test_what_overflows_is_said_at_the_start(tmp_path, value):
    model, data = weak_mlp(tmp_path)
    with np.load(data) as stored:
        arrays = dict(stored)
    name = next(key for key, array in arrays.items() if array.ndim > 1)
    arrays[name][:] = np.float32(value)
    np.savez(tmp_path / "large.npz", **arrays)
    with pytest.raises(DataError, match=r"class scores are NaN or infinite on .* samples tried") as caught:
        commands.evaluate(
            model=str(model),
            data=DataSettings((str(tmp_path / "large.npz"),)),
            engine=EngineSettings(threads=1),
        )
    assert "reaches 3e+38" in caught.value.what and "scale them" in caught.value.hint
