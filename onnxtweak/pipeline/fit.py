"""Fit, the whole story: tables gathered, all classes fitted jointly, the surplus spent, spliced, proven."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from onnxtweak.engine.passes import capture, logits_pass
from onnxtweak.engine.scoring import taps_of
from onnxtweak.errors import ModelError
from onnxtweak.method.certify import certify, scaled
from onnxtweak.method.compare import patched
from onnxtweak.method.fit import Fitted, fit_all
from onnxtweak.method.fit_mlp import lifted
from onnxtweak.method.fit_small import Budget
from onnxtweak.method.screen import add_promising, best, nothing_promising, screen, screen_blocks
from onnxtweak.method.solve import multinomial
from onnxtweak.method.table import Table, all_neurons, most_neurons, stacked, take
from onnxtweak.method.targets import every_class
from onnxtweak.model.graph import GraphIndex
from onnxtweak.model.taps import penultimate_name
from onnxtweak.pipeline.collected import collected
from onnxtweak.pipeline.deliver import Made, check_outputs, deliver
from onnxtweak.pipeline.job import Job, prepare
from onnxtweak.pipeline.join import choose_targets, seen_in_training
from onnxtweak.settings import (
    DataSettings,
    EngineSettings,
    FitSettings,
    OutputSettings,
    TapSettings,
    TargetSettings,
)
from onnxtweak.types import Linear, Mlp, Neurons, Patch, Progress, Result, Synapses, Tap, silent


@dataclass(frozen=True)
class Watched:
    """Neurons that the tables hold, and the families of them that are tried. scored : how many there were.

    families : name to columns of the tables. picked : whether they were chosen, by the labels of the fit
    split, from at least twice as many.
    """

    neurons: Neurons
    families: dict[str, np.ndarray]
    scored: int

    @property
    def picked(self) -> bool:
        return self.scored >= 2 * len(self.neurons)


def fit(
    *,
    model: str,
    data: DataSettings,
    engine: EngineSettings = EngineSettings(),
    taps: TapSettings = TapSettings(taps=()),
    targets: TargetSettings = TargetSettings(),
    fit: FitSettings = FitSettings(),
    output: OutputSettings = OutputSettings(),
    progress: Progress = silent,
) -> Result:
    """The best patch that the tables allow for the target classes (METHOD 7); without any, for all classes.

    taps : without selectors the channel means of all activations and the penultimate tensor are watched.
    Raises InputError for what cannot be used, VerificationError when a proof fails; nothing is written then.
    """
    begin = time.perf_counter()
    job = open_for_tables(model, data, engine, taps, progress)
    check_outputs(job, output)
    chosen = (
        every_class(job.splits.fit.labels, job.splits.validation.labels)
        if targets == TargetSettings()
        else choose_targets(job, targets)
    )
    watched = choose_neurons(job, taps, fit.neurons)
    tables = gather_tables(job, watched.neurons)
    table, judged, notes = learnt_from(
        job, tables, picked=watched.picked, keep_validation=fit.certify is not None
    )
    limited = fit.budget is not None or fit.synapses is not None
    since = time.perf_counter()
    found = fit_all(
        table,
        watched.families,
        chosen,
        judged=judged,
        overall_drop=fit.max_overall_drop,
        margin=fit.margin,
        class_drop=fit.max_class_drop,
        budget=Budget(fit.budget, fit.synapses) if limited else None,
        folds=fit.folds,
        hidden=fit.hidden,
        seed=data.seed,
        progress=progress,
    )
    job.engine.ledger.seconds["fit"] = time.perf_counter() - since
    validation = tables[1]
    columns, patch = patch_of(found, chosen, job.subject.classes)
    if fit.certify is not None and patch is not None:
        patch, said = _certified(validation, columns, patch, fit.certify)
        notes += said
    neurons = take(watched.neurons, columns)
    if patch is None:
        neurons = take(neurons, np.empty(0, np.int64))
    made = Made(
        command="fit",
        targets=chosen,
        neurons=neurons,
        patch=nothing() if patch is None else patch,
        base=validation.Z,
        tweaked=validation.Z if patch is None else patched(validation, columns, patch),
        bias=found.control,
        settings={"seed": data.seed, **asdict(fit)},
        n=(len(neurons),) * len(chosen),
        scale=_scales(neurons, patch, chosen),
        theta="none",
        criterion="held-out log-loss",
        scored=watched.scored,
        curve=found.spent.trials,
        notes=(
            *job.splits.notes,
            *notes,
            *found.notes,
            *_biases(job, found, chosen),
        ),
    )
    return deliver(job, made, output, begin)


def open_for_tables(
    model: str, data: DataSettings, engine: EngineSettings, taps: TapSettings, progress: Progress
) -> Job:
    """`prepare`, where no selector means the activations and, if there is one, the penultimate tensor."""
    if taps.taps:
        return prepare(model, data, engine, taps, progress)
    for selectors in (("activations", "penultimate"), ("activations",), ("penultimate",)):
        try:
            return prepare(model, data, engine, replace(taps, taps=selectors), progress)
        except ModelError as error:
            if "--taps" not in error.where:
                raise
            refused = error
    raise refused


def choose_neurons(job: Job, taps: TapSettings, limit: int) -> Watched:
    """The neurons of the table: all of the watched taps where they fit, else the best by screening."""
    rows = len(job.splits.fit) + len(job.splits.validation)
    limit = min(limit, most_neurons(rows, job.engine))
    first, maps = groups_of(job, taps)
    neurons, scored = _at_most(job, first, limit)
    families = {"watched neurons" if taps.taps else "channel means": np.arange(len(neurons))}
    if maps and len(neurons) < limit:
        more, extra = _at_most(job, maps, limit - len(neurons))
        united = Neurons(
            (*neurons.taps, *more.taps),
            np.concatenate([neurons.tap_of, more.tap_of + np.int32(len(neurons.taps))]),
            np.concatenate([neurons.index, more.index]),
        )
        families["channel means and penultimate positions"] = np.arange(len(united))
        return Watched(united, families, scored + extra)
    return Watched(neurons, families, scored)


def groups_of(job: Job, taps: TapSettings) -> tuple[tuple[Tap, ...], tuple[Tap, ...]]:
    """The taps that the table is filled from, and those that only join where there is still room."""
    if taps.taps:
        return job.taps, ()
    last = penultimate_name(GraphIndex(job.opened.model.proto), job.subject.logits)
    pooled = (replace(t, pool=_pooling(taps)) if len(t.shape) > 1 else t for t in job.taps)
    vectors = {tap.name for tap in job.taps if len(tap.shape) == 1}
    return tuple(pooled), tuple(tap for tap in job.taps if tap.name == last and last not in vectors)


def gather_tables(job: Job, neurons: Neurons) -> tuple[Table, Table]:
    """Tables of fit and validation."""
    return (
        collected(job, job.splits.fit, neurons, "collect"),
        collected(job, job.splits.validation, neurons, "validate"),
    )


def learnt_from(
    job: Job, tables: tuple[Table, Table], *, picked: bool = False, keep_validation: bool = False
) -> tuple[Table, np.ndarray, tuple[str, ...]]:
    """The samples that weights are fitted to, which of them choices are judged on, and notes.

    Validation is fitted to as well, unless results are reported on it for want of a test split, or a
    certificate needs it. Fit samples that the base has memorised, or that picked the neurons, are fitted to
    but not judged on.
    """
    fit = tables[0]
    right = [t.Z.argmax(axis=1) == t.labels for t in tables]
    said = seen_in_training(*right)
    told = (f"{said}; samples held out from training give better patches",) if said else ()
    if job.splits.test is None or keep_validation:
        return fit, np.ones(len(fit.labels), bool), told
    table = stacked(tables)
    memorised = right[0].mean() > right[1].mean() and bool(said)
    if not memorised and not picked:
        return table, np.ones(len(table.labels), bool), told
    why = said if memorised else "the neurons were chosen by the fit samples"
    judged = np.arange(len(table.labels)) >= len(fit.labels)
    return table, judged, (f"{why}, so choices are judged on validation alone",)


def patch_of(found: Fitted, targets: np.ndarray, classes: int) -> tuple[np.ndarray, Linear | Mlp | None]:
    """Columns of the table that the answer reads, and its patch; None for the base.

    Neurons without weight are left out.
    """
    none = np.empty(0, np.int64)
    bias = np.zeros(classes)
    bias[targets] = found.bias
    if found.kind == "base":
        return none, None
    if found.kind == "bias":
        return none, Linear(np.zeros((0, classes)), bias)
    patch = found.candidate.patch
    first = patch.weight if isinstance(patch, Linear) else patch.w1
    used = np.flatnonzero(first.any(axis=1))
    fewer = replace(patch, **{"weight" if isinstance(patch, Linear) else "w1": first[used]})
    return found.candidate.columns[used], lifted(fewer, bias)


def nothing() -> Synapses:
    """The patch that changes nothing."""
    none, numbers = np.empty(0), np.empty(0, np.int64)
    return Synapses(target=numbers, weight=none, threshold=none, count=numbers)


def _certified(
    validation: Table, columns: np.ndarray, patch: Linear | Mlp, level: float
) -> tuple[Linear | Mlp | None, tuple[str, ...]]:
    """The patch at the largest scale that keeps the expected harm below the level; None for scale 0."""
    found = certify(validation.Z, patched(validation, columns, patch), validation.labels, level)
    said = (
        f"certified: at scale {found.scale:.3g} at most {level:.2%} of samples like these are expected to"
        f" become wrong that the base has right (conformal risk control on {found.samples:,} validation"
        f" samples that nothing was fitted to, {found.broken:,} of them broken)"
    )
    if found.scale == 0:
        return None, (
            f"{found.samples:,} validation samples cannot certify {level:.2%}: the answer is the base",
        )
    return scaled(patch, found.scale), (said,)


def _scales(neurons: Neurons, patch: Patch | None, targets: np.ndarray) -> tuple[float, ...]:
    """1 for a patch that reads neurons; the biases of one that does not; 0 for the base."""
    if patch is None:
        return (0.0,) * len(targets)
    return (1.0,) * len(targets) if len(neurons) else tuple(float(b) for b in patch.bias[targets])


def _at_most(job: Job, taps: Sequence[Tap], limit: int) -> tuple[Neurons, int]:
    """All neurons of the taps, or the `limit` best by screening; and how many there are."""
    there = sum(tap.neurons for tap in taps)
    if there <= limit:
        return all_neurons(taps), there
    view = job.splits.fit
    Z = logits_pass(job.subject, view, job.engine, "base")
    present = np.unique(view.labels)
    bias = np.zeros(Z.shape[1])
    none = np.empty((len(Z), 0), np.float32)
    bias[present] = multinomial(none, Z, view.labels, ridge=0.0, free=present).bias
    found = nothing_promising(len(present))
    for block in screen_blocks(taps, len(present), job.engine.settings, job.engine.taken):
        some = taps_of(block)
        beside = there - sum(tap.neurons for tap in some)
        batches = capture(job.subject, view, job.engine, "screen", some, beside=beside)
        sums = screen(batches, block, bias, present)
        found = add_promising(found, sums, block, limit)
        del sums  # its memory is the next block's
    return best(found, taps, limit), there


def _pooling(taps: TapSettings) -> str:
    return taps.pool if taps.pool != "none" else "mean"


def _biases(job: Job, found: Fitted, targets: np.ndarray) -> tuple[str, ...]:
    if not found.bias.any():
        return ()
    each = ", ".join(f"{job.names[j]} {b:+.3g}" for j, b in zip(targets, found.bias, strict=True))
    return (f"biases that spend the surplus: {each}" if found.kind == "fit" else f"biases: {each}",)
