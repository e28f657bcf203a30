"""Why might a model only guess? Likely mistakes in labels and preprocessing, tried on a few samples."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np

from onnxtweak.data.dataset import Dataset
from onnxtweak.data.open_data import prepared_otherwise
from onnxtweak.data.splits import View
from onnxtweak.engine.passes import RunStats, logits_pass
from onnxtweak.errors import InputError
from onnxtweak.method.chance import renumbered
from onnxtweak.recipe.values import key_of
from onnxtweak.settings import Color, Layout, Preprocess
from onnxtweak.stages.open_job import Job
from onnxtweak.stages.preprocess_record import AS_THEY_ARE, as_options, is_recorded
from onnxtweak.types import silent

TRIED = 512  # samples of the base, and of what helps
_FIRST = 64  # samples of every other way to prepare them
_NAMED = 3  # labels whose usual answer is named
# From so many right answers on labels are taken to be numbered otherwise; the second with two classes.
_RENUMBERED, _SWAPPED = 0.6, 0.75
# Largest values that samples are commonly stored with: those of 4-bit counts, percent, 8 to 16 bits.
_FULL_SCALES = (16, 100, 255, 1023, 4095, 65535)

# Ways that are as good as the best within so much are tried on more samples, at most so many of them.
_CLOSE, _FINALISTS = 0.1, 3

_Fields = dict[str, Any]
_AS_THEY_ARE: _Fields = {"pixel_scale": None, "mean": None, "std": None}
_IMAGENET: _Fields = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_MNIST: _Fields = {"mean": (0.1307,), "std": (0.3081,)}
_CAFFE: _Fields = {"mean": (103.939, 116.779, 123.68), "std": None}
# Values that models are commonly trained on, from bytes and from fractions.
_VALUES: tuple[_Fields, ...] = (
    {"pixel_scale": 1 / 255},
    {"pixel_scale": 1 / 255, **_IMAGENET},
    {"pixel_scale": 1 / 127.5, "mean": (1.0,)},
    {},
    {"pixel_scale": 255.0},
    {"pixel_scale": 1 / 255, **_MNIST},
    {"mean": (0.5,), "std": (0.5,)},
    _IMAGENET,
    _MNIST,
)


@dataclass(frozen=True)
class _Way:
    """A way to prepare samples. order : of each stored sample's axes; None: as they are."""

    preprocess: Preprocess
    order: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Mistake:
    """What to change. said : with the accuracy that it gives. remedy : as a request."""

    said: str
    remedy: str


def likely_mistake(job: Job, view: View, predicted: np.ndarray) -> Mistake | None:
    """What to change, where that makes the model much better; None where nothing tried does.

    predicted (n,) : classes of the samples of `view`, as they are prepared now.
    """
    now, classes = float((predicted == view.labels).mean()), job.subject.classes
    enough = max(2 * now, 3 / classes, 0.2) if classes > 2 else max(1.4 * now, 0.7)
    return (
        _shifted(view.labels, predicted, enough)
        or _prepared_wrongly(job, view, enough)
        or _renumbered(job, view.labels, predicted, enough)
    )


def spread(view: View, count: int) -> View:
    """At most so many samples, from all over the view; drawn, so that no order of the labels matters."""
    if len(view) <= count:
        return view
    drawn = np.random.Generator(np.random.PCG64(0)).permutation(len(view))[:count]
    return replace(view, rows=view.rows[np.sort(drawn)])


def predictions(job: Job, view: View) -> np.ndarray:
    """Classes (n,) that the base answers on a few samples: no pass that the statistics or a user sees."""
    engine = replace(job.engine, progress=silent, stats=RunStats())
    predicted: np.ndarray = job.head.predict(logits_pass(job.subject, view, engine, "try"))
    return predicted


def _shifted(labels: np.ndarray, predicted: np.ndarray, enough: float) -> Mistake | None:
    for shift, change, remedy in (
        (1, "subtracting 1 from", "subtract 1 from"),
        (-1, "adding 1 to", "add 1 to"),
    ):
        right = float((predicted + shift == labels).mean())
        if right >= enough:
            said = f"{change} each label gives {right:.1%}: are classes numbered from 0?"
            return Mistake(said, f"{remedy} each label")
    return None


def _renumbered(job: Job, labels: np.ndarray, predicted: np.ndarray, enough: float) -> Mistake | None:
    """Labels that number the classes in another order than the model."""
    answers, right = renumbered(predicted, labels, job.subject.classes)
    moved = np.flatnonzero((answers >= 0) & (answers != np.arange(len(answers))))
    least = _SWAPPED if job.subject.classes == 2 else _RENUMBERED
    if not len(moved) or right < max(enough, least):
        return None
    pairs = [f"{job.names[j]} is answered with {job.names[answers[j]]}" for j in moved[:_NAMED]]
    more = " and so on" if len(moved) > _NAMED else ""
    said = f"numbering the classes in another order gives {right:.1%}: {', '.join(pairs)}{more}"
    return Mistake(said, "number the labels as the model numbers its classes")


def _prepared_wrongly(job: Job, view: View, enough: float) -> Mistake | None:
    """The best other way to prepare the samples: all are tried on a few, the best ones on more."""
    rows = spread(view, TRIED)
    few = spread(rows, _FIRST)
    tried = [(_accuracy(job, few, way), way) for way in _ways(job, few)]
    # On so few samples a way that helps may look worse than it is, and than another one.
    least = max(0.75 * enough, max(right for right, _ in tried) - _CLOSE)
    best = [way for right, way in tried if right >= least][:_FINALISTS]
    rights = [_accuracy(job, rows, way) for way in best]
    if not rights or max(rights) < enough:
        return None
    way = best[rights.index(max(rights))]
    said, remedy = _told(job, way)
    return Mistake(f"on {len(rows)} samples, {said} gives {max(rights):.1%}", remedy)


def _ways(job: Job, view: View) -> list[_Way]:
    """Other ways to prepare the samples, likely ones first, each once."""
    now = job.reopen.data.preprocess
    largest = _largest(job, view)
    values = [*_VALUES, *({"pixel_scale": 1 / full} for full in _FULL_SCALES if 1 < largest <= full)]
    values = [_AS_THEY_ARE | each for each in values[: len(_VALUES) + 1]]
    other: Color = "RGB" if now.color == "BGR" else "BGR"
    layouts: tuple[Layout, ...] = ("NCHW", "NHWC")
    ways = [replace(now, **each) for each in values]
    ways += [replace(now, color=other)]
    ways += [replace(now, **each, color=other) for each in values[:3]]
    ways += [replace(now, **_CAFFE, pixel_scale=scale, color="BGR") for scale in (None, 255.0)]
    ways += [replace(now, layout=layout) for layout in layouts]
    column = view.dataset.parts[0].columns[view.dataset.inputs[0]]
    orders = _axis_orders(column.shape[1:]) if column.axes is None and len(view.dataset.inputs) == 1 else ()
    other_ways = [_Way(way) for way in dict.fromkeys(ways) if way != now]
    return other_ways + [_Way(now, order) for order in orders]


def _axis_orders(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Other orders of a sample's axes, of at most three, that leave its shape as it is."""
    if not 2 <= len(shape) <= 3:
        return []
    _, *others = permutations(range(len(shape)))
    return [order for order in others if tuple(shape[axis] for axis in order) == shape]


def _largest(job: Job, view: View) -> float:
    """The largest value that the samples are stored with; 0 where they are no numbers."""
    try:
        kept = replace(job.reopen.data.preprocess, **_AS_THEY_ARE)
        data = prepared_otherwise(view.dataset, job.opened.specs, kept)
        feeds, _, _ = next(data.batches(view.rows, len(view)))
    except InputError:
        return 0.0
    return max((float(array.max()) for array in feeds.values() if array.dtype.kind in "fiu"), default=0.0)


def _accuracy(job: Job, view: View, way: _Way) -> float:
    """Accuracy on samples prepared in another way; 0 where such samples do not fit the model."""
    try:
        data = prepared_otherwise(view.dataset, job.opened.specs, way.preprocess)
        if way.order is not None:
            data = _reordered(data, way.order)
        return float((predictions(job, replace(view, dataset=data)) == view.labels).mean())
    except InputError:
        return 0.0


def _reordered(data: Dataset, order: tuple[int, ...]) -> Dataset:
    """The same samples, the axes of each stored in another order."""
    step = partial(np.transpose, axes=(0, *(axis + 1 for axis in order)))
    plans = ({n: replace(p, arrange=(step, *p.arrange)) for n, p in plans.items()} for plans in data.plans)
    return replace(data, plans=tuple(plans))


def _told(job: Job, way: _Way) -> tuple[str, str]:
    """The change in words, and as a request.

    Where the file records how samples are prepared, options replace all of that record.
    """
    if way.order is not None:
        said = f"samples with their axes in the order {', '.join(map(str, way.order))}"
        return f"storing {said}", f"store {said}"
    now = job.reopen.data.preprocess
    if is_recorded(job.opened.model):
        options = as_options(way.preprocess) or AS_THEY_ARE
        return options, f"give {options}"
    names = [f.name for f in fields(now) if getattr(now, f.name) != getattr(way.preprocess, f.name)]
    options = as_options(Preprocess(**{name: getattr(way.preprocess, name) for name in names}))
    dropped = [f"--{key_of(name)}" for name in names if getattr(way.preprocess, name) is None]
    if not options:
        return f"leaving out {' and '.join(dropped)}", f"leave out {' and '.join(dropped)}"
    options += f" without {' and '.join(dropped)}" if dropped else ""
    return options, f"give {options}"
