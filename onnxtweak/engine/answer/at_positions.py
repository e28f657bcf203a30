"""What does a model show that decides at every position: a class for each pixel, frame or token, or labels?

Which axis of its scores counts the classes is known from the graph; what the output shows is compared with
the class of the highest score, or the labels of positive ones, on real samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from onnxtweak.engine.opened import Opened, fixed_batch
from onnxtweak.engine.session import session_of
from onnxtweak.errors import ModelError
from onnxtweak.head import ROUNDING, Answer, rows_at_positions
from onnxtweak.model.edit.expose import expose_values
from onnxtweak.model.inspect.tail import is_unbounded, shown_outputs
from onnxtweak.model.logits_format import NO_AXIS, layout_at_positions
from onnxtweak.settings import EngineSettings

_TRIED = 4  # samples: of many positions each
_NUMBERS = 1 << 20  # of the inputs that are tried
_RARELY = 1e-3  # positions that may differ by the rounding of what follows the scores


def settle_positions(
    opened: Opened, feeds: Mapping[str, np.ndarray], settings: EngineSettings
) -> Opened | None:
    """The model with the layout of its scores and the answer it shows; None where it has one row per sample.

    feeds : samples by input name. Raises ModelError where no output shows the class of the highest score, and
    where there is a single one.
    """
    if not opened.may_be_at_positions or opened.logits.axis == NO_AXIS:
        return None
    found, axis = _run(opened, feeds, settings), opened.logits.axis
    if found is None or axis is None or sum(size > 1 for size in found[0].shape[1:]) < 2:
        return None
    x, outputs = found
    layout = layout_at_positions(x.shape, axis)
    if x.shape[axis] == 1:
        raise ModelError(
            "each position has a single score, beside which there is no other class: labels there are marks",
            where=f"'{opened.logits.name}' of {opened.model.path}",
            hint="leave out --head classes; 1 is where the label is there, and 0 where it is not",
        )
    for answer, value in _answers(outputs, x, layout):
        if _follows(x, answer, value, layout):
            return _settled(opened, x, answer, layout)
    raise ModelError(
        "no output shows the class of the highest score at each position",
        where=f"after '{opened.logits.name}' of {opened.model.path}",
        hint="name the tensor that holds the class scores with --logits, or the axis that counts the classes "
        "with --class-axis",
    )


def settle_marks(opened: Opened, feeds: Mapping[str, np.ndarray], settings: EngineSettings) -> Opened:
    """The model with the layout of its scores, each of which marks a label of its position, and its answer.

    feeds : samples by input name. Raises ModelError where no output marks each label for itself.
    """
    found, axis = _run(opened, feeds, settings), opened.logits.axis
    assert axis is not None  # it may be at positions
    x, outputs = (np.empty(0), dict[str, Any]()) if found is None else found
    layout = layout_at_positions(x.shape, axis)
    for name, value in outputs.items():
        if not isinstance(value, np.ndarray) or value.size != x.size or value.dtype.kind not in "biuf":
            continue
        bounded = value.dtype.kind == "f" and value.min() >= 0 and value.max() <= 1
        cut = 0.5 if bounded and not is_unbounded(opened.model.graph, name) else 0.0
        for own in _layouts_of_output(x, layout, value.shape):
            answer = Answer(name, "marks", cut, layout=own)
            if _follows(x, answer, value, layout):
                return _settled(opened, x, answer, layout)
    raise ModelError(
        "labels mark each position, and no output shows each label where its score is positive",
        where=f"after '{opened.logits.name}' of {opened.model.path}",
        hint="name the scores before a sigmoid with --logits; or give one class for each position",
    )


def _layouts_of_output(x: np.ndarray, layout: str, shape: tuple[int, ...]) -> Iterator[str]:
    """The layouts that an output of a shape may have, with the numbers of scores `x` of a layout.

    The axis of the classes may be at another place; axes of size 1 may be left out.
    """
    axes = list(zip(layout, x.shape, strict=True))
    classes = [axis for axis in axes if axis[0] == "C"]
    every = [axis for axis in axes if axis[0] != "C"]
    for others in (every, [axis for axis in every if axis[0] != "1"]):
        own = [min(layout.find("C"), len(others))] if classes else [1]
        for place in dict.fromkeys([*own, *range(1, len(others) + 1)]):
            for moved in (classes, [axis for axis in classes if axis[1] > 1]):
                found = [*others[:place], *moved, *others[place:]]
                if tuple(size for _, size in found) == shape:
                    yield "".join(letter for letter, _ in found)


def _run(
    opened: Opened, feeds: Mapping[str, np.ndarray], settings: EngineSettings
) -> tuple[np.ndarray, dict[str, Any]] | None:
    """The scores of a few samples, and what the outputs show of them; None where samples are no axis of both.

    Raises ModelError where they are not finite.
    """
    name = opened.logits.name
    graph, known = opened.model.graph, {port.name for port in opened.needed}
    outputs = [o for o in shown_outputs(graph, name) if graph.needed_inputs([o]) <= known]
    exposed = expose_values(graph, name, outputs, cast=True)
    session = session_of(opened.model, exposed.proto, settings)
    largest = max(rows[:1].size for rows in feeds.values())
    tried = fixed_batch(opened) or max(1, min(_TRIED, _NUMBERS // largest))
    few = {key: rows[:tried] for key, rows in feeds.items()}
    fed = opened.feeding.fed(few, [port.name for port in session.inputs])
    x, *values = session.run(fed, [exposed.logits, *outputs])
    if len(x) != len(next(iter(few.values()))):
        return None
    if not np.isfinite(x).all():
        raise ModelError("class scores are NaN or infinite", where=f"tensor '{name}' of {opened.model.path}")
    return x, dict(zip(outputs, values, strict=True))


def _follows(x: np.ndarray, answer: Answer, value: np.ndarray, layout: str) -> bool:
    """Whether an output shows what the scores `x` say, but for rounding."""
    parts = len(x) if len(value) == len(x) else 1  # one sample after the other: their scores may be many
    each = [
        answer.contradicts(rows_at_positions(one, layout).astype(np.float64), shown, ROUNDING["float16"])
        for one, shown in zip(np.split(x, parts), np.split(value, parts), strict=True)
    ]
    return bool(np.mean([wrong.mean() for wrong in each]) <= _RARELY)


def _settled(opened: Opened, x: np.ndarray, answer: Answer, layout: str) -> Opened:
    classes = x.shape[layout.index("C")] if "C" in layout else 1
    logits = replace(opened.logits, layout=layout, classes=classes)
    return replace(opened, logits=logits, readout=None, answer=answer)


def _answers(outputs: Mapping[str, Any], x: np.ndarray, layout: str) -> Iterator[tuple[Answer, np.ndarray]]:
    """How each output might show a class at each position of scores `x`: those that name it first."""
    rows = x.size // x.shape[layout.index("C")]
    for name, value in outputs.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "iub" and value.size == rows:
            yield Answer(name, "label", layout=layout), value
    for name, value in outputs.items():
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size == x.size:
            for own in _layouts_of_output(x, layout, value.shape):
                yield Answer(name, "scores", layout=own), value
