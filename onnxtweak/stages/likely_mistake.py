"""Why might a model only guess? Likely mistakes in labels and preprocessing, tried on a few samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np

from onnxtweak.data.dataset import Dataset
from onnxtweak.data.open_data import prepared_otherwise
from onnxtweak.data.preprocess.values import SMALLEST_IMAGE
from onnxtweak.data.splits import View
from onnxtweak.engine.shared.logits import logits_pass
from onnxtweak.errors import InputError
from onnxtweak.method.chance import mean_recall, renumbered
from onnxtweak.quantities import number_of
from onnxtweak.recipe.values import key_of
from onnxtweak.settings import Color, Layout, Preprocess
from onnxtweak.stages.open_job import Job
from onnxtweak.stages.preprocess_record import AS_THEY_ARE, as_options, recorded_preprocess

TRIED = 512  # samples of the base, and of what helps
# Samples of every other way to prepare them: of a base that only guesses, and of one that is merely weak.
_FIRST, _FIRST_OF_WEAK = 64, 32
_NAMED = 3  # labels whose usual answer is named
_RENUMBERED = 0.5  # from so many right answers on labels are taken to be numbered otherwise
# Largest values that samples are commonly stored with: those of 4-bit counts, percent, 8 to 16 bits.
_FULL_SCALES = (16, 100, 255, 1023, 4095, 65535)

# Fewer accidents than this share of those to expect, where so many are, cast doubt on an order, but not on
# one that gives so many right answers.
_ACCIDENTS, _EXPECTED, _CERTAIN = 0.25, 8, 0.8
# Ways that are as good as the best within so much are tried on more samples, at most so many of them.
_CLOSE, _FINALISTS = 0.1, 3

_Fields = dict[str, Any]
_AS_THEY_ARE: _Fields = {"pixel_scale": None, "mean": None, "std": None}
_IMAGENET: _Fields = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_MNIST: _Fields = {"mean": (0.1307,), "std": (0.3081,)}
_CAFFE: _Fields = {"mean": (103.939, 116.779, 123.68), "std": None}


def _undone(means: Sequence[float], deviations: Sequence[float]) -> _Fields:
    """The options that give back x from samples that hold (x - mean) / deviation."""
    pairs = list(zip(means, deviations, strict=True))
    return {
        "mean": tuple(float(f"{-mean / deviation:.6g}") for mean, deviation in pairs),
        "std": tuple(float(f"{1 / deviation:.6g}") for _, deviation in pairs),
    }


# Values that models are commonly trained on, from bytes and from fractions; and those that a model wants that
# does itself what was done to the samples already.
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
    _undone((0.5,), (0.5,)),
    _undone(_IMAGENET["mean"], _IMAGENET["std"]),
    _undone(_MNIST["mean"], _MNIST["std"]),
)


@dataclass(frozen=True)
class Preparation:
    """A way to prepare samples. step : what is done to a stored batch first, and how to say that."""

    preprocess: Preprocess
    step: Callable[[np.ndarray], np.ndarray] | None = None
    said: str = ""


@dataclass(frozen=True)
class Doubt:
    """Why results on these samples may mean nothing.

    found : about the base. mistake : the likely one, or nothing. remedy : what to do about it. serious :
    whether nothing should be learnt from the samples.
    """

    found: str
    mistake: str
    remedy: str
    serious: bool

    @property
    def said(self) -> str:
        """In a sentence, for whoever only measures."""
        return f"{self.found}: {self.mistake or self.remedy}" if self.serious else self.found


@dataclass(frozen=True)
class Mistake:
    """What to change. accuracy : that it gives. said : with that accuracy. remedy : as a request."""

    accuracy: float
    said: str
    remedy: str


def likely_mistake(job: Job, view: View, predicted: np.ndarray, *, weak: bool) -> Mistake | None:
    """What to change, where that makes the model much better; None where nothing tried does.

    predicted (n,) : classes of the samples of `view`, as they are prepared now. weak : the model does not
    guess, so that the search should not take long.
    """
    labels = view.labels
    enough = _enough(labels, predicted)
    if (shifted := _shifted(labels, predicted, enough)) is not None:
        return shifted
    found = (
        _prepared_wrongly(job, view, enough, _FIRST_OF_WEAK if weak else _FIRST),
        _renumbered(job.names, labels, predicted, enough),
    )
    return max(filter(None, found), key=lambda mistake: mistake.accuracy, default=None)


def numbered_otherwise(names: Sequence[str], labels: np.ndarray, predicted: np.ndarray) -> Mistake | None:
    """Another order of the classes that explains the answers; None where none does. names : of C classes."""
    enough = _enough(labels, predicted)
    found = _shifted(labels, predicted, enough), _renumbered(names, labels, predicted, enough)
    return max(filter(None, found), key=lambda mistake: mistake.accuracy, default=None)


def _enough(labels: np.ndarray, predicted: np.ndarray) -> float:
    """The mean recall from which another way is much better."""
    now, present = mean_recall(predicted == labels, labels), len(np.unique(labels))
    enough = max(min(2 * now, (1 + now) / 2), min(3 / present, 0.6), 0.2)
    return enough if present > 2 else max(1.4 * now, 0.7)


def spread(view: View, count: int) -> View:
    """At most so many samples, from all over the view; drawn, so that no order of the labels matters."""
    if len(view) <= count:
        return view
    drawn = np.random.Generator(np.random.PCG64(0)).permutation(len(view))[:count]
    return replace(view, rows=view.rows[np.sort(drawn)])


def predictions(job: Job, view: View) -> np.ndarray:
    """Classes (n,) that the base answers on a few samples."""
    predicted: np.ndarray = job.head.predict(few_logits(job, view))
    return predicted


def few_logits(job: Job, view: View) -> np.ndarray:
    """The base's logits (n, C) of a few samples: no pass that the statistics or a user sees."""
    return logits_pass(job.subject, view, job.engine.unrecorded, "try")


def _shifted(labels: np.ndarray, predicted: np.ndarray, enough: float) -> Mistake | None:
    for shift, change, remedy in (
        (1, "subtracting 1 from", "subtract 1 from"),
        (-1, "adding 1 to", "add 1 to"),
    ):
        right = predicted + shift == labels
        if mean_recall(right, labels) >= enough:
            said = f"{change} each label gives {right.mean():.1%}: are classes numbered from 0?"
            return Mistake(float(right.mean()), said, f"{remedy} each label")
    return None


def _renumbered(
    names: Sequence[str], labels: np.ndarray, predicted: np.ndarray, enough: float
) -> Mistake | None:
    """Labels that number the classes in another order than the model."""
    answers = renumbered(predicted, labels, len(names))
    right = answers[labels] == predicted
    moved = np.flatnonzero((answers >= 0) & (answers != np.arange(len(answers))))
    if not len(moved) or mean_recall(right, labels) < max(enough, _RENUMBERED):
        return None
    # Answers that are wrong in any order meet the label by accident, unless only wrong ones were kept.
    accidents = (1 - right.mean()) / max(len(np.unique(labels)) - 1, 1)
    few = (predicted == labels).mean() < _ACCIDENTS * accidents and accidents * len(labels) >= _EXPECTED
    if few and right.mean() < _CERTAIN:
        return None
    pairs = [f"{names[j]} is answered with {names[answers[j]]}" for j in moved[:_NAMED]]
    more = " and so on" if len(moved) > _NAMED else ""
    said = f"numbering the classes in another order gives {right.mean():.1%}: {', '.join(pairs)}{more}"
    return Mistake(float(right.mean()), said, "number the labels as the model numbers its classes")


def _prepared_wrongly(job: Job, view: View, enough: float, first: int) -> Mistake | None:
    """The best other way to prepare the samples: all are tried on `first` of them, the best ones on more."""
    rows = spread(view, TRIED)
    few = spread(rows, first)
    tried = [(_right_when(job, few, way), way) for way in ways_to_prepare(job, few)]
    if not tried:  # samples that cannot be prepared in any other way
        return None
    # On so few samples a way that helps may look worse than it is, and than another one.
    most = max((_recall(right, few) for right, _ in tried), default=0.0)
    least = max(0.75 * enough, most - _CLOSE)
    best = [way for right, way in tried if _recall(right, few) >= least][:_FINALISTS]
    rights = [_right_when(job, rows, way) for way in best]
    recalls = [_recall(right, rows) for right in rights]
    if not rights or max(recalls) < enough:
        return None
    k = recalls.index(max(recalls))
    accuracy = float(rights[k].mean())
    said, remedy = told(job, best[k])
    return Mistake(accuracy, f"on {number_of(len(rows), 'sample')}, {said} gives {accuracy:.1%}", remedy)


def ways_to_prepare(job: Job, view: View) -> list[Preparation]:
    """Other ways to prepare the samples, likely ones first, each once."""
    now = job.origin.data.preprocess
    recorded = recorded_preprocess(job.opened.model)
    first = [] if recorded is None else [recorded]
    column = view.dataset.parts[0].columns[view.dataset.inputs[0]]
    if len(column.shape) == 2 and column.shape[1] < SMALLEST_IMAGE:
        plain = (*first, replace(now, **_AS_THEY_ARE))
        return [*(Preparation(way) for way in plain if way != now), *_standardized(now, view)]
    largest = _largest(job, view)
    values = [*_VALUES, *({"pixel_scale": 1 / full} for full in _FULL_SCALES if 1 < largest <= full)]
    values = [_AS_THEY_ARE | each for each in values[: len(_VALUES) + 1]]
    other: Color = "RGB" if now.color == "BGR" else "BGR"
    layouts: tuple[Layout, ...] = ("NCHW", "NHWC")
    ways = [*first, *(replace(now, **each) for each in values)]
    ways += [replace(now, color=other)]
    ways += [replace(now, **each, color=other) for each in values[:3]]
    ways += [replace(now, **_CAFFE, pixel_scale=scale, color="BGR") for scale in (None, 255.0)]
    ways += [replace(now, layout=layout) for layout in layouts]
    return [
        *(Preparation(way) for way in dict.fromkeys(ways) if way != now),
        *_stored_otherwise(now, view, largest),
    ]


def _standardized(now: Preprocess, view: View) -> Iterator[Preparation]:
    """The columns of a table with mean 0 and deviation 1, as models of tables are often trained on."""
    data = view.dataset
    column = data.parts[0].columns[data.inputs[0]]
    stored = np.flatnonzero(view.rows < len(data.parts[0]))
    if len(data.inputs) > 1 or column.dtype.kind not in "fiu" or not len(stored):
        return
    with column.open() as take:
        values = np.asarray(take(view.rows[stored] + data.parts[0].start), np.float64)
    mean, deviation = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-9)
    yield Preparation(
        replace(now, **_AS_THEY_ARE),
        lambda batch: (batch - mean) / deviation,
        "samples standardized column by column (--mean and --std of the training data)",
    )


def _stored_otherwise(now: Preprocess, view: View, largest: float) -> Iterator[Preparation]:
    """What no option can say: samples that should have been stored in another way."""
    data = view.dataset
    column = data.parts[0].columns[data.inputs[0]]
    if len(data.inputs) > 1 or column.dtype.kind not in "fiu":
        return
    for order in [] if column.axes else _axis_orders(column.shape[1:]):
        step = partial(np.transpose, axes=(0, *(axis + 1 for axis in order)))
        yield Preparation(now, step, f"samples with their axes in the order {', '.join(map(str, order))}")
    fulls = [full for full in (1, *_FULL_SCALES) if largest <= full][:1]
    # Fractions with noise may exceed 1; of whole numbers what is taken off must be the largest.
    for full in dict.fromkeys([*fulls, *([1] if column.dtype.kind == "f" else [])]):
        yield Preparation(
            now, partial(np.subtract, column.dtype.type(full)), f"samples inverted, as {full} - x"
        )


def _axis_orders(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Other orders of a sample's axes, of at most three, that leave its shape as it is."""
    if not 2 <= len(shape) <= 3:
        return []
    _, *others = permutations(range(len(shape)))
    return [order for order in others if tuple(shape[axis] for axis in order) == shape]


def _largest(job: Job, view: View) -> float:
    """The largest value that the samples are stored with; 0 where they are no numbers."""
    try:
        kept = replace(job.origin.data.preprocess, **_AS_THEY_ARE)
        data = prepared_otherwise(view.dataset, job.opened.specs, kept)
        feeds, _, _ = next(data.batches(view.rows, len(view)))
    except InputError:
        return 0.0
    return max((float(array.max()) for array in feeds.values() if array.dtype.kind in "fiu"), default=0.0)


def _right_when(job: Job, view: View, way: Preparation) -> np.ndarray:
    """Which samples (n,) are right when prepared in another way; none where the model cannot take them so."""
    try:
        data = prepared_otherwise(view.dataset, job.opened.specs, way.preprocess)
        if way.step is not None:
            data = _after(way.step, data)
        return predictions(job, replace(view, dataset=data)) == view.labels
    except InputError:
        return np.zeros(len(view), bool)


def _after(step: Callable[[np.ndarray], np.ndarray], data: Dataset) -> Dataset:
    """The same samples, with a step on what is stored before they are prepared."""
    plans = ({n: replace(p, arrange=(step, *p.arrange)) for n, p in plans.items()} for plans in data.plans)
    return replace(data, plans=tuple(plans))


def _recall(right: np.ndarray, view: View) -> float:
    return mean_recall(right, view.labels)


def told(job: Job, way: Preparation) -> tuple[str, str]:
    """The change in words, and as a request.

    Where the file records how samples are prepared, options replace all of that record.
    """
    if way.step is not None:
        return f"storing {way.said}", f"store {way.said}"
    now = job.origin.data.preprocess
    if recorded_preprocess(job.opened.model) is not None:
        options = as_options(way.preprocess) or AS_THEY_ARE
        return options, f"give {options}"
    names = [f.name for f in fields(now) if getattr(now, f.name) != getattr(way.preprocess, f.name)]
    options = as_options(Preprocess(**{name: getattr(way.preprocess, name) for name in names}))
    dropped = [f"--{key_of(name)}" for name in names if getattr(way.preprocess, name) is None]
    if not options:
        return f"leaving out {' and '.join(dropped)}", f"leave out {' and '.join(dropped)}"
    options += f" without {' and '.join(dropped)}" if dropped else ""
    return options, f"give {options}"
