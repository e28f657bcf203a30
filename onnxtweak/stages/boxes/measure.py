"""How well does a file find objects, by its own output? Average precision before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxtweak.boxes.average_precision import Found, mean
from onnxtweak.boxes.suppression import Detections
from onnxtweak.data.splits import View
from onnxtweak.engine.answer.shown_boxes import detections
from onnxtweak.engine.passes import Engine
from onnxtweak.engine.subject import Subject
from onnxtweak.errors import UsageError
from onnxtweak.goal import find_targets
from onnxtweak.metric.bootstrap import drawn_together, interval
from onnxtweak.metric.kinds import known_means
from onnxtweak.settings import DataSettings, TargetSettings
from onnxtweak.types import BoxMetrics, MetricReading

RESAMPLES = 300
NOT_BY_GROUPS = "average precision is not measured by groups yet: give the pictures of one group at a time"
SURE = 0.25  # the score from which a box is usually shown
OVERALL, STRICT = ("map50", "mAP50"), ("map50-95", "mAP50-95")


@dataclass(frozen=True, eq=False)
class FoundObjects:
    """What a file finds in the samples of a view, against what is there.

    classes : C. sure : what is usually shown of it.
    """

    found: Found
    classes: int
    sure: Detections

    @classmethod
    def of(cls, subject: Subject, view: View, engine: Engine, what: str) -> FoundObjects:
        """By the file's own outputs. what : the pass's name in the progress and in the statistics."""
        objects, names = view.dataset.objects, view.dataset.classes
        assert objects is not None and names is not None  # settled when the samples were
        samples = view.samples
        shown = detections(subject, view.dataset, samples, engine, what)
        found = Found.of(shown, objects.some(samples), range(len(names)))
        return cls(found, len(names), shown.from_score(SURE))

    def metrics(self, targets: np.ndarray) -> BoxMetrics:
        """targets (c,) int64 : classes that should do better."""
        each = self.found.average_precision()
        return BoxMetrics(
            samples=self.found.samples,
            overall=mean(each[0]),
            target=mean(each[0, targets]),
            per_class=each[0],
            confusion=np.zeros((0, 0), np.int64),
            strict=each.mean(axis=0),
            objects=self.found.objects,
        )


def weights_of(samples: int, groups: np.ndarray | None) -> np.ndarray:
    """How often each sample is drawn in resamples of a fixed seed, (R, N) float64.

    groups (N,) : of samples that are drawn together.
    """
    return np.concatenate([*drawn_together(samples, 1, groups, many=RESAMPLES)])


def box_readings(made: FoundObjects, groups: np.ndarray | None) -> tuple[MetricReading, ...]:
    """mAP50 and mAP50-95, with their intervals."""
    drawn = made.found.drawn(weights_of(made.found.samples, groups))
    figures = made.metrics(np.empty(0, np.int64))
    return (
        MetricReading(*OVERALL, figures.overall, interval(over_classes(drawn[:, 0]))),
        MetricReading(*STRICT, figures.mean_strict, interval(over_classes(drawn.mean(axis=1)))),
    )


def over_classes(each: np.ndarray) -> np.ndarray:
    """The mean over the classes of each resample (R, C), of those that have objects there."""
    return known_means(each)


def box_targets(settings: TargetSettings, names: Sequence[str], base: BoxMetrics) -> np.ndarray:
    """Target classes (c,) int64, ascending: those named, or those that the base finds worst.

    Raises UsageError for an unknown class and for more than have objects, DataError for one without any.
    """
    seen = np.flatnonzero(base.objects)
    if settings.worst is not None and not settings.targets:
        if not 1 <= settings.worst <= len(seen):
            raise UsageError(
                f"cannot pick the worst {settings.worst:,} of {len(seen):,} classes that have objects there",
                where="--worst",
                hint=f"use a number from 1 to {len(seen)}",
            )
        order = seen[np.argsort(base.per_class[seen], kind="stable")]
        return np.sort(order[: settings.worst])
    return find_targets(settings, names, seen, seen)


def require_measured_whole(data: DataSettings) -> None:
    """Raise UsageError where groups of samples should be measured."""
    if data.by:
        raise UsageError("not possible for a detector yet", where=f"--by {data.by[0]}", hint=NOT_BY_GROUPS)
