"""How does plain ONNX Runtime run a model? On one thread: others would spin, waiting between the runs."""

from __future__ import annotations

from os import PathLike

import onnxruntime as ort


def plain_session(model: str | PathLike[str] | bytes) -> ort.InferenceSession:
    """A session of a file, or of its bytes, on the CPU."""
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
