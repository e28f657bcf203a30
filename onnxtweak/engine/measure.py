"""Which types and shapes do hidden tensors have? Measured by running a sample, not by shape inference.

Shape inference would have to understand every operator and copy every weight; two runs need neither, and they
also show whether a tensor has the samples along its first axis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np

from onnxtweak.engine.feeding import Feeding
from onnxtweak.engine.session import Port, Session, session_of
from onnxtweak.errors import DataError, ModelError
from onnxtweak.model.edit.expose import expose
from onnxtweak.model.file.model_file import ModelFile
from onnxtweak.model.inspect.taps import QUANTISED
from onnxtweak.model.logits_format import LogitsFormat
from onnxtweak.settings import EngineSettings
from onnxtweak.types import Tap

FLOATS = ("float32", "float16", "bfloat16", "float64")
_LARGEST_PROBE = 1 << 28  # numbers
# NumPy type and shape per sample, by tensor name; None for what cannot be tapped.
Shapes = dict[str, tuple[str, tuple[int, ...]] | None]


def probe_feeds(inputs: Sequence[Port], where: object, *, text: bool = False) -> dict[str, np.ndarray]:
    """Made-up samples by input name, three where the batch axis allows, for a model without data.

    where : what errors call the model. text : whether empty texts will do. Raises ModelError when an axis
    other than the batch axis has no size, and for an input of text where they will not.
    """
    feeds: dict[str, np.ndarray] = {}
    rng = np.random.default_rng(0)
    for port in inputs:
        if port.dtype is None or (port.dtype == "object" and not text) or None in port.shape[1:]:
            raise ModelError(
                "the model does not say how large its input is, so its hidden tensors cannot be measured",
                where=f"input {port.name} of {where}",
                hint="give samples with -d DATA",
            )
        shape = tuple(size or 3 for size in port.shape)
        if math.prod(shape) > _LARGEST_PROBE:
            raise ModelError(
                f"made-up samples of shape {shape} would be too large",
                where=f"input {port.name} of {where}",
                hint="give samples with -d DATA",
            )
        dtype = np.dtype(port.dtype) if port.dtype != "bfloat16" else np.dtype(np.float32)
        if dtype.kind == "O":
            feeds[port.name] = np.full(shape, "", object)
            continue
        # The only integer that is safe everywhere is 1: tokens and lengths have bounds.
        feeds[port.name] = rng.random(shape).astype(dtype) if dtype.kind == "f" else np.ones(shape, dtype)
    return feeds


def measure(
    model: ModelFile,
    logits: str,
    names: Sequence[str],
    feeds: Mapping[str, np.ndarray],
    settings: EngineSettings,
    feeding: Feeding = Feeding(),
) -> Shapes:
    """Type and per-sample shape of the logits and of each named tensor, from runs on `feeds`.

    feeds : a few samples by input name. None for what cannot be tapped: neither a float tensor nor of eight
    bits, or not one row per sample: a tensor must grow with the samples, so that a time axis as long as they
    are many is not taken for theirs. Where the batch size is fixed, the first axis counts as the batch axis
    if it has that size.
    """
    wanted = [logits, *(name for name in dict.fromkeys(names) if name != logits)]
    shapes: Shapes = dict.fromkeys(wanted[1:])
    dtypes, session, outputs = _open_exposed(model, wanted, {}, settings)
    if "bfloat16" in dtypes.values():  # which NumPy does not know: such tensors are cast on their way out
        _, session, outputs = _open_exposed(model, wanted, dtypes, settings)
    floats = {
        name: dtype
        for name in wanted
        if (dtype := dtypes[name]) in FLOATS or (dtype in QUANTISED and name != logits)
    }
    names_in, names_out = [port.name for port in session.inputs], [outputs[name] for name in floats]
    runs = [session.run(feeding.fed(feeds, names_in), names_out)]
    samples = [len(next(iter(feeds.values())))]
    with suppress(DataError):  # a model that accepts one batch size only
        other = {k: v[:1] if samples[0] > 1 else np.repeat(v, 2, axis=0) for k, v in feeds.items()}
        runs.append(session.run(feeding.fed(other, names_in), names_out))
        samples.append(len(next(iter(other.values()))))
    for number, (name, dtype) in enumerate(floats.items()):
        found = [values[number].shape for values in runs]
        per_row = all(shape[:1] == (count,) for shape, count in zip(found, samples, strict=True))
        if dtype is not None and per_row and len({shape[1:] for shape in found}) == 1 and 0 not in found[0]:
            shapes[name] = (dtype, tuple(found[0][1:]))
    return shapes


def _open_exposed(
    model: ModelFile, wanted: Sequence[str], dtypes: Mapping[str, str | None], settings: EngineSettings
) -> tuple[dict[str, str | None], Session, dict[str, str]]:
    """The wanted tensors' types, a session that outputs them, and the names of these outputs.

    wanted : tensor names, the logits first. dtypes : as far as they are known. Both results are by tensor
    name.
    """
    logits, *names = wanted
    known = {name: dtypes.get(name) or "float32" for name in wanted}
    taps = [Tap(name, "", (), known[name]) for name in names]
    exposed = expose(model.graph, logits, taps, logits_format=LogitsFormat(dtype=known[logits]))
    session = session_of(model, exposed.proto, settings)
    assert exposed.logits is not None  # `expose` was asked for them
    outputs = dict(zip(wanted, (exposed.logits, *exposed.outputs), strict=True))
    found = {port.name: port.dtype for port in session.outputs}
    return {name: found[output] for name, output in outputs.items()}, session, outputs
