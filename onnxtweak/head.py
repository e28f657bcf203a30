"""How do logits become the answer that the model shows? The head: the one place that knows argmax.

Whatever needs a decision, or whether it is right, asks a `Head`: measuring, choosing operating points,
checking written files. The letters are those of `onnxtweak.types`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Head:
    """One label per sample: the class of the highest logit, the lowest of equals, as ONNX's ArgMax has it.

    single_logit : the model shows one logit z for two classes; tables hold the columns 0 and z.
    """

    single_logit: bool = False

    def predict(self, Z: Any) -> Any:
        """Predicted class (N,) int64 for logits Z (N, C), which may be NumPy's or CuPy's."""
        return Z.argmax(axis=1)

    def right(self, Z: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Which samples are right, (N,) bool. labels (N,) int64."""
        return self.predict(Z) == labels

    def best(self, Z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The highest logit (N,) and its class (N,). A class at -inf is left out."""
        predicted = self.predict(Z)
        return Z[np.arange(len(Z)), predicted], predicted

    def beats(self, logit: Any, number: Any, rival: Any, rival_number: Any) -> np.ndarray:
        """Whether class `number` with its logit wins over a rival class with another, element by element."""
        return (logit > rival) | ((logit == rival) & (number < rival_number))


ONE_LABEL = Head()
