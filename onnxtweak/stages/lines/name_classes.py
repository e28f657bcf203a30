"""Which classes do labels name? Where a model has thousands more, tables hold these, and one for the rest.

Nothing is ever added to a class of the rest, so that of its scores the highest is all that decisions need.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnxtweak.data.dataset import Dataset, counted
from onnxtweak.data.splits import Splits
from onnxtweak.engine.subject import Subject
from onnxtweak.head import Readout
from onnxtweak.model.file.tweak_metadata import tweaks_inside

MANY = 200  # classes
_FEW = 0.5  # of them
REST = "(any other)"


def with_named_classes(splits: Splits, subject: Subject) -> tuple[Splits, Subject]:
    """Both with the classes that labels name and one for all others, where those are most of very many.

    The classes that the last tweak of a file was made for come first, in its order.
    """
    datasets = {id(view.dataset): view.dataset for view in splits.views}
    if not subject.sizes or subject.classes < MANY or subject.answer is None:
        return splits, subject
    count = np.zeros(subject.classes, np.int64)
    for dataset in datasets.values():
        if not dataset.sizes or dataset.labels.max(initial=-1) >= subject.classes:
            return splits, subject  # labels that do not fit, which is said elsewhere
        own = counted(dataset.labels)
        count[: len(own)] += own
    recorded = _recorded(subject)
    source = (*recorded, *(c for c in np.flatnonzero(count).tolist() if c not in recorded))
    if not 0 < len(source) < _FEW * subject.classes:
        return splits, subject
    readout = Readout(subject.classes, source, (0.0,) * len(source), rest=True)
    answer = replace(subject.answer, labels=source, rest=True)
    names = splits.classes or tuple(map(str, range(subject.classes)))
    called = (*(names[c] for c in source), REST)
    place = readout.places
    found = {key: _renumbered(dataset, place, called) for key, dataset in datasets.items()}
    changed = splits.with_views(lambda view: replace(view, dataset=found[id(view.dataset)]))
    note = (
        f"labels name {len(source):,} of {subject.classes:,} classes: only these are learnt and patched, and "
        f"the scores of all others, {REST} below, stay as they are bit for bit"
    )
    subject = replace(subject, shape=(len(called),), readout=readout, answer=answer)
    return replace(changed, classes=called, notes=(*changed.notes, note)), subject


def _recorded(subject: Subject) -> tuple[int, ...]:
    """The classes that the last tweak inside the file names."""
    for tweak in reversed(tweaks_inside(subject.model.proto)):
        try:
            readout = Readout.read(tweak.provenance["readout"])
        except (LookupError, TypeError, ValueError):
            continue
        if readout.rest and readout.columns == subject.classes:
            return readout.source
    return ()


def _renumbered(dataset: Dataset, place: np.ndarray, names: tuple[str, ...]) -> Dataset:
    labels = np.append(place, -1)[dataset.labels].astype(dataset.labels.dtype)
    return replace(dataset, labels=labels, classes=names)
