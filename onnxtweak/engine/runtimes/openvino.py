"""What does OpenVINO compute from a file, with its own settings? On some CPUs that means in bfloat16."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import openvino

VERSION = str(openvino.__version__).partition("-")[0]


def run(model: str, output: str, batches: Sequence[Mapping[str, np.ndarray]]) -> list[np.ndarray]:
    """Values of one output of a file, for each batch of inputs by name."""
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model), "CPU")
    place = compiled.output(output)
    return [np.array(compiled(dict(batch))[place]) for batch in batches]
