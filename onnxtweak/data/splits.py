"""How are samples split into fit, validation and test? Groups are never torn apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from itertools import combinations

import numpy as np

from onnxtweak.data.dataset import Batch, Dataset
from onnxtweak.data.groups import Groups, in_common, require_shared
from onnxtweak.data.labels import known_names
from onnxtweak.data.listed import all_sources, beside_listed, listed_once, overlaps, rows_by_role, stand_in
from onnxtweak.data.open_data import Lists, read_sources
from onnxtweak.data.samples import InputSpec, MarkedAt, Reading
from onnxtweak.data.stratified import Thinned, drawn_marks, drawn_rows, labels_of_samples, stratified_split
from onnxtweak.errors import DataError, UsageError
from onnxtweak.in_memory import SampleSource
from onnxtweak.settings import LISTED, DataSettings, GiB
from onnxtweak.types import Progress, silent

_NONE_LISTED = Lists()


@dataclass(frozen=True, eq=False)
class View:
    """Some samples of a dataset, or some positions of some samples.

    rows (n,) int64 : ascending; position p of sample s, of P, is s * P + p. thinned : how some were drawn.
    """

    dataset: Dataset
    rows: np.ndarray
    thinned: Thinned | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> np.ndarray:
        """(len(self),) int64; or (len(self), C) int8, marks of several labels at once."""
        return self.dataset.labels_of(self.rows)

    @property
    def classes(self) -> np.ndarray:
        """The classes that occur among the labels, ascending int64."""
        return self.dataset.classes_of(self.rows)

    @property
    def samples(self) -> np.ndarray:
        """The samples that the rows are of, each once, ascending int64."""
        return np.unique(self.rows // self.dataset.positions) if self.dataset.sizes else self.rows

    @property
    def digest(self) -> str:
        """sha256 in hex over the dataset and which of its rows these are."""
        return sha256(self.dataset.digest.encode() + self.rows.astype("<i8").tobytes()).hexdigest()

    def groups(self, column: str | None) -> np.ndarray | None:
        """(len(self),) int64: codes of the groups of a column that was read; None for None.

        Positions of one sample belong together without any.
        """
        of_samples = self.rows // self.dataset.positions
        if column is None:
            return of_samples if self.dataset.sizes else None
        return self.dataset.groups[column].of(of_samples)

    def rows_by(self, column: str) -> Groups:
        """The groups of these rows, by a column that was read."""
        of_samples = self.rows // self.dataset.positions
        return Groups(self.dataset.groups[column].of(of_samples), self.dataset.groups[column].names)

    def spread_out(self, wanted: int) -> View:
        """At most so many of these samples, evenly from all of them."""
        if wanted >= len(self):
            return self
        places = np.unique(np.linspace(0, max(len(self) - 1, 0), wanted).astype(np.int64))
        return replace(self, rows=self.rows[places])

    def batches(self, size: int) -> Iterator[Batch]:
        """One pass over these samples, as `Dataset.batches`."""
        return self.dataset.batches(self.rows, size)


@dataclass(frozen=True, eq=False)
class Splits:
    """The three splits. test : None when there is none; results are then reported on validation.

    listed : samples that are in no split, by role (`onnxtweak.data.listed`).
    """

    fit: View
    validation: View
    test: View | None
    classes: tuple[str, ...] | None
    notes: tuple[str, ...] = ()
    listed: Mapping[str, View] = field(default_factory=dict)

    @property
    def views(self) -> tuple[View, ...]:
        """All there are, the splits first."""
        splits = (view for view in (self.fit, self.validation, self.test) if view is not None)
        return (*splits, *self.listed.values())

    def with_views(self, change: Callable[[View], View]) -> Splits:
        """The same with every view changed."""
        return replace(
            self,
            fit=change(self.fit),
            validation=change(self.validation),
            test=None if self.test is None else change(self.test),
            listed={role: change(view) for role, view in self.listed.items()},
        )

    @cached_property
    def digest(self) -> str:
        """sha256 in hex over the datasets, their groups, and which rows belong to which split."""
        digest = sha256()
        for view in (self.fit, self.validation, self.test, *self.listed.values()):
            if view is None:
                digest.update(b"none")
                continue
            digest.update(view.dataset.digest.encode() + view.rows.astype("<i8").tobytes())
            for column, groups in view.dataset.groups.items():
                digest.update("\0".join((column, *groups.names)).encode("utf-8", "surrogatepass"))
                digest.update(view.rows_by(column).codes.astype("<i8").tobytes())
        return digest.hexdigest()


def open_splits(
    settings: DataSettings,
    inputs: Sequence[InputSpec],
    memory: int = 4 * GiB,
    progress: Progress = silent,
    *,
    several: bool | MarkedAt = False,
) -> Splits:
    """Open the given splits, and take the missing ones from `data`.

    Neither validation nor test given: `data` is split 60 / 20 / 20. Only test given: 75 / 25. Only validation
    given: all of `data` is fit, and there is no test. The class names of `data` apply to the others. Samples
    of one group stay together. memory : bytes that all datasets together may use. progress : as of
    `open_data`. several : as of `Reading`. Of positions some are drawn, as many of each sample. Listed
    samples are in no split; where there are no others, some stand in for them.
    Raises DataError where fit or validation has a single class, and for a group that lies in two sources;
    UsageError without samples to learn from.
    """
    if not settings.data and not settings.must:
        hint = "give labelled samples with -d DATA, or samples that have to become right with --must"
        raise UsageError("no samples to learn from", hint=hint)
    names = known_names(settings.names)
    given = [sources for sources in (settings.data, settings.val, settings.test) if sources]
    share = memory // max(len(given), 1)

    def opened(
        sources: Sequence[SampleSource], names: Sequence[str] | Dataset | None, lists: Lists = _NONE_LISTED
    ) -> Dataset:
        reading = _reading(settings, share, progress, several)
        return read_sources(sources, inputs, reading, names, lists)

    data = opened(all_sources(settings), names, _lists(settings))
    every = rows_by_role(settings, data)
    rows, said = listed_once(data, every)
    listed = _listed(settings, data, every, rows)
    if not settings.data:
        alone = with_positions(View(data, stand_in(rows)), FIT, settings.seed)
        return Splits(alone, alone, None, data.classes, (*data.notes, *said), listed)
    own = rows["data"]
    if not len(own):
        hint = "give other samples with -d, or leave it out"
        raise DataError(
            "all samples of the data are listed too", where=", ".join(map(str, settings.data)), hint=hint
        )
    # What the numbers of one source mean, those of the others do.
    sources = {"--val": settings.val, "--test": settings.test}
    others = {role: opened(source, data) for role, source in sources.items() if source}
    data, *rest = _numbered_alike([data, *others.values()])
    others = dict(zip(others, rest, strict=True))
    listed = {role: View(data, view.rows) for role, view in listed.items()}
    if settings.group is not None:
        _require_apart({"--data": data, **others}, settings.group)
    validation, test = (
        View(others[role], np.arange(len(others[role]))) if role in others else None
        for role in ("--val", "--test")
    )
    if validation is not None:
        fit = View(data, own)
    else:
        fractions = (0.75, 0.25) if test is not None else (0.6, 0.2, 0.2)
        groups = None if settings.group is None else data.groups[settings.group].codes[own]
        split = stratified_split(labels_of_samples(data)[own], fractions, settings.seed, groups)
        fit, validation = View(data, own[split[0]]), View(data, own[split[1]])
        test = View(data, own[split[2]]) if test is None else test
    if test is not None and test.dataset is not data and listed:
        test = replace(test, rows=beside_listed(test.dataset, test.rows, data, every))
    fit = with_positions(fit, FIT, settings.seed, rare=True)
    validation = with_positions(validation, VALIDATION, settings.seed)
    test = None if test is None else with_positions(test, TEST, settings.seed)
    _check_classes("fit", fit)
    _check_classes("validation", validation)
    shared = overlaps(data, validation.dataset, None if test is None else test.dataset)
    notes = (*data.notes, *said, *shared, *on_positions(fit, validation, test))
    if settings.group is not None:
        notes += _on_groups(settings.group, (fit, validation, test))
    return Splits(fit, validation, test, data.classes, notes, listed)


def unsplit(
    settings: DataSettings,
    inputs: Sequence[InputSpec],
    memory: int,
    progress: Progress,
    *,
    several: bool | MarkedAt = False,
) -> Splits:
    """All samples of `data` as fit, and as validation; listed ones where there are no others.

    memory, progress : as of `open_data`. several : as of `Reading`.
    """
    names = known_names(settings.names)
    reading, lists = _reading(settings, memory, progress, several), _lists(settings)
    dataset = read_sources(all_sources(settings), inputs, reading, names, lists)
    rows = rows_by_role(settings, dataset)
    own = rows["data"] if settings.data else stand_in(rows)
    view = with_positions(View(dataset, own), WHOLE, settings.seed)
    return Splits(view, view, None, dataset.classes, listed=_listed(settings, dataset, rows, rows))


def _reading(settings: DataSettings, memory: int, progress: Progress, several: bool | MarkedAt) -> Reading:
    found = Reading(settings.preprocess, memory, progress, settings.columns, settings.unlabelled, several)
    found = replace(found, lines=settings.alphabet is not None, boxes=settings.boxes)
    return replace(found, head=settings.head, ignored=settings.ignore_index, counted=settings.counted)


def _lists(settings: DataSettings) -> Lists:
    return Lists(sum(len(settings.sources(role)) for role in LISTED), len(settings.sources("keep")))


def _listed(
    settings: DataSettings,
    dataset: Dataset,
    given: Mapping[str, np.ndarray],
    counted: Mapping[str, np.ndarray],
) -> dict[str, View]:
    """The listed samples by role, or their positions. Raises DataError for a list that is empty.

    given, counted : rows by role, all and those that no other role has.
    """
    for role in LISTED:
        if settings.sources(role) and not len(given[role]):
            where = ", ".join(map(str, settings.sources(role)))
            raise DataError("no samples", where=f"{role}: {where}", hint="list at least one sample")
    views = {role: View(dataset, counted[role]) for role in LISTED if len(counted[role])}
    return {
        role: with_positions(view, KEPT, settings.seed, labelled=role != "keep")
        for role, view in views.items()
    }


def _numbered_alike(datasets: Sequence[Dataset]) -> list[Dataset]:
    """The same datasets, with the same number for the groups of one name."""
    columns = {name: in_common([dataset.groups[name] for dataset in datasets]) for name in datasets[0].groups}
    return [
        replace(dataset, groups={name: each[number] for name, each in columns.items()})
        for number, dataset in enumerate(datasets)
    ]


def _require_apart(datasets: Mapping[str, Dataset], column: str) -> None:
    """Raise DataError where samples hardly form groups, or where a group lies in two sources.

    datasets : by the option that gives them, numbered alike.
    """
    groups = {role: dataset.groups[column] for role, dataset in datasets.items()}
    codes = np.concatenate([each.codes for each in groups.values()])
    codes = codes[codes >= 0]
    require_shared(Groups(codes, groups["--data"].names), column, 1.0, "--group")
    for (role, one), (other, two) in combinations(groups.items(), 2):
        both = np.intersect1d(one.codes, two.codes[two.codes >= 0])
        if len(both):
            raise DataError(
                f"{len(both):,} {'group' if len(both) == 1 else 'groups'} of `{column}`, such as "
                f"`{one.names[both[0]]}`, {'lies' if len(both) == 1 else 'lie'} in both {role} and {other}",
                where="--group",
                hint=f"give all samples with --data, to be split by group; or, if {role} and {other} number "
                "theirs independently, give every group a name of its own",
            )


def _on_groups(column: str, views: Sequence[View | None]) -> tuple[str, ...]:
    """Notes: how many groups each split has, and which classes have too few to be in all of them."""
    roles = dict(zip(("fit", "validation", "test"), views, strict=True))
    there = {role: view for role, view in roles.items() if view is not None}
    counts = [
        f"{len(np.unique(view.dataset.groups[column].of(view.samples))):,} in {role}"
        for role, view in there.items()
    ]
    found = [f"groups by `{column}`: {', '.join(counts)}; none is in two"]
    seen = [set(view.classes.tolist()) for view in there.values()]
    if partly := sorted(set.union(*seen) - set.intersection(*seen)):
        shown = ", ".join(map(str, partly[:8])) + (", ..." if len(partly) > 8 else "")
        found.append(f"classes of so few groups that some split has no sample of them: {shown}")
    return tuple(found)


FIT, VALIDATION, TEST, KEPT, WHOLE = 30_000, 15_000, 500_000, 15_000, 2_000_000  # positions at most


def with_positions(view: View, most: int, seed: int, *, labelled: bool = True, rare: bool = False) -> View:
    """A view of samples as one of their positions, where these have labels; all of `drawn_rows`.

    rare : whether more of the positions with a rare label are drawn, where they may have several.
    """
    data = view.dataset
    if data.sizes and data.several:  # of many labels, fewer positions hold as many decisions
        most = max(min(most, FIT), most // data.labels.shape[1])
    if data.sizes and data.several and rare:
        drawn = drawn_marks(data, view.rows, most, seed)
        return View(data, drawn.rows, drawn)
    rows = drawn_rows(data, view.rows, most, seed, labelled=labelled) if data.sizes else view.rows
    return replace(view, rows=rows)


def on_positions(*views: View | None) -> tuple[str, ...]:
    """A note on how many positions each split has; nothing where a sample has one label."""
    there = [view for view in views if view is not None and view.dataset.sizes]
    if not there:
        return ()
    roles = zip(there, ("fit", "validate", "test"), strict=False)
    said = [f"{len(view):,} positions of {len(view.samples):,} samples to {what}" for view, what in roles]
    alike = all(view.thinned is None for view in there)
    return (f"{', '.join(said)}; drawn" + ", the same number of each sample where there are more" * alike,)


def _check_classes(role: str, view: View) -> None:
    labels, data = view.classes, view.dataset
    plain = not (data.several or data.lines or data.objects or data.by_part.unequal)
    if len(labels) == 1 and data.labelled and plain:
        raise DataError(
            f"all {len(view)} {role} samples are of class {labels[0]}",
            where=view.dataset.parts[0].where,
            hint="give samples of other classes too: a gain in one class is weighed against the others",
        )
