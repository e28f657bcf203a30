"""What works on this machine? Probes of the environment, each in a process of its own, which it may crash.

`python -m onnxtweak.engine.environment NAME` prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from onnxtweak.settings import BackendName


def _model() -> bytes:
    """A matrix product, large enough that no provider leaves it to another."""
    weight = numpy_helper.from_array(np.eye(64, dtype=np.float32) * 2, "w")
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 64]) for name in ("x", "y")]
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    graph = helper.make_graph([node], "probe", ports[:1], ports[1:], [weight])
    opset = [helper.make_opsetid("", 13)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


def runtime(device: str) -> dict[str, Any]:
    """Run a product through ONNX Runtime: its version, its CUDA, the providers available and used."""
    from onnxtweak.engine import session
    from onnxtweak.settings import EngineSettings

    session.require_runtime()
    opened = session.open_session(_model(), Path(), EngineSettings(device=device), "a product")
    x = np.arange(3 * 64, dtype=np.float32).reshape(3, 64)
    (y,) = opened.run({"x": x})
    return {
        **session.runtime_facts(),
        "used": opened.providers(),
        "right": bool(np.array_equal(y, 2 * x)),
    }


def backend(name: BackendName) -> dict[str, Any]:
    """Whether a back end opens, and folds correctly; of Numba also whether its machine code is kept."""
    from onnxtweak.engine.backends import folds_correctly, open_backend
    from onnxtweak.settings import EngineSettings
    from onnxtweak.theta.numba.compiled import kept

    opened = open_backend(EngineSettings(backend=name))
    found = {"name": opened.name, "right": folds_correctly(opened)}
    return {**found, "kept": kept()} if name == "numba" else found


_PROBES: dict[str, Callable[[], dict[str, Any]]] = {
    "cpu": lambda: runtime("cpu"),
    "cuda": lambda: runtime("cuda:0"),
    "numba": lambda: backend("numba"),
    "cupy": lambda: backend("cupy"),
}


def main(name: str) -> None:
    """Print what a probe found, or how it failed, as one JSON object."""
    try:
        found = _PROBES[name]()
    except Exception as error:  # whatever is wrong with the machine is the finding
        found = {"failed": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
