"""Which class does each anchor get as its label, and which anchors are learnt from (METHOD 18)?

The boxes are the base's own, which no patch changes. All anchors that objects are matched with are learnt
from, and those that the base gives some score; of all others a share, which counts for them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import numpy as np

from onnxtweak.boxes.head import objects_of
from onnxtweak.boxes.matching import IGNORED, NOTHING, matched
from onnxtweak.boxes.truth import AnchorBoxes
from onnxtweak.data.dataset import Dataset
from onnxtweak.data.splits import FIT, VALIDATION, Splits, View
from onnxtweak.engine.answer.shown_boxes import meaning_of, numbers_of, shards_of_anchors, shown_anchors
from onnxtweak.engine.passes import Engine
from onnxtweak.engine.shared.kept_shards import Arrays, kept_by_shards
from onnxtweak.engine.shared.shards import joined
from onnxtweak.engine.subject import Subject
from onnxtweak.errors import DataError
from onnxtweak.goal import class_names
from onnxtweak.model.file.model_file import ModelFile
from onnxtweak.quantities import number_of
from onnxtweak.settings import DataSettings

_TRIED = 64  # samples with objects, to see what the numbers of a box mean
_SOME_SCORE = 0.02  # from which an anchor may matter
_MATTER = 0.8  # of the anchors that are drawn, at most


@dataclass(frozen=True, eq=False)
class _Matched:
    """A dataset with a label for each anchor. score (N * A,) float32 : the highest that the base gives."""

    dataset: Dataset
    score: np.ndarray


def settle_boxes(
    splits: Splits,
    subject: Subject,
    feeds: Mapping[str, np.ndarray],
    engine: Engine,
    data: DataSettings,
    *,
    whole: bool,
) -> tuple[Splits, Subject]:
    """The splits as splits of anchors, and the subject with what the four numbers of its boxes mean.

    whole : whether the samples are only measured: then no anchor needs a label. Raises DataError for classes
    that the model does not have.
    """
    classes = objects_of(subject.head, subject.classes)
    own, notes = splits.classes or _names_in(subject.model, classes), list[str]()
    parts = splits.fit.dataset.parts
    if splits.classes is None and (offered := next((one.offered for one in parts if one.offered), None)):
        why = "the model has its own" if own else f"it has {len(offered[1])}, and the model {classes}"
        used = own is None and len(offered[1]) == classes
        own = offered[1] if used else own
        notes.append(
            f"class names are those of {offered[0]}" if used else f"names in {offered[0]} are not used: {why}"
        )
    names = class_names(own, classes)
    datasets = {id(view.dataset): view.dataset for view in splits.views}
    for dataset in datasets.values():
        _require_classes(dataset, classes, names)
    assert subject.detector is not None and splits.fit.dataset.objects is not None
    holding = np.intersect1d(splits.fit.rows, splits.fit.dataset.objects.sample)[:_TRIED]
    shown = shown_anchors(subject, splits.fit.dataset, holding, engine, "read boxes")
    means = meaning_of(shown, splits.fit.dataset.objects, subject.detector.meanings)
    subject = replace(subject, detector=replace(subject.detector, numbers=means))
    notes.append(f"the model's four numbers of a box are {means}: so they fit the labelled ones best")
    if whole:
        found = {key: replace(one, classes=names) for key, one in datasets.items()}
        changed = splits.with_views(lambda view: View(found[id(view.dataset)], view.rows))
        return replace(changed, classes=names, notes=(*splits.notes, *notes)), subject
    made = {key: _matched(subject, one, engine, names) for key, one in datasets.items()}

    def anchors(view: View, most: int) -> View:
        own, each = made[id(view.dataset)], np.arange(subject.positions)
        rows = (view.rows[:, None] * subject.positions + each).reshape(-1)
        return View(own.dataset, _drawn(rows, own, classes, most, data.seed))

    test = splits.test
    fit, validation = anchors(splits.fit, FIT), anchors(splits.validation, VALIDATION)
    changed = replace(
        splits, fit=fit, validation=validation, test=None if test is None else anchors(test, VALIDATION)
    )
    for one in made.values():
        notes += _said(one.dataset)
    notes.append(
        f"{number_of(len(fit), 'anchor')} of {number_of(len(fit.samples), 'sample')} to fit, "
        f"{len(validation):,} of {len(validation.samples):,} to validate: all that objects are "
        "matched with, all of some score, and as many of the others"
    )
    return replace(changed, classes=names, notes=(*splits.notes, *notes)), subject


def _names_in(model: ModelFile, classes: int) -> tuple[str, ...] | None:
    """Class names in a model's metadata, as exporters of YOLO write them; None where there are none."""
    held = {entry.key: entry.value for entry in model.proto.metadata_props}
    try:
        found = ast.literal_eval(held.get("names", ""))
        names = tuple(str(found[number]) for number in range(classes))
    except (ValueError, SyntaxError, LookupError, TypeError, MemoryError, RecursionError):
        return None
    return names if len(set(names)) == classes else None


def _require_classes(dataset: Dataset, classes: int, names: tuple[str, ...]) -> None:
    """Raise DataError for classes that the model does not have, and for too many or too few names."""
    where = dataset.parts[0].label_where
    if dataset.objects is None:
        raise DataError("the samples have no boxes", where=where)
    if len(names) != classes:
        raise DataError(
            f"{number_of(len(names), 'class name')}, but the model has {number_of(classes, 'class')}",
            where=where,
            hint="give a names file with one name per class of the model, without a background",
        )
    largest = int(dataset.objects.number.max(initial=0))
    if largest >= classes:
        sample = int(dataset.objects.sample[dataset.objects.number.argmax()])
        raise DataError(
            f"class {largest} is out of range: the model has {number_of(classes, 'class')} of objects",
            where=dataset.place(sample),
            hint=f"number them from 0 to {classes - 1}, without a background",
        )


def _matched(subject: Subject, dataset: Dataset, engine: Engine, names: tuple[str, ...]) -> _Matched:
    """The labels of all anchors, of one pass; -1 for one that does not count, C for no object."""
    assert dataset.objects is not None
    each, view = subject.positions, View(dataset, np.arange(len(dataset)))
    work = partial(_matched_shards, classes=len(names))
    shards = kept_by_shards(work, subject, view, engine, "match", f"matched with {len(names)} classes")
    empty = (
        (np.empty((0, each), np.int32), np.empty((0, each), np.float32)),
        (np.empty(0, np.int64), np.empty((0, 4), np.float32), np.empty(0, np.float32)),
    )
    parts = zip(chain(*empty), *([array.copy() for array in shard] for shard in shards), strict=True)
    labels, score, *kept = map(np.concatenate, parts)
    anchors = AnchorBoxes(*kept)
    objects, coded = replace(dataset.objects, anchors=anchors), len(names) if subject.head.several else 0
    own = labels.reshape(-1) if coded else np.maximum(labels.reshape(-1), IGNORED)
    changed = replace(dataset, labels=own, sizes=(each,), classes=names, objects=objects, coded=coded)
    return _Matched(changed, score.reshape(-1))


def _matched_shards(
    subject: Subject, view: View, engine: Engine, what: str, classes: int
) -> Iterator[Arrays]:
    """Of each shard the labels (n, A) of all anchors and their highest scores; and of those that may matter
    which they are among the anchors of all samples, their boxes and objectness."""
    objects, means = view.dataset.objects, numbers_of(subject)
    assert objects is not None
    for shard in shards_of_anchors(subject, view, engine, what):
        found = []
        for one in shard:
            number, truth = objects.within(one.sample)
            placed, score = one.boxes(means), one.scores.max(axis=1).astype(np.float32, copy=False)
            own = matched(placed, score, number, truth)
            own = np.where(own == NOTHING, classes, own).astype(np.int32)
            kept = np.flatnonzero((score > _SOME_SCORE) | ((own >= 0) & (own < classes)))
            rows = one.sample * len(own) + kept
            found.append((own[None], score[None], rows, placed[kept], one.objectness[kept]))
        yield joined(found)


def _drawn(rows: np.ndarray, own: _Matched, classes: int, most: int, seed: int) -> np.ndarray:
    """About `most` of some anchors (n,): all that matter, the best first, and as many of the others.

    One of every sample is among them, so that its objects count.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    labels, score = own.dataset.labels[rows], own.score[rows].copy()
    score[(labels >= 0) & (labels < classes)] = np.inf
    matter = np.flatnonzero(score > _SOME_SCORE)
    matter = matter[np.argsort(-score[matter], kind="stable")][: round(_MATTER * most)]
    chosen = np.zeros(len(rows), bool)
    chosen[matter] = True
    others = np.flatnonzero(~chosen & (labels >= 0))
    drawn = rng.choice(others, min(most - len(matter), len(matter), len(others)), replace=False)
    chosen[drawn] = True
    chosen[:: own.dataset.positions] = True
    return rows[chosen]


def _said(dataset: Dataset) -> Iterator[str]:
    """What became of the boxes of a dataset."""
    assert dataset.objects is not None and dataset.classes is not None
    labels = dataset.labels
    wanted, found = len(dataset.objects.box), int(((labels >= 0) & (labels < len(dataset.classes))).sum())
    yield (
        f"{found:,} of {wanted:,} boxes overlap an anchor of the model, which takes their class; "
        f"{int((labels < 0).sum()):,} other anchors that overlap them do not count"
    )
