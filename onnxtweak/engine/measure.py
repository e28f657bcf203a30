"""Which type and shape do hidden tensors have? Found by running a sample, not by shape inference.

Inference would have to understand every operator and copy every weight; one run needs neither, and it also
tells whether a tensor has the samples along its first axis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from onnxtweak.engine.session import Port, Session, open_session
from onnxtweak.errors import ModelError
from onnxtweak.model.edit.expose import expose
from onnxtweak.model.file.model_file import ModelFile
from onnxtweak.model.inspect.logits import LogitsFormat
from onnxtweak.settings import EngineSettings
from onnxtweak.types import Tap

FLOATS = ("float32", "float16", "bfloat16", "float64")
_LARGEST_PROBE = 1 << 28  # numbers
Shapes = dict[str, tuple[str, tuple[int, ...]] | None]


def probe_feeds(inputs: Sequence[Port], where: object) -> dict[str, np.ndarray]:
    """Made-up samples, three where the batch axis allows, for a model whose data are not at hand.

    Raises ModelError when an axis other than the batch axis has no size.
    """
    feeds, rng = {}, np.random.default_rng(0)
    for port in inputs:
        if port.dtype is None or port.dtype == "object" or None in port.shape[1:]:
            raise ModelError(
                "the model does not say how large its input is, so its hidden tensors cannot be measured",
                where=f"input {port.name} of {where}",
                hint="give samples with -d DATA",
            )
        shape = tuple(size or 3 for size in port.shape)
        if math.prod(shape) > _LARGEST_PROBE:
            raise ModelError(
                f"an input of shape {shape} is too large to be made up",
                where=f"input {port.name} of {where}",
                hint="give samples with -d DATA",
            )
        dtype = np.dtype(port.dtype) if port.dtype != "bfloat16" else np.dtype(np.float32)
        # Of whole numbers only one is safe everywhere: tokens and lengths have bounds.
        feeds[port.name] = rng.random(shape).astype(dtype) if dtype.kind == "f" else np.ones(shape, dtype)
    return feeds


def measure(
    model: ModelFile,
    logits: str,
    names: Sequence[str],
    feeds: Mapping[str, np.ndarray],
    engine: EngineSettings,
) -> Shapes:
    """Type and per-sample shape of the logits and of each named tensor, from one run on `feeds`.

    None for what cannot be tapped: not a float tensor, or not one row per sample. Where the batch is fixed at
    one, a first axis of one is taken as the samples'.
    """
    wanted = [logits, *(name for name in dict.fromkeys(names) if name != logits)]
    shapes: Shapes = dict.fromkeys(wanted[1:])
    dtypes, session, outputs = _watch(model, wanted, {}, engine)
    if "bfloat16" in dtypes.values():  # which NumPy does not know: such tensors are cast on their way out
        _, session, outputs = _watch(model, wanted, dtypes, engine)
    floats = [name for name in wanted if dtypes[name] in FLOATS]
    needed = {port.name for port in session.inputs}
    values = session.run({k: v for k, v in feeds.items() if k in needed}, [outputs[name] for name in floats])
    samples = len(next(iter(feeds.values())))
    for name, value in zip(floats, values, strict=True):
        if value.ndim >= 1 and value.shape[0] == samples and value.size:
            shapes[name] = (dtypes[name], tuple(value.shape[1:]))
    return shapes


def _watch(
    model: ModelFile, wanted: Sequence[str], dtypes: Mapping[str, str | None], engine: EngineSettings
) -> tuple[dict[str, str | None], Session, dict[str, str]]:
    """The wanted tensors' types, and a session with them under the output names that come third.

    wanted : the logits first. dtypes : as far as they are known.
    """
    logits, *names = wanted
    known = {name: dtypes.get(name) or "float32" for name in wanted}
    taps = [Tap(name, "", (), known[name]) for name in names]
    exposed = expose(model.graph, logits, taps, logits_format=LogitsFormat(dtype=known[logits]))
    session = open_session(exposed.proto, model.folder, engine, model.path)
    outputs = dict(zip(wanted, (exposed.logits, *exposed.outputs), strict=True))
    found = {port.name: port.dtype for port in session.outputs}
    return {name: found[output] for name, output in outputs.items()}, session, outputs
