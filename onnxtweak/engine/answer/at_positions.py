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

    feeds : samples by input name. Raises ModelError where no output shows the class of the highest score.
    """
    if not opened.may_be_at_positions or opened.logits.axis == NO_AXIS:
        return None
    found, axis = _run(opened, feeds, settings), opened.logits.axis
    if found is None or axis is None or sum(size > 1 for size in found[0].shape[1:]) < 2:
        return None
    x, outputs = found
    layout = layout_at_positions(x.shape, axis)
    for answer, value in _answers(outputs, x, layout):
        if _follows(x, answer, value, layout):
            return _settled(opened, x, answer, layout)
    raise ModelError(
        "no output shows the class of the highest score at each position",
        where=f"after '{opened.logits.name}' of {opened.model.path}",
        hint="name the tensor that holds the class scores with --logits",
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
        own = _layout_of_output(layout, value.shape)
        if own is None:
            continue
        answer = Answer(name, "marks", layout=own)
        if value.dtype.kind == "f" and value.min() >= 0 and value.max() <= 1:
            answer = replace(answer, cut=0.0 if is_unbounded(opened.model.graph, name) else 0.5)
        if _follows(x, answer, value, layout):
            return _settled(opened, x, answer, layout)
    raise ModelError(
        "labels mark each position, and no output shows each label where its score is positive",
        where=f"after '{opened.logits.name}' of {opened.model.path}",
        hint="name the scores before a sigmoid with --logits; or give one class for each position",
    )


def _layout_of_output(layout: str, shape: tuple[int, ...]) -> str | None:
    """The layout of an output with the numbers of scores of a layout; axes of size 1 may be left out."""
    if len(shape) == len(layout):
        return layout
    letters = "".join(letter for letter in layout if letter != "1")
    return next((one for one in (letters, letters.replace("C", "")) if len(one) == len(shape)), None)


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
            yield from ((Answer(name, "scores", layout=own), value) for own in _laid_out(value, x, layout))


def _laid_out(value: np.ndarray, x: np.ndarray, layout: str) -> Iterator[str]:
    """Layouts that an output with as many numbers as `x` may have: its own, or classes on another axis."""
    others = layout.replace("C", "")
    moved = (others[:place] + "C" + others[place:] for place in range(1, 1 + len(others)))
    classes = x.shape[layout.index("C")]
    rest = [size for size, letter in zip(x.shape, layout, strict=True) if letter != "C"]
    for own in dict.fromkeys((layout, *moved)):
        place = own.index("C")
        if value.shape == (*rest[:place], classes, *rest[place:]):
            yield own
