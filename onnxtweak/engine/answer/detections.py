"""What does a detector show: which output holds scores and boxes, and do these follow from its class scores?

Where scores and levels are is known from the graph; how many anchors each level has, and which class stands
for no object, is seen on real samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from onnxtweak.data.preprocess.shapes import model_layout
from onnxtweak.engine.opened import Opened, fixed_batch
from onnxtweak.engine.session import open_session
from onnxtweak.errors import ModelError, UsageError
from onnxtweak.head import Readout, Scale
from onnxtweak.model.detector.layout import Detector
from onnxtweak.model.edit.expose import expose_tensors
from onnxtweak.model.logits_format import Level, layout_at_positions
from onnxtweak.settings import EngineSettings

_TRIED = 4  # samples
_ROUNDING = 1e-3  # of a score
_LEAST_BACKGROUND = 0.5  # of the anchors
_PLACES = 1e-6  # of a score, beyond 0 and 1


def settle_detector(
    opened: Opened, feeds: Mapping[str, np.ndarray], settings: EngineSettings, threshold: float | None = None
) -> Opened:
    """The model with its anchors counted, level by level, and its background known.

    feeds : samples by input name. Raises ModelError where the output does not show the scores that were
    found, UsageError for a threshold.
    """
    detector = opened.detector
    assert detector is not None  # it was found in the graph
    if threshold is not None:
        hint = "leave it out: average precision does not depend on it"
        raise UsageError("a detector has no single threshold", where="--threshold", hint=hint)
    graph, path = opened.model.graph, opened.model.path
    wanted = [detector.logits, *(level.map for level in detector.levels), *detector.outputs]
    exposed, names = expose_tensors(graph, wanted)
    session = open_session(exposed, opened.model.folder, settings, path)
    few = {key: rows[: fixed_batch(opened) or _TRIED] for key, rows in feeds.items()}
    fed = opened.feeding.fed(few, [port.name for port in session.inputs])
    x, *rest = (np.asarray(value, np.float32) for value in session.run(fed, names))
    maps, values = rest[: len(detector.levels)], rest[len(detector.levels) :]
    axis = detector.class_axis
    if x.ndim != 3 or not np.isfinite(x).all() or x.shape[axis] <= detector.first_score:
        raise ModelError(
            f"class scores of shape {x.shape} are not those of anchors, or not finite",
            where=f"tensor '{detector.logits}' of {path}",
            hint="name the tensor that holds the class scores with --logits",
        )
    levels = _counted(detector, [one.shape for one in maps], x.shape[axis], x.shape[3 - axis])
    if levels is None:
        shapes = ", ".join("x".join(map(str, one.shape[2:])) for one in maps)
        raise ModelError(
            f"maps of {shapes} do not make up the {x.shape[3 - axis]:,} anchors of the class scores",
            where=f"tensor '{detector.logits}' of {path}",
        )
    Z = x.transpose(0, 2, 1) if axis == 1 else x
    strides = _strides(picture_size(fed), [one.shape for one in maps], levels)
    detector = replace(detector, levels=levels, background=_background(detector, Z), strides=strides)
    _require_shown(detector, Z, dict(zip(detector.outputs, values, strict=True)), str(path))
    readout = _readout(detector, x.shape[axis])
    classes = x.shape[axis] if readout is None else readout.classes
    logits = replace(opened.logits, layout=layout_at_positions(x.shape, axis), classes=classes, axis=axis)
    return replace(opened, logits=logits, readout=readout, answer=None, detector=detector)


def _readout(detector: Detector, columns: int) -> Readout | None:
    """How so many columns of the tensor give scores: those of objects, and behind them the background."""
    source = list(range(detector.first_score, columns))
    if detector.background is not None:
        source.append(source.pop(detector.background))
    scale: Scale = "odds" if detector.rule == "Sigmoids" else "logit"
    if scale == "logit" and source == list(range(columns)):
        return None
    return Readout(columns, tuple(source), (0.0,) * len(source), scale=scale)


def picture_size(feeds: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """Height and width of the pictures that a model is fed. Raises ModelError where there are none."""
    shape = next((value.shape for value in feeds.values() if value.ndim == 4), None)
    if shape is None:
        raise ModelError("the detector is fed no pictures, in which boxes could be", where=", ".join(feeds))
    return (shape[1], shape[2]) if model_layout(shape[1:]) == "NHWC" else (shape[2], shape[3])


def _strides(
    size: tuple[int, int], shapes: list[tuple[int, ...]], levels: tuple[Level, ...]
) -> tuple[int, ...]:
    """Pixels between positions of each level; none where these are not alike, or not an anchor each."""
    found = [round(max(size) / max(shape[2:])) for shape in shapes]
    fits = (
        shape[2:] == tuple(-(-side // stride) for side in size) and level.anchors == 1
        for shape, stride, level in zip(shapes, found, levels, strict=True)
    )
    return tuple(found) if all(fits) else ()


def _counted(
    detector: Detector, shapes: list[tuple[int, ...]], classes: int, anchors: int
) -> tuple[Level, ...] | None:
    """The levels with the number of anchors at each position; None where these are not all anchors.

    shapes : of the maps, (N, channels, H, W). classes, anchors : that there are scores of.
    """
    if any(len(shape) != 4 for shape in shapes):
        return None
    places = [shape[2] * shape[3] for shape in shapes]
    several = [shape[1] // classes if shape[1] % classes == 0 else 1 for shape in shapes]
    for each in (several, [1] * len(shapes)):
        if sum(n * k for n, k in zip(places, each, strict=True)) == anchors:
            pairs = zip(detector.levels, each, strict=True)
            return tuple(
                replace(level, anchors=k, neighbours=level.neighbours or k == 1) for level, k in pairs
            )
    return None


def _background(detector: Detector, Z: np.ndarray) -> int | None:
    """The first or the last class of a softmax, whichever is shown at most anchors. Z (N, A, C)."""
    if detector.rule != "Softmax":
        return None
    shown = Z.argmax(axis=-1)
    last = Z.shape[-1] - 1
    number = 0 if (shown == 0).mean() >= (shown == last).mean() else last
    if (shown == number).mean() < _LEAST_BACKGROUND:
        raise ModelError(
            "neither the first nor the last class is shown at most anchors: which is the background?",
            where=detector.logits,
            hint="feed samples as the model was trained on them (--pixel-scale, --mean, --std, --color)",
        )
    return number


def _require_shown(detector: Detector, Z: np.ndarray, values: Mapping[str, np.ndarray], path: str) -> None:
    """Raise ModelError where the outputs do not show scores and boxes of these anchors. Z (N, A, columns)."""
    first = detector.first_score
    classes = Z.shape[-1] - first - (detector.background is not None)
    if detector.rule == "Softmax":
        power = np.exp(Z - Z.max(axis=-1, keepdims=True))
        wanted = np.delete(power / power.sum(axis=-1, keepdims=True), detector.background or 0, axis=-1)
    elif detector.rule == "Sigmoids":
        wanted = Z[..., first:] * (Z[..., first - 1 : first] if detector.objectness else 1)
    else:
        with np.errstate(over="ignore"):  # of pictures prepared wrongly
            wanted = 1 / (1 + np.exp(-Z))
    found = detector.read(values, classes)
    scores, boxes = found.scores, found.numbers
    if scores.shape != wanted.shape or boxes.shape != (*Z.shape[:2], 4):
        what = f"scores of shape {scores.shape} and boxes of shape {boxes.shape} are not those of anchors"
    elif wanted.min() < -_PLACES or wanted.max() > 1 + _PLACES:
        what = "the scores of anchors are not between 0 and 1"
    elif np.abs(scores - wanted).max() > _ROUNDING:
        what = f"the scores shown are not the {detector.rule} of the class scores"
    else:
        return
    raise ModelError(what, where=f"{', '.join(detector.outputs)} of {path}")
