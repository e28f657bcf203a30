"""Which neurons does a table hold? All watched neurons, or the best of them by screening."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from onnxtweak.engine.kept.kept_results import SavedSteps
from onnxtweak.engine.passes import Folding
from onnxtweak.engine.scoring.sweep import taps_of
from onnxtweak.engine.shared.logits import logits_pass
from onnxtweak.engine.subject import contexts, front_of
from onnxtweak.method.fit.positions.context import CONTEXT
from onnxtweak.method.selection.numbering import numbered, numbers_of
from onnxtweak.method.selection.screening import (
    Screening,
    ScreeningSums,
    add_promising,
    best,
    nothing_promising,
    screen_blocks,
    screen_pass,
)
from onnxtweak.method.solvers.design import design
from onnxtweak.method.solvers.logistic import logistic
from onnxtweak.method.solvers.multinomial import multinomial
from onnxtweak.method.table import all_neurons, take
from onnxtweak.model.edit.positions.place_nodes import PLACES_FROM
from onnxtweak.model.inspect.layer_inputs import penultimate_name
from onnxtweak.settings import TapSettings
from onnxtweak.stages.gather import kept_results
from onnxtweak.stages.open_job import Job
from onnxtweak.types import PLACE, Neurons, Tap


@dataclass(frozen=True)
class TableNeurons:
    """The neurons that the tables hold, and the families of them that are tried.

    families : columns of the tables by name; at positions, none has the context, which is tried beside them.
    scored : how many neurons they were chosen from. inputs : how many of the last are numbers of the model's
    input, which no family has.
    """

    neurons: Neurons
    families: dict[str, np.ndarray]
    scored: int
    inputs: int = 0

    @property
    def picked(self) -> bool:
        """Whether they were chosen, by the labels of the fit split, from at least twice as many."""
        return self.scored >= 2 * len(self.neurons) > 0


def choose_neurons(job: Job, taps: TapSettings, limit: int) -> TableNeurons:
    """The neurons of the table: all of the watched taps where they fit, else the best by screening.

    None where the model has no hidden tensor: then there is no family either.
    """
    if not job.taps:
        return TableNeurons(all_neurons(()), {}, 0)
    first, *more = tap_groups(job, taps)
    neurons, scored = _at_most(job, first.taps, limit)
    families, united = {first.name: np.arange(len(neurons))}, neurons
    for group in more:
        free = limit - len(neurons)
        if free <= 0:
            break
        added, extra = _at_most(job, group.taps, free)
        columns = len(united) + np.arange(len(added))
        if group.name != CONTEXT:
            families[f"{first.name} and {group.name}"] = np.append(np.arange(len(neurons)), columns)
        united, scored = end_to_end(united, added), scored + extra
    return TableNeurons(end_to_end(united, all_places(job, taps)), families, scored)


@dataclass(frozen=True)
class TapGroup:
    """Taps that a family of neurons is taken from. name : of it, in words."""

    name: str
    taps: tuple[Tap, ...]


def tap_groups(job: Job, taps: TapSettings) -> tuple[TapGroup, ...]:
    """The taps that the table is filled from, and those that are added to them where there is room.

    Where none are named: all maps as channel means, then their other statistics, and positions of the
    penultimate tensor. Where there are scores at positions: channels there, then those of the front, then the
    means of all of these over the sample.
    """
    if job.subject.sizes:
        return _at_positions(job, taps)
    if taps.taps:
        return (TapGroup("watched neurons", job.taps),)
    if taps.pool != ("none",):
        return (
            TapGroup(_in_words(job.taps), job.taps),
        )  # the penultimate map, pooled as well, is among them
    maps = [tap for tap in job.taps if len(tap.shape) > 1]
    means = tuple(replace(tap, pool="mean") if len(tap.shape) > 1 else tap for tap in job.taps)
    others = tuple(
        replace(tap, pool=pool)
        for pool in ("std", "max", *(("grid2",) if _sizes_are_fixed(job) else ()))
        for tap in maps
        if tap.positions > 1
    )
    last = penultimate_name(job.opened.model.graph, job.subject.logits)
    positions = tuple(tap for tap in maps if tap.name == last and tap.positions > 1)
    groups = (
        TapGroup(_in_words(means), means),
        TapGroup("other statistics", others),
        TapGroup("penultimate positions", positions),
    )
    return (groups[0], *(group for group in groups[1:] if group.taps))


def _at_positions(job: Job, taps: TapSettings) -> tuple[TapGroup, ...]:
    """The groups where there are scores at positions."""
    if taps.taps or taps.pool != ("none",):  # the user has chosen
        return (TapGroup("channels at each position" if "none" in taps.pool else CONTEXT, job.taps),)
    front = front_of(job.opened)
    channels = tuple(tap for tap in job.taps if tap.name not in front)
    first = TapGroup("channels at each position", channels or job.taps)
    read = tuple(tap for tap in job.taps if tap.name in front) if channels else ()
    means = contexts(job.taps) if job.subject.detector is None else ()
    more = (TapGroup("what the first layers read", read), TapGroup(CONTEXT, means))
    return (first, *(group for group in more if group.taps))


def all_places(job: Job, taps: TapSettings) -> Neurons:
    """Where a row is on axes of positions of a fixed size, at which `fit` tries weights of their own.

    None where the user has chosen what to read, and where listed samples get a patch on top.
    """
    data, subject = job.origin.data, job.subject
    chosen = taps.taps or taps.pool != ("none",) or data.must or data.lock
    if not subject.sizes or subject.detector is not None or chosen:
        return all_neurons(())
    axes = np.flatnonzero(_fixed_axes(job)) if job.opened.model.graph.opset >= PLACES_FROM else ()
    tap = Tap(subject.logits, "", (len(subject.sizes), *subject.sizes), pool=PLACE)
    return take(all_neurons((tap,)), np.array(axes, np.int64))


def _fixed_axes(job: Job) -> list[bool]:
    """Of each axis of positions, whether it has as many in every sample, and not too many."""
    shape, layout = job.opened.logits.shape, job.subject.layout
    declared = [None] * len(layout) if shape is None or len(shape) != len(layout) else list(shape)
    of_graph = [size for size, letter in zip(declared, layout, strict=True) if letter == "P"]
    fixed = _sizes_are_fixed(job)
    return [
        (fixed or isinstance(of_axis, int)) and 1 < size <= _MOST_PLACES
        for of_axis, size in zip(of_graph, job.subject.sizes, strict=True)
    ]


def _sizes_are_fixed(job: Job) -> bool:
    """Whether samples of another size are impossible: the quarters of an image depend on its size."""
    return all(None not in (spec.shape or (None,))[1:] for spec in job.opened.specs)


_MOST_PLACES = 512  # of an axis of positions
_WORDS = {
    "mean": "channel means",
    "std": "deviations",
    "max": "maxima",
    "grid2": "means of quarters",
    "none": "hidden units",
}


def _in_words(taps: Sequence[Tap]) -> str:
    """What the neurons of some taps are: statistics of channels, units of layers, or some of both."""
    pools = {tap.pool for tap in taps}
    words = [word for pool, word in _WORDS.items() if pool in pools]
    if "mean" not in pools and pools - {"none"}:
        words[0] = f"channel {words[0]}"
    return " and ".join((", ".join(words[:-1]), words[-1]) if len(words) > 1 else words)


def end_to_end(one: Neurons, other: Neurons) -> Neurons:
    """The neurons of both; they share no tap."""
    return Neurons(
        (*one.taps, *other.taps),
        np.concatenate([one.tap_of, other.tap_of + np.int32(len(one.taps))]),
        np.concatenate([one.index, other.index]),
    )


def _at_most(job: Job, taps: Sequence[Tap], limit: int) -> tuple[Neurons, int]:
    """All neurons of the taps, or the `limit` best by screening; and how many there are."""
    total = sum(tap.neurons for tap in taps)
    if total <= limit:
        return all_neurons(taps), total
    if job.subject.detector is not None:  # nearest to its scores
        return take(all_neurons(taps), np.arange(total - limit, total)), total
    facts = {"samples": job.splits.digest, "taps": [asdict(tap) for tap in taps], "limit": limit}
    made = kept_results(job, "choose", **facts)("screened", lambda: {"number": _screened(job, taps, limit)})
    return numbered(taps, made["number"]), total


def _screened(job: Job, taps: Sequence[Tap], limit: int) -> np.ndarray:
    """Numbers (limit,) int64, through all taps, of the best neurons by screening."""
    view, total = job.splits.fit, sum(tap.neurons for tap in taps)
    Z = logits_pass(job.subject, view, job.engine, "base")
    present, bias, no_neurons = view.classes, np.zeros(Z.shape[1]), np.empty((len(Z), 0), np.float32)
    if job.head.several:
        bias = logistic(design(no_neurons), Z, view.labels, 0.0).bias
    else:
        bias[present] = multinomial(no_neurons, Z, view.labels, ridge=0.0, free=present).bias
    found = nothing_promising(len(present))
    for block in screen_blocks(taps, len(present), job.engine.settings, job.engine.reserved_bytes):
        read = taps_of(block)
        others = Folding(other_values=total - sum(tap.neurons for tap in read))
        work, so_far = Screening(block, bias, present, others), None
        if job.engine.settings.work_dir is not None:
            so_far = SavedSums(job, work)
        sums = screen_pass(work, job.subject, view, job.engine, so_far)
        found = add_promising(found, sums, block, limit)
        del sums  # frees its memory for the next block
    return numbers_of(best(found, taps, limit))


class SavedSums:
    """The sums of one block of neurons in the work directory, after so many samples."""

    def __init__(self, job: Job, work: Screening) -> None:
        cuts = [(asdict(part.tap), part.start, part.stop) for part in work.block]
        key = job.cache_key(samples=job.splits.digest, cuts=cuts, bias=work.bias.tolist())
        settings = job.engine.settings
        file = Path(settings.work_dir or "") / f"screen-{key}-{settings.shard}.npz"
        self._steps = SavedSteps(file, settings, "sums of screening", job.engine.progress)

    def known(self) -> tuple[int, ScreeningSums] | None:
        """As `SumsSoFar` has it."""
        found = self._steps.known()
        if found is None:
            return None
        return int(found.pop("samples")), ScreeningSums(**found)

    def add(self, samples: int, sums: ScreeningSums) -> None:
        """Save them, unless they were saved just before. Raises OutputError."""
        self._steps.add({"samples": np.array(samples), **vars(sums)})
