"""Which neurons does a table hold? All watched neurons, or the best of them by screening."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnxtweak.engine.passes import Folding, capture, logits_pass
from onnxtweak.engine.scoring.sweep import taps_of
from onnxtweak.method.selection.screening import add_promising, best, nothing_promising, screen, screen_blocks
from onnxtweak.method.solvers.multinomial import multinomial
from onnxtweak.method.table import all_neurons
from onnxtweak.model.inspect.taps import penultimate_name
from onnxtweak.settings import TapSettings
from onnxtweak.stages.gather import table_limit
from onnxtweak.stages.open_job import Job
from onnxtweak.types import Neurons, Tap


@dataclass(frozen=True)
class TableNeurons:
    """The neurons that the tables hold, and the families of them that are tried.

    families : columns of the tables by name. scored : how many neurons they were chosen from.
    """

    neurons: Neurons
    families: dict[str, np.ndarray]
    scored: int

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
    limit = min(limit, table_limit(job))
    first, maps = tap_groups(job, taps)
    neurons, scored = _at_most(job, first, limit)
    name = "watched neurons" if taps.taps else _in_words(first)
    families = {name: np.arange(len(neurons))}
    if maps and len(neurons) < limit:
        more, extra = _at_most(job, maps, limit - len(neurons))
        united = Neurons(
            (*neurons.taps, *more.taps),
            np.concatenate([neurons.tap_of, more.tap_of + np.int32(len(neurons.taps))]),
            np.concatenate([neurons.index, more.index]),
        )
        families[f"{name} and penultimate positions"] = np.arange(len(united))
        return TableNeurons(united, families, scored + extra)
    return TableNeurons(neurons, families, scored)


def tap_groups(job: Job, taps: TapSettings) -> tuple[tuple[Tap, ...], tuple[Tap, ...]]:
    """The taps that the table is filled from, and those that are added where there is still room."""
    if taps.taps:
        return job.taps, ()
    last = penultimate_name(job.opened.model.graph, job.subject.logits)
    if taps.pool != ("none",):
        return job.taps, ()  # the penultimate map, pooled as well, is among them
    pooled = tuple(replace(tap, pool="mean") if len(tap.shape) > 1 else tap for tap in job.taps)
    return pooled, tuple(tap for tap in job.taps if tap.name == last and len(tap.shape) > 1)


def _in_words(taps: Sequence[Tap]) -> str:
    """What the neurons of some taps are: channels of maps, pooled, units of layers, or some of both."""
    pooled = {"mean": "channel means", "max": "channel maxima", "none": "hidden units"}
    return " and ".join(
        dict.fromkeys(pooled[tap.pool] for tap in sorted(taps, key=lambda t: t.pool == "none"))
    )


def _at_most(job: Job, taps: Sequence[Tap], limit: int) -> tuple[Neurons, int]:
    """All neurons of the taps, or the `limit` best by screening; and how many there are."""
    total = sum(tap.neurons for tap in taps)
    if total <= limit:
        return all_neurons(taps), total
    view = job.splits.fit
    Z = logits_pass(job.subject, view, job.engine, "base")
    present = np.unique(view.labels)
    bias = np.zeros(Z.shape[1])
    no_neurons = np.empty((len(Z), 0), np.float32)
    bias[present] = multinomial(no_neurons, Z, view.labels, ridge=0.0, free=present).bias
    found = nothing_promising(len(present))
    for block in screen_blocks(taps, len(present), job.engine.settings, job.engine.reserved_bytes):
        read = taps_of(block)
        others = Folding(other_values=total - sum(tap.neurons for tap in read))
        batches = capture(job.subject, view, job.engine, "screen", read, folding=others)
        sums = screen(batches, block, bias, present)
        found = add_promising(found, sums, block, limit)
        del sums  # frees its memory for the next block
    return best(found, taps, limit), total
