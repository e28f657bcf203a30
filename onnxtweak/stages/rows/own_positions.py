"""How many positions has each sample, where sizes differ? Its labels say, of some sizes the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnxtweak.data.dataset import Dataset
from onnxtweak.data.several.marks import UNKNOWN
from onnxtweak.data.splits import (
    FIT,
    KEPT,
    TEST,
    VALIDATION,
    WHOLE,
    Splits,
    View,
    on_positions,
    with_positions,
)
from onnxtweak.engine.opened import Opened
from onnxtweak.engine.passes import Engine
from onnxtweak.engine.position_batches import not_at
from onnxtweak.engine.session import session_of
from onnxtweak.engine.subject import Subject, filled
from onnxtweak.errors import DataError

_ASKED = 8  # sizes of which the model is asked how many positions they have; of others labels say it


def require_one_size(opened: Opened, splits: Splits) -> None:
    """Raise DataError for samples of different sizes, but where a model has scores at positions."""
    if opened.detector is None and opened.may_be_at_positions:
        return
    for dataset in (view.dataset for view in splits.views if view.dataset.by_part.unequal):
        first, *shapes = dataset.by_part.shapes
        other = next(number for number, shape in enumerate(shapes, 1) if shape != first)
        own, before = (" and ".join(map(str, shape)) for shape in (shapes[other - 1], first))
        raise DataError(
            f"samples are {own} here and {before} in {dataset.parts[0].where}",
            where=dataset.parts[other].where,
            hint="set resize, or use the sources separately",
        )


def positions_of_each(splits: Splits, subject: Subject, engine: Engine, seed: int, *, whole: bool) -> Splits:
    """The splits with as many positions of each sample as it has, and those drawn that are learnt from.

    Samples of one size stay as they are; of lines, and of samples without labels, nothing is drawn yet.
    whole : whether the samples are not split. Raises DataError for labels that are not at these positions.
    """
    datasets = {id(view.dataset): view.dataset for view in splits.views if view.dataset.by_part.unequal}
    if not datasets:
        return splits
    found = {key: _settled(subject, dataset, engine) for key, dataset in datasets.items()}

    def drawn(view: View, most: int, *, rare: bool = False, labelled: bool = True) -> View:
        own = found.get(id(view.dataset), view.dataset)
        made = View(own, view.rows, view.thinned)
        return (
            made
            if own is view.dataset or not own.sizes
            else with_positions(made, most, seed, rare=rare, labelled=labelled)
        )

    listed = {role: drawn(view, KEPT, labelled=role != "keep") for role, view in splits.listed.items()}
    if whole or splits.fit is splits.validation:
        every = drawn(splits.fit, WHOLE if whole else FIT)
        return replace(splits, fit=every, validation=every, listed=listed)
    fit, validation = drawn(splits.fit, FIT, rare=True), drawn(splits.validation, VALIDATION)
    test = None if splits.test is None else drawn(splits.test, TEST)
    notes = (*splits.notes, *on_positions(fit, validation, test))
    return replace(splits, fit=fit, validation=validation, test=test, listed=listed, notes=notes)


def _settled(subject: Subject, dataset: Dataset, engine: Engine) -> Dataset:
    """The dataset with how many positions each of its parts has, and the labels at these."""
    own = _counted(subject, dataset, engine)
    labels = dataset.pending
    if labels is None:
        return replace(dataset, own=own)
    held = len(labels) // len(dataset)
    for part, count, given in zip(dataset.parts, own, _labels_of_each(dataset), strict=True):
        if part.labelled and given != count:
            raise not_at(part, given, count)
    by_sample = labels.reshape(len(dataset), held, *labels.shape[1:])
    if max(own) > held:
        fill = np.full((len(dataset), max(own) - held, *labels.shape[1:]), UNKNOWN, labels.dtype)
        by_sample = np.concatenate([by_sample, fill], axis=1)
    whole = by_sample.reshape(-1, *labels.shape[1:])
    return replace(dataset, labels=whole, sizes=(by_sample.shape[1],), own=own, pending=None)


def _labels_of_each(dataset: Dataset) -> Sequence[int]:
    """At how many positions each sample of each part has a label."""
    pending = dataset.pending
    return dataset.own or [0 if pending is None else len(pending) // len(dataset)] * len(dataset.parts)


def _by_labels(dataset: Dataset) -> dict[object, int]:
    """How many positions samples of a size have, where all of it have as many labels, by size.

    Some sizes are left out, of which the model is asked; of the others every pass shows whether it is so.
    """
    if dataset.pending is None:
        return {}
    told: dict[object, set[int]] = {}
    of_each = zip(dataset.parts, dataset.by_part.shapes, _labels_of_each(dataset), strict=True)
    for part, shape, given in of_each:
        told.setdefault(shape, set()).add(given if part.labelled else -1)
    sizes = list(told)
    asked = {sizes[k] for k in np.linspace(0, len(sizes) - 1, _ASKED).astype(int).tolist()}
    agreed = {size: own.pop() for size, own in told.items() if len(own) == 1 and size not in asked}
    return {size: own for size, own in agreed.items() if own >= 0}


def _counted(subject: Subject, dataset: Dataset, engine: Engine) -> tuple[int, ...]:
    """How many positions the samples of each part have: by one run for each size, or by their labels."""
    exposed = subject.exposed()
    session = session_of(subject.model, exposed.proto, engine.settings, subject.maps, len(dataset))
    names = [port.name for port in session.inputs]
    starts = np.cumsum([0, *map(len, dataset.parts)])[:-1]
    known = _by_labels(dataset)
    engine.progress.start("find positions", len(dataset.parts))
    for part, start in enumerate(starts.tolist()):
        shape = dataset.by_part.shapes[part]
        if shape not in known:
            feeds, _, _ = next(dataset.batches(np.array([start]), 1))
            size = subject.batch or 1
            fed = subject.feeding.fed({name: filled(value, size) for name, value in feeds.items()}, names)
            known[shape] = len(session.run(fed, [exposed.logits])[0]) // size
        engine.progress.advance(1)
    engine.progress.finish()
    return tuple(known[shape] for shape in dataset.by_part.shapes)
