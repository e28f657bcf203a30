"""What is theta of every neuron for every class? By `onnxtweak score`, over a base's fit samples alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.science.thesis.data import as_file
from benchmarks.science.thesis.recipes import Recipe
from benchmarks.science.thesis.sizes import Options
from benchmarks.science.thesis.train import trained
from onnxtweak.commands import score
from onnxtweak.method.selection.ranking import Ranking
from onnxtweak.method.table import Table, all_neurons, gather, take
from onnxtweak.settings import DataSettings, EngineSettings, OutputSettings, TapSettings, TargetSettings
from onnxtweak.stages.open_for_tables import open_for_tables
from onnxtweak.stages.open_job import Job
from onnxtweak.types import Neurons, Tap, silent

ENGINE = EngineSettings(device="cpu", threads=1)


@dataclass(frozen=True)
class Scores:
    """weight (C, M) float64, 0: the neuron cannot help. count, lift (C, M). taps : of the M, end to end."""

    weight: np.ndarray
    count: np.ndarray
    lift: np.ndarray
    taps: tuple[Tap, ...]

    def ranked(self, target: int, criterion: str, n: int, rng: np.random.Generator | None = None) -> Ranking:
        """The n best by "count", "threshold" or "lift", ties as onnxtweak's; "random": any that can help."""
        usable = np.flatnonzero(self.weight[target])
        size = np.abs(self.weight[target, usable])
        if criterion == "random":
            numbers = rng.permutation(usable)[:n]
        else:
            keys = {
                "count": self.count[target, usable],
                "threshold": size,
                "lift": self.lift[target, usable],
            }
            numbers = usable[np.lexsort((usable, -size, -keys[criterion]))[:n]]
        everything = all_neurons(self.taps)
        return Ranking(
            Neurons(self.taps, everything.tap_of[numbers], everything.index[numbers]),
            self.weight[target, numbers],
            self.count[target, numbers].astype(np.int64),
            self.lift[target, numbers],
            criterion,
        )


def open_job(recipe: Recipe, options: Options, taps: Sequence[str]) -> Job:
    """A base and its held-out samples, divided as onnxtweak divides them in every table."""
    samples = as_file(recipe.sample, options.data, options.work)
    model = trained(recipe, options.data, options.work).model
    data = DataSettings((f"{samples}#fit",), test=(f"{samples}#test",), seed=recipe.seed)
    return open_for_tables(str(model), data, ENGINE, TapSettings(taps=tuple(taps)), silent)


def scores(recipe: Recipe, job: Job, options: Options) -> Scores:
    """Of the neurons that the job watches. Kept in WORK/scores."""
    names = tuple(tap.name for tap in job.taps)
    asked = json.dumps([recipe.name, names, job.splits.digest])
    path = options.work / "scores" / f"{recipe.name}-{hashlib.sha256(asked.encode()).hexdigest()[:10]}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        score(
            model=job.opened.model.path,
            data=DataSettings((f"{_fit_alone(recipe, job, options, path)}#fit",)),
            engine=ENGINE,
            taps=TapSettings(taps=names),
            targets=TargetSettings(tuple(map(str, np.unique(job.splits.fit.labels)))),
            output=OutputSettings(str(path)),
        )
    with np.load(path) as file:
        taps = json.loads(str(file["header"]))["taps"]
        kept = tuple(Tap(**{**tap, "shape": tuple(tap["shape"])}) for tap in taps)
        return Scores(file["weight"], file["count"], file["lift"], kept)


def tables(
    job: Job, rankings: Sequence[Ranking], splits: Sequence[str] = ("fit", "validation", "test")
) -> tuple[list[Table], list[np.ndarray]]:
    """Tables of some splits, and the columns of each ranking in them."""
    everything = all_neurons(rankings[0].neurons.taps)
    starts = np.cumsum([0, *(tap.neurons for tap in everything.taps)])
    numbers = [starts[r.neurons.tap_of] + r.neurons.index for r in rankings]
    union = np.unique(np.concatenate(numbers))
    chosen = take(everything, union)
    views = [getattr(job.splits, name) for name in splits]
    made = [gather(job.subject, view, chosen, job.engine, "collect") for view in views]
    return made, [np.searchsorted(union, own) for own in numbers]


def _fit_alone(recipe: Recipe, job: Job, options: Options, beside: Path) -> Path:
    """`score` looks at all samples that it is given: a file of those of the fit split."""
    path = beside.with_name(f"{beside.stem}-fit.npz")
    with np.load(as_file(recipe.sample, options.data, options.work)) as file:
        rows = job.splits.fit.rows
        np.savez(path, x_fit=file["x_fit"][rows], y_fit=file["y_fit"][rows])
    return path
