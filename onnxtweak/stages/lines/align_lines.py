"""Which class does each position of a line get as its label? That of the base's best path through the text.

Among all paths that read as the text, the most likely one by the base's own scores (forced alignment). Of a
file with tweaks inside, the scores are those without them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from onnxtweak.ctc.alignment import align, over_whole_runs
from onnxtweak.ctc.alphabet import Alphabet
from onnxtweak.data.dataset import Dataset
from onnxtweak.data.splits import KEPT, TEST, Splits, View, on_positions, with_positions
from onnxtweak.data.stratified import thinned
from onnxtweak.engine.passes import Engine, capture
from onnxtweak.engine.shared.kept_shards import Arrays, kept_by_shards
from onnxtweak.engine.shared.shards import captured_shards, joined
from onnxtweak.engine.subject import Subject
from onnxtweak.errors import DataError
from onnxtweak.head import ONE_LABEL
from onnxtweak.metric.lines import edit_distance
from onnxtweak.model.edit.revert import revert_tweak
from onnxtweak.model.file.tweak_metadata import tweaks_inside
from onnxtweak.quantities import number_of

# Positions that are drawn at most: fewer than where all are drawn alike, as those that teach are among them.
_FIT, _VALIDATION, _KEPT = 12_000, 8_000, 6_000
_SEEN = 32  # lines by which the blank is found
_JUDGED = 10_000  # characters by which the model itself is judged
_CLOSE = 2.0  # by how much the highest score of a position that is not hard exceeds the next


@dataclass(frozen=True, eq=False)
class _Aligned:
    """A dataset with labels at positions.

    hard (N * P,) bool : where the base is wrong, or hardly right. plain (N * P,) bool : where there is no
    character, and the base sees none.
    """

    dataset: Dataset
    hard: np.ndarray
    plain: np.ndarray


def align_splits(
    splits: Splits, subject: Subject, alphabet: Alphabet, engine: Engine, seed: int, *, whole: bool
) -> Splits:
    """The splits of lines as splits of their positions, with a label each.

    whole : whether the samples are not split: then all positions are taken. Raises DataError for characters
    that the model has no class for, and where no line has a text or fits into its positions.
    """
    bare = subject
    for tweak in reversed(tweaks_inside(subject.model.proto)):
        bare = replace(bare, model=bare.model.holding(revert_tweak(bare.model.data, tweak)))
    for view in (splits.fit, splits.validation, splits.test):
        if view is not None and view.dataset.lines is not None and not any(view.dataset.lines.texts):
            raise DataError(
                "no line has any text",
                where=view.dataset.parts[0].label_where,
                hint="give what stands in each line; lines without text are for --keep",
            )
    datasets = {id(view.dataset): view.dataset for view in splits.views}
    found = {key: _aligned(bare, dataset, alphabet, engine) for key, dataset in datasets.items()}
    positions = max(one.dataset.positions for one in found.values())

    def at_positions(view: View, most: int, *, labelled: bool = True) -> View:
        own = View(found[id(view.dataset)].dataset, view.rows)
        return with_positions(own, most, seed, labelled=labelled)

    def drawn(view: View, most: int, *, pick_hard: bool = False, labelled: bool = True) -> View:
        own = found[id(view.dataset)]
        every = at_positions(view, len(view) * own.dataset.positions, labelled=labelled)
        if len(every) <= most:
            return every
        rows, nothing = every.rows, np.zeros(len(every), bool)
        chosen = thinned(rows, own.hard[rows] if pick_hard else nothing, own.plain[rows], most, seed)
        return View(own.dataset, chosen.rows, chosen)

    listed = {
        role: drawn(view, _KEPT, labelled=False) if role == "keep" else at_positions(view, KEPT)
        for role, view in splits.listed.items()
    }
    notes = [note for one in found.values() for note in _said(one.dataset)]
    if whole:
        every = at_positions(splits.fit, len(splits.fit) * positions)
        changed = replace(splits, fit=every, validation=every, listed=listed)
    else:
        fit = drawn(splits.fit, _FIT, pick_hard=True)
        validation, test = drawn(splits.validation, _VALIDATION), splits.test
        if test is not None:  # whole lines are read there
            test = at_positions(test.spread_out(TEST // positions), TEST)
        changed = replace(splits, fit=fit, validation=validation, test=test, listed=listed)
        notes += on_positions(fit, validation, test)
        if fit.thinned is not None:
            picked = len(fit) - int(fit.thinned.judged.sum())
            notes.append(
                f"of the positions to fit, {picked:,} were picked because the base reads them wrong, or"
                " hardly right; where there is no character fewer are drawn, which count for more"
            )
    return replace(changed, classes=alphabet.names, notes=(*changed.notes, *notes))


def seen_in(lines: View, subject: Subject, engine: Engine) -> list[tuple[str, np.ndarray]]:
    """Of some lines: what stands there, and the classes (P,) that the model shows at their positions."""
    dataset = lines.dataset
    assert dataset.lines is not None
    texts, bare = dataset.lines.texts, _unlabelled(dataset, subject)
    known = View(bare, np.array([row for row in lines.rows if texts[row]], np.int64)).spread_out(_SEEN)
    if not len(known):
        return []
    every = with_positions(known, len(known) * bare.positions, 0, labelled=False)
    return [
        (texts[int(got.rows[line.start]) // bare.positions], ONE_LABEL.predict(got.Z[line]))
        for got in capture(subject, every, engine, "align")
        for line in _lines(got.rows, bare.positions)
    ]


def _unlabelled(dataset: Dataset, subject: Subject) -> Dataset:
    """The dataset with room for a label at each position of each line, none of which is known."""
    kind = np.int16 if subject.classes < np.iinfo(np.int16).max else np.int32
    sizes = (max(dataset.own),) if dataset.own else subject.sizes
    return replace(dataset, labels=np.full(len(dataset) * math.prod(sizes), -1, kind), sizes=sizes)


def _aligned(subject: Subject, dataset: Dataset, alphabet: Alphabet, engine: Engine) -> _Aligned:
    """The dataset with the labels of one pass; -1 where nothing is known of a sample, or it does not fit."""
    assert dataset.lines is not None
    unknown = alphabet.unknown(dataset.lines.texts)
    if unknown is not None:
        line = next(k for k, text in enumerate(dataset.lines.texts) if unknown in text)
        raise DataError(
            f"the model has no class for `{unknown}`, which stands in `{dataset.lines.texts[line]}`",
            where=dataset.locate(line),
            hint="leave such lines out, or give the characters of its classes with --alphabet FILE",
        )
    lines, wrong, length, at = replace(dataset.lines, alphabet=alphabet), 0, 0, 0
    bare = replace(_unlabelled(dataset, subject), classes=alphabet.names, lines=lines)
    labels = bare.labels
    hard, plain = np.zeros((2, len(labels)), bool)
    every = with_positions(View(bare, np.arange(len(dataset))), len(labels), 0, labelled=False)
    for shard in kept_by_shards(_aligned_shards, subject, every, engine, "align", f"aligned {alphabet}"):
        own = every.rows[at : at + len(shard[0])]
        at += len(own)
        labels[own], shown, hard[own] = shard
        plain[own] = (shown == alphabet.blank) & ((labels[own] == alphabet.blank) | (labels[own] < 0))
        for span in _lines(own, bare.positions) if length < _JUDGED else ():
            text = lines.texts[own[span.start] // bare.positions]
            if length < _JUDGED:
                misread = edit_distance(text, alphabet.read(shown[span])) if text else 0
                wrong, length = wrong + misread, length + len(text)
    if any(lines.texts) and not (labels >= 0).any():
        raise DataError(
            f"no line fits into the {bare.positions:,} positions of the model's scores",
            where=dataset.parts[0].label_where,
            hint="feed wider pictures: --resize HxW --resize-mode line",
        )
    lines = replace(lines, misread=wrong / max(length, 1))
    return _Aligned(replace(bare, lines=lines), hard, plain)


def _aligned_shards(subject: Subject, view: View, engine: Engine, what: str) -> Iterator[Arrays]:
    """Of each shard of all positions the label of each, as of `_aligned`, the class that the model shows
    there, and whether it is wrong or hardly right."""
    lines, positions = view.dataset.lines, view.dataset.positions
    assert lines is not None and lines.alphabet is not None
    alphabet = lines.alphabet
    for shard in captured_shards(subject, view, engine, what):
        found = []
        for got in shard:
            for line in _lines(got.rows, positions):
                Z, text = got.Z[line], lines.texts[int(got.rows[line.start]) // positions]
                shown = ONE_LABEL.predict(Z)
                path = align(Z, alphabet.numbers(text), alphabet.blank) if text else None
                labels, hard = np.full(len(Z), -1), np.zeros(len(Z), bool)
                if path is not None:
                    labels = over_whole_runs(path, shown, alphabet.blank)
                    hard = (shown != labels) | (ONE_LABEL.margin(Z) < _CLOSE)
                found.append((labels, shown, hard))
        yield joined(found)


def _lines(rows: np.ndarray, positions: int) -> Iterator[slice]:
    """Where each line lies among rows (n,) that hold all positions of some."""
    starts = np.flatnonzero(np.diff(rows // positions, prepend=-1))
    return (slice(*each) for each in pairwise([*starts.tolist(), len(rows)]))


def _said(dataset: Dataset) -> Iterator[str]:
    """What was done with the lines."""
    assert dataset.lines is not None and dataset.lines.alphabet is not None
    labels, known = dataset.labels.reshape(len(dataset), -1), np.array([bool(t) for t in dataset.lines.texts])
    yield (
        f"lines of text: every position is labelled by the base's own best path that reads as the text "
        f"(forced alignment), with the blank as class {dataset.lines.alphabet.blank}"
    )
    if not known.all():
        yield f"{np.count_nonzero(~known):,} of {len(known):,} lines have no text: they do not count"
    lost = int((labels[known, 0] < 0).sum())
    if lost:
        yield f"not counted: {number_of(lost, 'line')} of more characters than positions are for"
