"""What does ONNX's own reference compute from a file? Its operators in NumPy, as the standard has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

VERSION = str(onnx.__version__)


def run(model: str, output: str, batches: Sequence[Mapping[str, np.ndarray]]) -> list[np.ndarray]:
    """Values of one output of a file, for each batch of inputs by name."""
    evaluator = ReferenceEvaluator(model)
    answers: list[Any] = [evaluator.run([output], dict(batch)) for batch in batches]
    return [np.asarray(answer[0]) for answer in answers]
