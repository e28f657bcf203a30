"""What does a model show that decides at every position: a class for each pixel, frame or token?

Which axis of its scores counts the classes is known from the graph; what the output shows is compared with
the class of the highest score on real samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from onnxtweak.engine.opened import Opened, fixed_batch
from onnxtweak.engine.session import open_session
from onnxtweak.errors import ModelError
from onnxtweak.head import ROUNDING, Answer
from onnxtweak.model.edit.expose import expose_values
from onnxtweak.model.inspect.tail import shown_outputs
from onnxtweak.model.logits_format import layout_at_positions
from onnxtweak.settings import EngineSettings

_TRIED = 4  # samples: of many positions each
_RARELY = 1e-3  # positions that may differ by the rounding of what follows the scores


def settle_positions(
    opened: Opened, feeds: Mapping[str, np.ndarray], settings: EngineSettings
) -> Opened | None:
    """The model with the layout of its scores and the answer it shows; None where it has one row per sample.

    feeds : samples by input name. Raises ModelError where no output shows the class of the highest score.
    """
    axis = opened.logits.axis
    if axis is None or not opened.may_be_at_positions:
        return None
    name = opened.logits.name
    graph, known = opened.model.graph, {port.name for port in opened.needed}
    outputs = [o for o in shown_outputs(graph, name) if graph.needed_inputs([o]) <= known]
    exposed = expose_values(graph, name, outputs, cast=True)
    session = open_session(exposed.proto, opened.model.folder, settings, opened.model.path)
    few = {key: rows[: fixed_batch(opened) or _TRIED] for key, rows in feeds.items()}
    fed = opened.feeding.fed(few, [port.name for port in session.inputs])
    x, *values = session.run(fed, [exposed.logits, *outputs])
    samples = len(next(iter(few.values())))
    if x.ndim < 3 or len(x) != samples or sum(size > 1 for size in x.shape[1:]) < 2:
        return None
    layout = layout_at_positions(x.shape, axis)
    Z = np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis]).astype(np.float64)
    if not np.isfinite(Z).all():
        raise ModelError("class scores are NaN or infinite", where=f"tensor '{name}' of {opened.model.path}")
    for answer, value in _answers(dict(zip(outputs, values, strict=True)), x, layout):
        if answer.contradicts(Z, value, ROUNDING["float16"]).mean() <= _RARELY:
            logits = replace(opened.logits, layout=layout, classes=x.shape[axis])
            return replace(opened, logits=logits, readout=None, answer=answer)
    raise ModelError(
        "no output shows the class of the highest score at each position",
        where=f"after '{name}' of {opened.model.path}",
        hint="name the tensor that holds the class scores with --logits",
    )


def _answers(outputs: Mapping[str, Any], x: np.ndarray, layout: str) -> Iterator[tuple[Answer, np.ndarray]]:
    """How each output might show a class at each position of scores `x`: those that name it first."""
    rows = x.size // x.shape[layout.index("C")]
    for name, value in outputs.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "iub" and value.size == rows:
            yield Answer(name, "label", layout=layout), value
    for name, value in outputs.items():
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.shape == x.shape:
            yield Answer(name, "scores", layout=layout), value
