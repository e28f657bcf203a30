"""Synaptic join, the whole story: score, select, choose n and scale on validation, splice, prove, test."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from onnxtweak.engine.passes import capture, logits_pass
from onnxtweak.method.candidates import Candidates, Theta
from onnxtweak.method.decide import decisions
from onnxtweak.method.join import best_bias, join_synapses, prefix_sums
from onnxtweak.method.operate import Allowed, Operation, choose
from onnxtweak.method.select import Ranking, by_net_gain, candidates_wanted, nobody, rank, united
from onnxtweak.method.targets import find_targets
from onnxtweak.pipeline.collected import collected
from onnxtweak.pipeline.deliver import Made, check_outputs, deliver
from onnxtweak.pipeline.evidence import theta_histogram
from onnxtweak.pipeline.job import Job, prepare
from onnxtweak.pipeline.scored import scored
from onnxtweak.settings import (
    DataSettings,
    EngineSettings,
    JoinSettings,
    OutputSettings,
    TapSettings,
    TargetSettings,
)
from onnxtweak.types import Progress, Result, silent

# Base accuracy on fit samples above validation by more than this: the base has probably seen them (METHOD 9).
_MEMORISED = 0.05
# So many standard errors, too: a few samples differ by chance.
_SURELY = 2.5


def join(
    *,
    model: str,
    data: DataSettings,
    engine: EngineSettings = EngineSettings(),
    taps: TapSettings = TapSettings(),
    targets: TargetSettings,
    join: JoinSettings = JoinSettings(),
    output: OutputSettings = OutputSettings(),
    progress: Progress = silent,
) -> Result:
    """Synaptic join (METHOD 1 to 4) of `model` for the target classes.

    Raises InputError for what cannot be used, VerificationError when a proof fails; nothing is written then.
    """
    begin = time.perf_counter()
    job = prepare(model, data, engine, taps, progress)
    check_outputs(job, output)
    validation = job.splits.validation
    chosen = choose_targets(job, targets)
    found = scored(job, chosen, join.theta, candidates_wanted(join))
    rankings = rankings_of(job, found.best, chosen, join)
    Z, prefix = _validation_tables(job, rankings, join)
    table = decisions(Z, validation.labels, chosen)
    allowed = Allowed(join.max_overall_drop, join.max_class_drop)
    scales = None if join.exact_scale else tuple(join.scale)
    operation = choose(table, prefix, tuple(join.count), scales, allowed)
    neurons, synapses = join_synapses(rankings, chosen, operation)
    made = Made(
        command="join",
        targets=chosen,
        neurons=neurons,
        patch=synapses,
        base=Z,
        tweaked=_with_boost(Z, prefix, operation, join, chosen),
        bias=best_bias(table, allowed),
        settings={
            "theta": join.theta,
            "criterion": join.criterion,
            "max_overall_drop": join.max_overall_drop,
            "seed": data.seed,
        },
        n=tuple(int(n) for n in operation.n),
        scale=tuple(float(s) for s in operation.scale),
        theta=join.theta,
        criterion="/".join(dict.fromkeys(r.criterion for r in rankings)),
        scored=sum(tap.neurons for tap in job.taps),
        curve=operation.trials,
        notes=notes_on_tables(job, found, Z, max(join.count)),
        grid=operation.grid,
        theta_counts=tuple(
            theta_histogram(sizes, ranking.first(int(n) if scale else 0).weight)
            for sizes, ranking, n, scale in zip(
                found.sizes, rankings, operation.n, operation.scale, strict=True
            )
        ),
    )
    return deliver(job, made, output, begin)


def choose_targets(job: Job, targets: TargetSettings) -> np.ndarray:
    """Target numbers (c,), ascending; `--worst` runs the base over validation first."""
    fit, validation = job.splits.fit, job.splits.validation
    predicted = None
    if targets.worst is not None and not targets.targets:
        predicted = logits_pass(job.subject, validation, job.engine, "find the worst").argmax(axis=1)
    return find_targets(targets, job.names, fit.labels, validation.labels, predicted)


def rankings_of(
    job: Job, best: Sequence[Candidates], targets: np.ndarray, join: JoinSettings, *, skip: bool = False
) -> list[Ranking]:
    """The neurons of each target, best first, as many as the largest n; one more pass for `net-gain`.

    best : of each target. skip : whether a target that no neuron can raise gets an empty ranking instead of
    a ModelError.
    """
    most = max(join.count)
    criterion = "auto" if join.criterion == "net-gain" else join.criterion
    found = []
    for of_target, j in zip(best, targets, strict=True):
        if skip and not len(of_target.number):
            found.append(nobody(job.taps, criterion))
        else:
            found.append(
                rank(of_target, job.taps, criterion, candidates_wanted(join), f"class {job.names[j]}")
            )
    if join.criterion != "net-gain" or not any(len(r.weight) for r in found):
        return found
    searched = collected(job, job.splits.fit, united(found), "search")
    T, table = searched.T, decisions(searched.Z, searched.labels, targets)
    ends = np.cumsum([0, *(len(r.weight) for r in found)])
    return [
        by_net_gain(ranking, T[:, ends[i] : ends[i + 1]], table, i, most) for i, ranking in enumerate(found)
    ]


def _validation_tables(
    job: Job, rankings: Sequence[Ranking], join: JoinSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Z (N, C) and the prefix sums (N, c, G) of validation: one pass, T itself is not kept."""
    logits: list[np.ndarray] = []

    def tables():
        for got in capture(
            job.subject, job.splits.validation, job.engine, "validate", neurons=united(rankings)
        ):
            logits.append(got.Z.copy())
            yield got.V[0]

    prefix = prefix_sums(tables(), rankings, join.count)
    return np.concatenate(logits), prefix


def _with_boost(
    Z: np.ndarray, prefix: np.ndarray, operation: Operation, join: JoinSettings, targets: np.ndarray
) -> np.ndarray:
    """Validation logits with the chosen synapses, from tables."""
    tweaked = Z.copy()
    for t, target in enumerate(targets):
        column = prefix[:, t, join.count.index(int(operation.n[t]))]
        tweaked[:, target] += (column * (operation.scale[t] / operation.n[t])).astype(Z.dtype)
    return tweaked


def seen_in_training(fit_right: np.ndarray, validation_right: np.ndarray) -> str:
    """What to say where the base's accuracy on the two splits betrays that it was trained on them.

    fit_right (N,), validation_right (M,) bool : samples that it is right on.
    """
    fit, validation = float(fit_right.mean()), float(validation_right.mean())
    both = np.concatenate([fit_right, validation_right])
    error = both.std() * (1 / len(fit_right) + 1 / len(validation_right)) ** 0.5
    if fit - validation > max(_MEMORISED, _SURELY * error):
        return (
            f"the base is right on {fit:.1%} of the fit samples but on {validation:.1%} of validation: it has"
            " probably seen them in training"
        )
    if fit == validation == 1:
        return "the base is right on all fit and validation samples: it has probably seen them in training"
    return ""


def notes_on_tables(job: Job, found: Theta, Z: np.ndarray, most: int) -> tuple[str, ...]:
    """What a user should know of the samples and the neurons.

    Z (N, C) of validation under the base. most : synapses that a target may get.
    """
    fit_right = found.predicted == job.splits.fit.labels
    notes = list(job.splits.notes)
    if said := seen_in_training(fit_right, Z.argmax(axis=1) == job.splits.validation.labels):
        notes.append(f"{said}; samples held out from training give better tables")
    there = sum(tap.neurons for tap in job.taps)
    if most > there:
        notes.append(f"-n {most:,}: only {there:,} neurons are watched, so a target gets no more than that")
    if job.subject.batch == 1 and job.engine.ledger.device != "cpu":
        notes.append(
            "the model's file fixes its batch to 1: a GPU is some ten times faster on many at a time"
        )
    if found.dropped:
        notes.append(f"{found.dropped:,} neurons were NaN or infinite on some sample and were left out")
    return tuple(notes)
