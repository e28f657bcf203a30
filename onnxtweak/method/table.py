"""What does every learner work on? A table: values of chosen neurons, logits, labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.machine.large_arrays import (
    blocks,
    by_rows,
    copied,
    end_to_end,
    let_go,
    new_array,
    of_columns,
    taken,
)
from onnxtweak.engine.machine.memory_plan import table_room
from onnxtweak.engine.passes import Engine
from onnxtweak.engine.shared.kept_shards import kept_by_shards
from onnxtweak.engine.shared.shards import captured_shards, joined
from onnxtweak.engine.subject import Subject
from onnxtweak.engine.workers.learning_device import LearningDevice
from onnxtweak.method.folds import Folds, digest_of, not_kept
from onnxtweak.method.selection.numbering import digest_of_neurons
from onnxtweak.types import AT_POSITIONS, PLACE, Neurons, Tap

# Copies of T that a solver makes: standardised, turned, and one to spare.
_COPIES = 4


@dataclass(frozen=True)
class Places:
    """An axis of positions of a fixed size, where rows are positions.

    column : of the table, that says at which place a row is, from 0. count : P, of them. own (k,) int64 :
    columns of maps with the same positions, which can have weights of their own at each place.
    """

    column: int
    count: int
    own: np.ndarray


@dataclass(frozen=True)
class Table:
    """Some samples as the learners see them. T (N, K) float32, Z (N, C) float, labels (N,) int64;
    of several at once (N, C), marks. T and Z lie in files where memory cannot hold them (`large_arrays`).

    groups (N,) int64 : samples of one group are held out together; None: each alone. slices (N,) int64 : the
    groups that a goal is about, if it is. weight (N,) float64 : how much a sample counts; None: all alike.
    shares (N, C) float : of the classes, summing to 1, which are learnt instead of labels; None: labels are.
    kept (N,) bool : samples whose label is what the base decides, which should stay; None: there are none.
    context (k,) int64 : where rows are positions, the columns that are the same in all rows of a sample;
    None: there are none. places : axes of positions of a fixed size. device : where learners compute.
    """

    T: np.ndarray
    Z: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None = None
    slices: np.ndarray | None = None
    weight: np.ndarray | None = None
    shares: np.ndarray | None = None
    kept: np.ndarray | None = None
    context: np.ndarray | None = field(default=None, kw_only=True)
    places: tuple[Places, ...] = field(default=(), kw_only=True)
    device: LearningDevice = field(default_factory=LearningDevice, kw_only=True)

    @property
    def truth(self) -> np.ndarray:
        """What is learnt: labels (N,) int64, or shares of the classes (N, C)."""
        return self.labels if self.shares is None else self.shares

    @cached_property
    def digest(self) -> str:
        """What is learnt depends on it; values of T count by their ends, for a job's own decide the rest."""
        each = (self.groups, self.slices, self.weight, self.shares, self.kept)
        return digest_of(self.T[:1], self.T[-1:], np.array(self.T.shape), self.Z, self.labels, *each)

    def of_folds(self, folds: Folds, what: str, columns: np.ndarray) -> str:
        """A name, among what `folds.kept` hands out, for what is made of some columns (K,) int64."""
        if folds.kept is not_kept:
            return what
        return f"{what} {digest_of(columns)} {self.digest} {folds.digest}"

    def rows(self, chosen: np.ndarray) -> Table:
        """Some samples, in the given order."""
        each = (self.groups, self.slices, self.weight, self.shares, self.kept)
        extra = (None if one is None else taken(one, chosen) for one in each)
        found = Table(taken(self.T, chosen), taken(self.Z, chosen), self.labels[chosen], *extra)
        return replace(found, device=self.device, context=self.context, places=self.places)

    def of_label(self, label: int) -> Table:
        """Of several labels at once, one as a table of two classes: not there, with a score of 0, and there.

        Samples of which it is not known are left out.
        """
        marks = self.labels[:, label].astype(np.int64)
        one = replace(self, Z=self.Z[:, label : label + 1], labels=marks).rows(np.flatnonzero(marks >= 0))
        own = one.Z[:, 0]
        return replace(one, Z=np.column_stack([np.zeros_like(own), own]))

    def columns(self, chosen: np.ndarray) -> Table:
        """Some neurons, in the given order."""
        return replace(self, T=of_columns(self.T, chosen), context=None, places=())

    def cooled(self, temperature: float) -> Table:
        """The samples with logits Z / temperature, on which a patch is learnt before it is scaled by it."""
        return replace(self, Z=by_rows(lambda Z: Z / Z.dtype.type(temperature), self.Z))

    def patched(
        self, columns: np.ndarray | None, patch: Applicable, rows: np.ndarray | None = None
    ) -> np.ndarray:
        """Logits (n, C) with a patch that reads these columns, or all. rows (n,) int64, ascending : of which
        samples; None: of all."""
        found = copied(self.Z) if rows is None else taken(self.Z, rows)
        for part, T in blocks(self.T, rows):
            own = T if columns is None else np.take(T, columns, axis=1)
            found[part] = patch.applied(found[part], own)
            let_go(found[part])
        return found


class Applicable(Protocol):
    """A patch, or what is applied like one: each sample by itself."""

    def applied(self, Z: np.ndarray, T: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class TableFolder:
    """The folders of files where a table's values and logits lie; None: they lie in memory."""

    of_values: Path | None = None
    of_logits: Path | None = None


def gather(
    subject: Subject,
    view: View,
    neurons: Neurons,
    engine: Engine,
    what: str,
    folder: TableFolder = TableFolder(),
) -> Table:
    """The table of a view's samples and the chosen neurons, (N, K) float32, from one pass.

    what : the pass's name in progress and report. folder : where the values lie. A neuron that is NaN or
    infinite on any sample becomes 0 on all. Raises OutputError where the disk is full.
    """
    kind = np.float64 if subject.dtype == "float64" else np.float32
    T = new_array((len(view), len(neurons)), np.float32, folder.of_values)
    Z = new_array((len(view), subject.classes), kind, folder.of_logits)
    work, at = partial(_values, neurons=neurons if len(neurons) else None), 0
    made = f"values {digest_of_neurons(neurons)}"
    shards = kept_by_shards(work, subject, view, engine, what, made) if len(view) else ()
    for T_part, Z_part in shards:
        part = slice(at, at + len(Z_part))
        T[part], Z[part] = T_part, Z_part
        let_go(T[part])
        let_go(Z[part])
        at = part.stop
    # Infinite or NaN values would spoil every weight.
    finite = np.ones(T.shape[1], bool)
    for _, block in blocks(T):
        finite &= np.isfinite(block).all(axis=0)
    for _, block in () if finite.all() else blocks(T):
        block[:, ~finite] = 0
    table = Table(T, Z, view.labels, device=engine.learning_device)
    if not subject.sizes or subject.detector is not None:
        return table
    return replace(table, context=_context(neurons), places=_places(neurons))


def _context(neurons: Neurons) -> np.ndarray | None:
    """Which neurons are the same at all positions of a sample, (k,) int64; None where none is."""
    same = np.array([tap.pool not in (*AT_POSITIONS, PLACE) for tap in neurons.taps], bool)[neurons.tap_of]
    return np.flatnonzero(same) if same.any() else None


def _places(neurons: Neurons) -> tuple[Places, ...]:
    """The axes whose places are among the neurons."""
    pools = np.array([tap.pool for tap in neurons.taps])[neurons.tap_of]
    sizes = [neurons.taps[t].shape for t in neurons.tap_of.tolist()]
    own = np.flatnonzero(pools == "aligned")
    columns = np.flatnonzero(pools == PLACE).tolist()
    return tuple(Places(column, sizes[column][1 + int(neurons.index[column])], own) for column in columns)


def _values(
    subject: Subject, view: View, engine: Engine, what: str, neurons: Neurons | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """T and Z of each shard of a view."""
    for shard in captured_shards(subject, view, engine, what, neurons=neurons):
        parts = [(got.V[0].copy() if got.V else np.empty((len(got.Z), 0)), got.Z.copy()) for got in shard]
        T, Z = joined(parts)
        yield T, Z


def stacked(tables: Sequence[Table]) -> Table:
    """The samples of several tables, end to end; groups are numbered alike in all of them."""

    def joined(each: Iterable[np.ndarray | None]) -> np.ndarray | None:
        known = [one for one in each if one is not None]
        return end_to_end(known) if known else None

    return Table(
        end_to_end([t.T for t in tables]),
        end_to_end([t.Z for t in tables]),
        np.concatenate([t.labels for t in tables]),
        joined(t.groups for t in tables),
        joined(t.slices for t in tables),
        None if all(t.weight is None for t in tables) else joined(_weights(t) for t in tables),
        joined(t.shares for t in tables),
        joined(t.kept for t in tables),
        context=tables[0].context,
        places=tables[0].places,
        device=tables[0].device,
    )


def _weights(table: Table) -> np.ndarray:
    return np.ones(len(table.labels)) if table.weight is None else table.weight


def most_neurons(samples: int, engine: Engine) -> int:
    """How many neurons of this many samples fit into the memory allowed; tables of more lie in files."""
    room = table_room(engine.settings.memory, engine.reserved_bytes)
    return int(room // (4 * _COPIES * max(samples, 1)))


def all_neurons(taps: Sequence[Tap]) -> Neurons:
    """Every neuron of some taps, end to end."""
    sizes = [tap.neurons for tap in taps]
    tap_of = np.repeat(np.arange(len(taps), dtype=np.int32), np.array(sizes, np.int64))
    index = np.concatenate([np.empty(0, np.int64), *(np.arange(size) for size in sizes)]).astype(np.int64)
    return Neurons(tuple(taps), tap_of, index)


def take(neurons: Neurons, chosen: np.ndarray) -> Neurons:
    """Some of them, in the given order; taps of which none is left are dropped. chosen (k,) int."""
    used = np.unique(neurons.tap_of[chosen])
    tap_of = np.searchsorted(used, neurons.tap_of[chosen]).astype(np.int32)
    return Neurons(tuple(neurons.taps[t] for t in used), tap_of, neurons.index[chosen])


def union(groups: dict[str, Neurons]) -> tuple[Neurons, dict[str, np.ndarray]]:
    """All neurons of some groups, each once, and the columns of each group."""
    place: dict[tuple, int] = {}
    taps: dict = {}
    columns = {}
    for name, group in groups.items():
        number = [taps.setdefault(tap, len(taps)) for tap in group.taps]
        keys = [(number[t], int(i)) for t, i in zip(group.tap_of, group.index, strict=True)]
        columns[name] = np.array([place.setdefault(key, len(place)) for key in keys], np.int64)
    tap_of = np.array([t for t, _ in place], np.int32)
    index = np.array([i for _, i in place], np.int64)
    return Neurons(tuple(taps), tap_of, index), columns
