"""What does OpenCV's module for neural networks compute from a file?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

VERSION = str(cv2.__version__)


def run(model: str, output: str, batches: Sequence[Mapping[str, np.ndarray]]) -> list[np.ndarray]:
    """Values of one output of a file, for each batch of inputs by name."""
    net = cv2.dnn.readNetFromONNX(model)
    found = []
    for batch in batches:
        for name, value in batch.items():
            net.setInput(value, name)
        found.append(np.array(net.forward(output)))
    return found
