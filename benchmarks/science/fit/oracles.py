"""What do scikit-learn's linear classifiers reach on the tables that `compare` gives its methods?

Oracles for contest.py, each a method as `onnxtweak.method.compare.methods` has them: a ridge classifier
(RidgeClassifierCV, its penalty by leave-one-out) and a multinomial logistic regression (L-BFGS, C by log-loss
on validation). They read the columns that `fit` has, standardised, and the base's calibrated logits; their
scores replace the logits, and the targets' biases are set on validation as for every other method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeClassifierCV

from onnxtweak.method.compare.comparison import MethodResult
from onnxtweak.method.compare.inputs import CompareInputs
from onnxtweak.method.softmax import log_loss
from onnxtweak.method.solvers.standard import mean_and_scale, standardised
from onnxtweak.method.table import Table

CS = (1e-4, 1e-3, 1e-2, 1e-1)  # of the sum of losses, as scikit-learn has it
ALPHAS = tuple(10.0**power for power in range(-1, 6))
_BEHIND = 1e3  # what a class without samples stays behind all others by


@dataclass(frozen=True)
class Classifier:
    """A classifier of scikit-learn in a patch's place. mean, scale (K,) : of the columns."""

    model: Any
    mean: np.ndarray
    scale: np.ndarray
    temperature: float

    @property
    def parameters(self) -> int:
        """Numbers that are not zero."""
        return int(np.count_nonzero(self.model.coef_) + np.count_nonzero(self.model.intercept_))

    def columns(self, Z: np.ndarray, T: np.ndarray) -> np.ndarray:
        """What the classifier reads, (N, K + C) float32."""
        return np.hstack([standardised(T, self.mean, 1 / self.scale), np.float32(Z / self.temperature)])

    def applied(self, Z: np.ndarray, T: np.ndarray) -> np.ndarray:
        """Its scores (N, C) in the place of logits Z."""
        scores = self.model.decision_function(self.columns(Z, T))
        if scores.ndim == 1:  # of two classes it gives the second one's
            scores = np.column_stack([-scores / 2, scores / 2])
        found = np.full(Z.shape, scores.min() - _BEHIND)
        found[:, self.model.classes_] = scores
        return (found * self.temperature).astype(Z.dtype)


def fitted(model: Any, table: Table, temperature: float) -> Classifier:
    """The model fitted to a table."""
    mean, scale = mean_and_scale(table.T)
    made = Classifier(model, mean, scale, temperature)
    model.fit(made.columns(table.Z, table.T), table.labels)
    return made


def ridge_classifier(inputs: CompareInputs) -> MethodResult:
    """Least squares on labels of -1 and 1."""
    columns = _widest(inputs)
    model = RidgeClassifierCV(alphas=ALPHAS)
    return inputs.result(columns, fitted(model, inputs.fit.columns(columns), inputs.temperature))


def logistic_regression(inputs: CompareInputs) -> MethodResult:
    """Multinomial logistic regression, from scratch but for the logits that it reads."""
    columns = _widest(inputs)
    fit, validation = (split.columns(columns) for split in (inputs.fit, inputs.validation))
    tried = [fitted(LogisticRegression(C=C, max_iter=300), fit, inputs.temperature) for C in CS]

    def loss(one: Classifier) -> float:
        Z = one.applied(validation.Z, validation.T) / inputs.temperature
        return log_loss(Z, validation.labels)

    return inputs.result(columns, min(tried, key=loss))


def _widest(inputs: CompareInputs) -> np.ndarray:
    return max(inputs.families.values(), key=len, default=np.empty(0, np.int64))


ORACLES: dict[str, Callable[[CompareInputs], MethodResult]] = {
    "ridge classifier (scikit-learn)": ridge_classifier,
    "logistic regression (scikit-learn)": logistic_regression,
}
