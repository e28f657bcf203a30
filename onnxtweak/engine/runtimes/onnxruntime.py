"""What does ONNX Runtime compute from a file, with all its own settings?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime

VERSION = str(onnxruntime.__version__)


def run(model: str, output: str, batches: Sequence[Mapping[str, np.ndarray]]) -> list[np.ndarray]:
    """Values of one output of a file, for each batch of inputs by name."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return [session.run([output], dict(batch))[0] for batch in batches]
