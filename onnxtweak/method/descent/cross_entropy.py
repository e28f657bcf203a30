"""Which loss does gradient descent go down? The cross-entropy of one class of many, or of every label.

Both see logits as NumPy's or CuPy's arrays; `xp` is the library. The letters are those of `onnxtweak.types`.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from onnxtweak.head import Head
from onnxtweak.method.softmax import log_sum_exp, softmax


class OneOfMany:
    """One label per sample: minus the log of its probability under the softmax."""

    def truth(self, labels: np.ndarray, present: np.ndarray) -> np.ndarray:
        """What the loss compares logits of the classes that are `present` (C',) with. labels as of tables."""
        return np.searchsorted(present, labels)

    def error(self, xp: ModuleType, logits: Any, truth: Any) -> Any:
        """The derivative (n, C') of each sample's loss in its logits (n, C'); of D models both (D, n, C')."""
        found = softmax(logits.reshape(-1, logits.shape[-1]), xp).reshape(logits.shape)
        found[..., xp.arange(len(truth)), truth] -= 1
        return found

    def total(self, xp: ModuleType, logits: Any, labels: Any, weight: Any = None) -> float:
        """The sum over samples, in nats. logits (n, C). labels : as of tables.

        weight (n,) : how much each counts; None: all alike.
        """
        losses = log_sum_exp(logits, xp) - logits[xp.arange(len(labels)), labels]
        return float((losses if weight is None else losses * weight).sum(dtype=np.float64))

    def centred(self, weight: np.ndarray) -> np.ndarray:
        """Weights (..., C') of all present classes less what all of them get, which decides nothing."""
        found: np.ndarray = weight - weight.mean(axis=-1, keepdims=True)
        return found


class EachByItself(OneOfMany):
    """Several labels at once: the logistic loss of every mark that is known; -1 counts nothing.

    A mark is 1 or 0, or a share between them.
    """

    def truth(self, labels: np.ndarray, present: np.ndarray) -> np.ndarray:
        return labels[:, present]

    def error(self, xp: ModuleType, logits: Any, truth: Any) -> Any:
        p = 1 / (1 + xp.exp(-xp.clip(logits, -60, 60)))
        return xp.where(truth >= 0, p - truth, 0).astype(logits.dtype)

    def total(self, xp: ModuleType, logits: Any, labels: Any, weight: Any = None) -> float:
        losses = xp.where(labels >= 0, xp.logaddexp(0, logits) - logits * labels, 0)
        return float((losses if weight is None else losses * weight[:, None]).sum(dtype=np.float64))

    def centred(self, weight: np.ndarray) -> np.ndarray:
        return weight


ONE_OF_MANY, EACH_BY_ITSELF = OneOfMany(), EachByItself()


def loss_of(head: Head) -> OneOfMany:
    """The loss that a head's labels ask for."""
    return EACH_BY_ITSELF if head.several else ONE_OF_MANY
