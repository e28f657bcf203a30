"""How quantities are written."""

from __future__ import annotations

import pytest

from onnxtweak.quantities import number_of


@pytest.mark.parametrize(
    ("count", "noun", "said"),
    [
        (1, "sample", "1 sample"),
        (0, "sample", "0 samples"),
        (2000, "must-sample", "2,000 must-samples"),
        (2, "more class", "2 more classes"),
        (3, "box", "3 boxes"),
    ],
)
def test_one_of_a_kind_is_in_the_singular(count, noun, said):
    assert number_of(count, noun) == said
