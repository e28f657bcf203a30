"""Groups of METHOD 2, found sample by sample."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxtweak.theta.gaps import reciprocal_gaps, rivals

levels = st.integers(-3, 3).map(lambda k: np.float32(k / 2))


def test_rival_is_the_best_other_class_and_ties_go_to_the_lowest():
    Z = np.array([[1, 3, 2], [2, 2, 0], [0, 1, 1]], np.float32)
    rival, label, predicted = rivals(Z, np.array([0, 1]))
    assert predicted.tolist() == [1, 0, 1]
    assert rival.tolist() == [[3, 2], [2, 2], [1, 1]]
    assert label.tolist() == [[1, 2], [1, 0], [1, 2]]


@given(
    hnp.arrays(np.float32, (12, 4), elements=levels),
    hnp.arrays(np.int64, 12, elements=st.integers(0, 3)),
    st.integers(0, 3),
)
def test_groups_are_those_of_the_method(Z, L, j):
    signed = reciprocal_gaps(Z, L, np.array([j]), "signed")
    thesis = reciprocal_gaps(Z, L, np.array([j]), "thesis")
    for k in range(len(Z)):
        predicted = int(Z[k].argmax())
        gap = float(np.delete(Z[k], j).max() - Z[k, j])
        size = 1 / abs(gap) if gap else float(np.finfo(np.float32).max)
        expected = 0.0
        if L[k] != j and predicted == L[k]:
            expected = size
        elif L[k] == j and predicted == j:
            expected = -size
        np.testing.assert_allclose(signed.limit[k, 0], expected, rtol=1e-6)
        np.testing.assert_allclose(thesis.limit[k, 0], max(expected, 0.0), rtol=1e-6)
        wanted = size if L[k] == j and predicted != j else 0.0
        np.testing.assert_allclose(signed.wanted[k, 0], wanted, rtol=1e-6)
