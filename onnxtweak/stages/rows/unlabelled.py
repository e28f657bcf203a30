"""Which rows do samples without labels have, where a sample has several? Positions are drawn, marks unknown.

Where a model has very many classes, what it shows itself says which of them matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from onnxtweak.data.dataset import Dataset
from onnxtweak.data.splits import FIT, TEST, VALIDATION, WHOLE, Splits, View, on_positions, with_positions
from onnxtweak.engine.passes import Engine
from onnxtweak.engine.shared.shards import by_shards, captured_shards
from onnxtweak.engine.subject import Subject
from onnxtweak.stages.lines.name_classes import MANY


def rows_without_labels(
    splits: Splits, subject: Subject, engine: Engine, seed: int, *, whole: bool
) -> Splits:
    """The splits with a label that is not known for each position, or for each of several labels.

    Samples that have labels keep them. whole : whether the samples are not split.
    """
    found = {
        id(view.dataset): _with_rows(view.dataset, subject)
        for view in splits.views
        if not view.dataset.known.any()
    }
    if not found or not (subject.sizes or subject.head.several) or subject.detector is not None:
        return splits

    def drawn(view: View, most: int) -> View:
        if id(view.dataset) not in found:
            return view
        own = View(found[id(view.dataset)], view.rows)
        own = with_positions(own, most, seed, labelled=False) if subject.sizes else own
        if subject.sizes and subject.classes >= MANY and not subject.head.several:
            shards = by_shards(_decided_shards, subject, own, engine, "decide")
            own.dataset.labels[own.rows] = np.concatenate([decided.copy() for decided in shards])
        return own

    if whole:
        every = drawn(splits.fit, WHOLE)
        return replace(splits, fit=every, validation=every)
    fit, validation = drawn(splits.fit, FIT), drawn(splits.validation, VALIDATION)
    test = None if splits.test is None else drawn(splits.test, TEST)
    notes = (*splits.notes, *on_positions(fit, validation, test))
    return replace(splits, fit=fit, validation=validation, test=test, notes=notes)


def _decided_shards(subject: Subject, view: View, engine: Engine, what: str) -> Iterator[np.ndarray]:
    """The classes that the model decides for, of each shard."""
    for shard in captured_shards(subject, view, engine, what):
        yield np.concatenate([subject.head.predict(got.Z) for got in shard])


def _with_rows(dataset: Dataset, subject: Subject) -> Dataset:
    """The dataset with -1 for every label that a sample of this model has."""
    sizes = (max(dataset.own),) if dataset.own else tuple(size for size in subject.sizes if size > 1)
    count = len(dataset) * math.prod(sizes)
    if subject.head.several:
        return replace(dataset, labels=np.full((count, subject.classes), -1, np.int8), sizes=sizes)
    return replace(dataset, labels=np.full(count, -1, np.int32), sizes=sizes)
