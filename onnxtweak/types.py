"""What do the stages pass to each other? Taps, neurons, metrics, trials, checks; and the shape legend.

Shape legend, the same everywhere (METHOD 0):

    N  samples            V (N, M) float32   hidden values
    M  neurons            Z (N, C) float32   logits, always before any softmax
    C  classes            L (N,)   int64     labels
    c  targets            T (N, K) float32   values of the K chosen neurons
    K  chosen neurons

A *neuron* is one scalar of one hidden tensor: a tap and a flat index into it (row-major, batch axis left
out). Under pooling a neuron is one channel. A *synapse* adds `weight * value` of a neuron to the logit of
one target class. Accuracies are fractions in [0, 1]; drops, gains and E are percentage points.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

# How maps are read where there are scores at positions.
AT_POSITIONS = ("aligned", "resized")
PLACE = "place"  # no map but where a row is: its number on each axis of positions
LEVEL = "level"  # of a detector: with the level's number, a map of its size


class Progress(Protocol):
    """What a pass over data reports to. The default everywhere is `silent`."""

    def start(self, what: str, total: int, unit: str = "samples") -> None: ...
    def advance(self, count: int) -> None: ...
    def finish(self) -> None: ...
    def reuse(self, what: str) -> None: ...  # in place of the three above, for what an earlier run has left
    def remake(self, what: str) -> None: ...  # before them, where what an earlier run has left is damaged


class _Silent:
    def start(self, what: str, total: int, unit: str = "samples") -> None: ...
    def advance(self, count: int) -> None: ...
    def finish(self) -> None: ...
    def reuse(self, what: str) -> None: ...
    def remake(self, what: str) -> None: ...

    def __repr__(self) -> str:
        return "silent"


silent: Progress = _Silent()

_TICK = 1.0  # seconds


@contextmanager
def ticking(progress: Progress) -> Iterator[None]:
    """Let progress show, while the block lasts, that something is waited for; from a thread of its own."""
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(_TICK):
            progress.advance(0)

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def level_of(pool: str) -> int:
    """The level that `Tap.pool` names; -1 for none."""
    number = pool.removeprefix(LEVEL)
    return int(number) if number != pool and number.isdecimal() and len(number) < 4 else -1


@dataclass(frozen=True)
class Tap:
    """A hidden tensor that is watched.

    name : the tensor's name in the model.
    op : operator that produces it.
    shape : its shape for one sample, batch axis left out.
    dtype : ONNX element type as NumPy spells it ("float32", "float16", "bfloat16", "float64"); "uint8" or
        "int8" for the integers of a quantised layer, which are read as they are.
    pool : "none": a neuron is a position. Otherwise it is a channel, pooled over positions: its "mean", "std"
        (deviation) or "max", or, with "grid2", its means over the two halves of every axis of positions, the
        quarters of an image. Where there are scores at positions, a neuron is a channel at each of them:
        "aligned" of a map with the same positions, "resized" of another, linearly, the "mean" over all of a
        sample at each, and "place" where it is; at anchors "level0", ... of one of that level's size, else 0.
    channel_axis : axis of `shape` that counts channels; used only when pooled.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    pool: str = "none"
    channel_axis: int = 0

    @property
    def neurons(self) -> int:
        """How many neurons this tap has."""
        if self.pool != "none":
            return self.shape[self.channel_axis] * self.cells
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def positions(self) -> int:
        """How many positions a channel has."""
        return int(np.prod(self.shape, dtype=np.int64)) // self.shape[self.channel_axis]

    @property
    def cells(self) -> int:
        """How many values are pooled from each channel; a neuron's index is `channel * cells + cell`."""
        return math.prod(len(parts) for parts in self.halves) if self.pool == "grid2" else 1

    @property
    def pooled_shape(self) -> tuple[int, ...]:
        """The axes of positions once they are pooled."""
        return tuple(len(parts) if self.pool == "grid2" else 1 for parts in self.halves)

    @property
    def halves(self) -> tuple[tuple[slice, ...], ...]:
        """The halves of every axis of positions: those of an odd size share its middle, 1 is not halved."""
        sizes = [size for axis, size in enumerate(self.shape) if axis != self.channel_axis]
        return tuple(
            (slice(0, -(-size // 2)), slice(size // 2, size)) if size > 1 else (slice(0, 1),)
            for size in sizes
        )


@dataclass(frozen=True)
class Neurons:
    """K chosen neurons: the columns of table T, in this order. The same neuron may appear twice.

    taps : the distinct tapped tensors.
    tap_of (K,) int32 : position in `taps`.
    index (K,) int64 : flat index inside that tap (channel when pooled).
    """

    taps: tuple[Tap, ...]
    tap_of: np.ndarray
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class Metrics:
    """How predictions did on one split.

    overall, target : accuracy over all samples, and over samples of the target classes (NaN without any).
    per_class (C,) : accuracy of each class, NaN for a class without samples.
    confusion (C, C) int64 : rows are labels, columns predictions.
    """

    samples: int
    overall: float
    target: float
    per_class: np.ndarray = field(repr=False)
    confusion: np.ndarray = field(repr=False)

    @property
    def support(self) -> np.ndarray:
        """How many samples each class has, (C,) int64."""
        found: np.ndarray = self.confusion.sum(axis=1)
        return found


@dataclass(frozen=True)
class LabelMetrics(Metrics):
    """How decisions on several labels at once did on one split, as far as labels are known.

    overall, target : mean F1 of all labels (macro F1), and of the target labels. per_class (C,) : F1 of each
    label, NaN for one that no sample has. confusion (C, 2, 2) int64 : for each label, rows are whether it is
    there, columns whether it is shown. precision, recall, average_precision (C,) : of each label, NaN where
    nothing is shown or there.
    """

    precision: np.ndarray = field(repr=False)
    recall: np.ndarray = field(repr=False)
    average_precision: np.ndarray = field(repr=False)

    @property
    def support(self) -> np.ndarray:
        """How many samples have each label, (C,) int64."""
        found: np.ndarray = self.confusion[:, 1].sum(axis=1)
        return found

    @property
    def mean_average_precision(self) -> float:
        """Mean of the average precisions (mAP) of labels that some sample has."""
        known = self.average_precision[np.isfinite(self.average_precision)]
        return float(known.mean()) if len(known) else math.nan


@dataclass(frozen=True)
class BoxMetrics(Metrics):
    """How well objects were found on one split. samples : pictures.

    overall, target : mean average precision at an overlap of 0.5 (mAP50) of all classes, and of the target
    classes. per_class (C,) : AP50 of each class, NaN for one without objects. strict (C,) : the mean of the
    average precisions at overlaps from 0.5 to 0.95 (AP50-95). objects (C,) int64 : labelled. confusion :
    empty.
    """

    strict: np.ndarray = field(repr=False)
    objects: np.ndarray = field(repr=False)

    @property
    def support(self) -> np.ndarray:
        """How many objects of each class are labelled, (C,) int64."""
        return self.objects

    @property
    def mean_strict(self) -> float:
        """Mean of AP50-95 over the classes that have objects (mAP50-95)."""
        known = self.strict[np.isfinite(self.strict)]
        return float(known.mean()) if len(known) else math.nan


@dataclass(frozen=True)
class GroupMetrics:
    """How predictions did on the samples of one group.

    column, name : of the group. right : samples, of all of them. accuracy : a fraction. interval : of 95 %
    confidence, as fractions. few : whether there are too few samples to say much.
    """

    column: str
    name: str
    samples: int
    right: int
    accuracy: float
    interval: tuple[float, float]
    few: bool


@dataclass(frozen=True)
class AtCut:
    """What decisions of a model for class 1 of two do, against a limit on false alarms.

    recall : of class 1, a fraction. rate : as measured, the false-positive rate or the precision; NaN without
    samples. interval : its 95 % interval. false, samples : false alarms, and samples that they are a share of
    (for a false-positive rate those of class 0, for a precision those taken for class 1). kept : whether the
    rate keeps the limit as measured.
    """

    recall: float
    rate: float
    interval: tuple[float, float] | None
    false: int
    samples: int
    kept: bool


@dataclass(frozen=True)
class MetricReading:
    """A metric of one model on some samples. name : as it is asked for. title : in words.

    value : a fraction, or a mean cost. interval : of 95 %, by resampling; None without samples. sign : 1
    where higher is better, else -1. at_cut : of the model's own decisions, where the metric has a limit.
    """

    name: str
    title: str
    value: float
    interval: tuple[float, float] | None
    sign: int = 1
    at_cut: AtCut | None = None


@dataclass(frozen=True)
class MetricChange:
    """What became of the metric that was asked for.

    before, after, bias : of the base, of the patched model, and of the base with the best biases, on the same
    samples. gain, over_bias : of the patched model against the two, in points (per 100 samples), positive
    where it is better, with their intervals. With a limit `over_bias` is about the recall at each one's own
    cut, as biases do not change the order of scores. promise : the limit, in words; empty without one.
    limit, at_most : the rate that may not be exceeded (or undercut, where not `at_most`).
    """

    before: MetricReading
    after: MetricReading
    bias: MetricReading
    gain: float
    interval: tuple[float, float] | None
    over_bias: float
    over_bias_interval: tuple[float, float] | None
    promise: str = ""
    limit: float = 1.0
    at_most: bool = True


@dataclass(frozen=True)
class Check:
    """A check of a file: what was checked, whether it passed, and the figures."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Unchecked:
    """A check that could not be made, and the reason: it counts neither as passed nor as failed."""

    name: str
    reason: str


@dataclass(frozen=True)
class Finding:
    """One thing that was checked. state : "ok", "warning" or "problem". hint : what to do unless it is ok."""

    name: str
    state: str
    detail: str
    hint: str = ""


@dataclass(frozen=True)
class FileRef:
    """A file and its contents' digest: path as given, sha256 in hex."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Trial:
    """One candidate operating point, judged on the validation split.

    n, scale : synapses per target and scale; drop : overall accuracy lost against the base in percentage
    points (negative: gained); target : accuracy over the samples of the target classes.
    """

    n: int
    scale: float
    drop: float
    target: float
