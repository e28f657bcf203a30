"""What a model calls its features, from its metadata."""

from __future__ import annotations

import pytest

from onnxtweak.model.feature_names import feature_names
from tests.support.nets import mlp


@pytest.mark.parametrize(
    ("key", "text", "names"),
    [
        ("feature_names", '["a", "b, c"]', ("a", "b, c")),
        ("features", "a, b", ("a", "b")),
        ("feature_names", "[1, 2]", None),
        ("feature_names", '["a"', None),
        ("notes", "a, b", None),
        ("columns", "", None),
    ],
)
def test_feature_names(key, text, names):
    model = mlp()
    model.metadata_props.add(key=key, value=text)
    assert feature_names(model) == names
