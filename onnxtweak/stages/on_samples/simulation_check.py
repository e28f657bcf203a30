"""Do the tables predict what the written file computes? Its logits, up to rounding."""

from __future__ import annotations

import numpy as np

from onnxtweak.engine.machine.large_arrays import by_rows, let_go, light_blocks
from onnxtweak.engine.subject import Subject
from onnxtweak.head import ROUNDING, Head
from onnxtweak.types import Check

# As a logarithm: below, a written probability is only known to be very small; float16 has steps of 2**-24.
_HALF_STEP = 2.0**-24
_IMPOSSIBLE, _LEAST_HALF = -50.0, float(np.log(_HALF_STEP / ROUNDING["float16"]))
_STEP_BELOW_ONE = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


def check_simulation(
    subject: Subject, logits: np.ndarray, measured: np.ndarray, labels: np.ndarray, base: np.ndarray
) -> Check:
    """The tables predicted the file's logits up to rounding, and its decisions but for ties.

    logits (N, C) : from tables. measured (N, C) : the file's. labels (N,) int64. base (N, C) : without the
    patch; what it holds as a few steps of half precision is not known any better where the patch raises it.
    """
    tolerance, head, scale = ROUNDING[subject.dtype], subject.head, subject.logits_format.scale
    predicted, found = (by_rows(head.predict, Z) for Z in (logits, measured))
    least = _LEAST_HALF if subject.dtype == "float16" else _IMPOSSIBLE
    if scale == "probability":  # rows are normalised: only differences matter
        logits, measured = (
            by_rows(lambda Z: np.maximum(Z - np.logaddexp.reduce(Z, axis=1, keepdims=True), least), each)
            for each in (logits, measured)
        )
    elif head.single_logit:  # only the difference of the two matters
        logits, measured = (Z - Z[:, :1] for Z in (logits, measured))
    if scale == "odds":  # of p near 1, what is left of 1 - p is rounding
        most = np.log(tolerance / _STEP_BELOW_ONE[subject.dtype])
        logits, measured = (by_rows(lambda Z: np.clip(Z, least, most), Z) for Z in (logits, measured))
    wrong = int((found != predicted).sum())
    size, apart = largest(logits), np.float64(0)
    for part, block in light_blocks(logits):
        differ = np.abs(measured[part].astype(np.float64) - block)
        if scale == "probability" and subject.dtype == "float16":
            differ -= _unknown(base[part], block)
            let_go(base[part])
        apart = np.maximum(apart, differ.max(initial=0.0))
        let_go(measured[part])
    error = float(apart / size)
    right = int((predicted == labels).sum()), int((found == labels).sum())
    close = ties(head, logits, subject.dtype)
    detail = f"{right[0]} right predicted, {right[1]} measured; logits within {error:.1g} of the largest"
    return Check("simulation", error <= tolerance and wrong <= close, detail)


def _unknown(base: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """How far logarithms of patched probabilities (n, C) may be off, since those of the base were rounded.

    base, logits (n, C) : logarithms of both; the former as they are, the latter of rows that sum to one.
    """
    own = np.minimum(_HALF_STEP / 2 * np.exp(-base.astype(np.float64)), -_IMPOSSIBLE)
    of_sum: np.ndarray = (np.exp(logits) * own).sum(axis=1, keepdims=True)
    return own + of_sum


def ties(head: Head, Z: np.ndarray, dtype: str) -> int:
    """How many decisions rounding may change: their two highest logits lie within the tolerance.

    Z (N, C) : of a model that computes in `dtype`.
    """
    margin, within = by_rows(head.margin, Z), 2 * ROUNDING[dtype] * largest(Z)
    return sum(int((block <= within).sum()) for _, block in light_blocks(margin))


def largest(Z: np.ndarray) -> np.floating:
    """The size of the largest logit of all (N, C), at least 1; NaN where one is."""
    sizes = [np.abs(block).max(initial=0.0) for _, block in light_blocks(Z)]
    found: np.floating = np.maximum(1.0, np.max(sizes, initial=0.0))
    return found
