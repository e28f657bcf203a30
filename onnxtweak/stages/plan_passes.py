"""Which passes would a command make on a job, and how long would each take? Nothing is written.

The passes are planned by the functions that the commands use. What a sample costs is measured on the first
batches of each kind of pass, the first of which only warms up. It is an estimate: theta becomes faster as a
run goes on, and files that are not in the disk cache yet are slower to read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from onnxtweak.data.splits import View
from onnxtweak.engine.machine.gpu import gpu_numbers
from onnxtweak.engine.machine.memory_plan import Block
from onnxtweak.engine.passes import Captured, Folding, capture, plan_of
from onnxtweak.engine.scoring.scoring import from_model, theta_blocks
from onnxtweak.engine.scoring.sweep import ScoringTask, fold, new_sweep, taps_of
from onnxtweak.goal import every_class
from onnxtweak.method.selection.ranking import candidates_wanted
from onnxtweak.method.selection.screening import screen, screen_blocks, screening_bytes
from onnxtweak.method.table import all_neurons, take
from onnxtweak.plans import PlannedPass
from onnxtweak.settings import FitSettings, JoinSettings, TapSettings
from onnxtweak.stages.choose_neurons import all_places, tap_groups
from onnxtweak.stages.open_job import Job
from onnxtweak.stages.score import scores_cached
from onnxtweak.theta.state import bytes_per_neuron
from onnxtweak.types import Neurons, Tap

Settings = TypeVar("Settings")

# A measurement takes so many batches after the first, and ends early after so many seconds.
_BATCHES = 2
_SECONDS = 4.0


@dataclass
class Planner:
    """Plans the passes of one job. steps : so far, in order. cached : scores of an earlier run are reused."""

    job: Job
    steps: list[PlannedPass] = field(default_factory=list)
    cached: bool = False
    _measured: dict[int, float] = field(default_factory=dict)

    @property
    def gpus(self) -> int:
        """Devices that share passes, each as fast as the one measured; workers share the cores."""
        return max(len(gpu_numbers(self.job.engine.settings.device)), 1)

    @property
    def workers(self) -> int:
        """Processes that share passes; 1 where a scheduler decides."""
        return self.job.engine.settings.processes or self.gpus

    def logits(self, name: str, view: View) -> None:
        """A pass that reads nothing but logits."""
        self._add(name, view, self._per_sample() * len(view))

    def gather(self, name: str, view: View, neurons: int) -> None:
        """A pass that reads chosen neurons."""
        self._add(name, view, self._per_sample(neurons) * len(view), len(self.job.taps), neurons)

    def gather_tables(self, neurons: int) -> None:
        """The passes of `stages.gather.gather_tables`."""
        self.gather("collect", self.job.splits.fit, neurons)
        self.gather("validate", self.job.splits.validation, neurons)

    def gather_mirrored(self, views: Sequence[View], neurons: int) -> None:
        """The passes over mirrored copies of some samples."""
        for view in views:
            self.gather("mirror", view, neurons)

    def score(self, targets: int, theta: str, most: int, chosen: np.ndarray | None = None) -> None:
        """Theta over the fit samples. chosen (c,) : the targets, where known. most : as in `stages.score`."""
        job, view = self.job, self.job.splits.fit
        blocks = theta_blocks(job.taps, targets, job.engine)
        if chosen is not None and scores_cached(job, chosen, theta, most):
            self.cached = True
            return
        if chosen is None:
            chosen = view.classes[:targets]
            chosen = np.resize(chosen, targets) if len(chosen) < targets else chosen
        engine = job.engine.unrecorded
        read = from_model(job.subject, view, engine, job.taps)
        task = ScoringTask(view.labels, np.sort(chosen).astype(np.int64), theta, head=job.head)

        def folded(block: Block) -> float:
            sweep = new_sweep(block, task, engine)
            batches = partial(read, "plan", taps_of(block), None)
            return _seconds_per_sample(batches, lambda batch: fold(sweep, batch, task, engine))

        self._blocks("score", job.taps, blocks, bytes_per_neuron(targets), folded, for_theta=True)

    def screen(self, taps: Sequence[Tap], limit: int) -> int:
        """The passes that choose `limit` neurons of some taps, where there are more; how many are chosen."""
        job, view = self.job, self.job.splits.fit
        total = sum(tap.neurons for tap in taps)
        if total <= limit:
            return total
        present, bias = view.classes, np.zeros(job.subject.classes)
        self.logits("base", view)
        engine = job.engine.unrecorded

        def screened(block: Block) -> float:
            batches = partial(capture, job.subject, view, engine, "plan", taps_of(block))
            return _seconds_per_sample(batches, lambda batch: screen([batch], block, bias, present))

        blocks = screen_blocks(taps, len(present), job.engine.settings, job.engine.reserved_bytes)
        self._blocks("screen", taps, blocks, screening_bytes(len(present)), screened, for_theta=False)
        return limit

    def delivery(self) -> None:
        """The passes that check and measure every patch; not made where nothing helps and the base stays."""
        splits = self.job.splits
        self.logits("simulate", splits.validation)
        role, view = ("validation", splits.validation) if splits.test is None else ("test", splits.test)
        self.logits(f"{role}: base", view)
        self.logits(f"{role}: tweaked", view)

    def _blocks(
        self,
        name: str,
        taps: Sequence[Tap],
        blocks: Sequence[Block],
        bytes_each: int,
        measure: Callable[[Block], float],
        *,
        for_theta: bool,
    ) -> None:
        """One step for all blocks. The first is measured; what it costs over plain inference is scaled."""
        view = self.job.splits.fit
        first, plain = measure(blocks[0]), self._per_sample()
        sizes = [sum(map(len, block)) for block in blocks]
        each = [plain + max(first - plain, 0) * size / sizes[0] for size in sizes]
        values = [sum(tap.neurons for tap in taps_of(block)) for block in blocks]
        other_values = sum(tap.neurons for tap in taps) - values[0]
        folding = Folding(for_theta=for_theta, other_values=other_values)
        seconds = sum(each) * len(view) / self.gpus
        step = self._one_pass(name, view, seconds, len(taps), values[0], folding)
        self.steps.append(
            replace(
                step,
                passes=len(blocks),
                neurons=sum(sizes),
                block=max(sizes),
                state_bytes=max(sizes) * bytes_each,
                value_bytes=4 * max(values) * len(view),
            )
        )

    def _add(self, name: str, view: View, seconds: float, taps: int = 0, neurons: int = 0) -> None:
        if len(view) > self.job.engine.settings.shard:
            seconds /= self.gpus
        self.steps.append(self._one_pass(name, view, seconds, taps, neurons, Folding()))

    def _one_pass(
        self, name: str, view: View, seconds: float, taps: int, neurons: int, folding: Folding
    ) -> PlannedPass:
        device = self.job.engine.stats.device
        sizing = plan_of(self.job.subject, self.job.engine, neurons, len(view), device, folding)
        return PlannedPass(
            name=name,
            passes=1,
            samples=len(view),
            taps=taps,
            neurons=neurons,
            block=neurons,
            batch=sizing.batch,
            fold=sizing.rows,
            state_bytes=0,
            value_bytes=4 * neurons * len(view),
            seconds=seconds,
        )

    def _per_sample(self, neurons: int = 0) -> float:
        """Seconds per sample of inference, without hidden values or with so many neurons."""
        neurons = min(neurons, self.job.neurons)
        if neurons not in self._measured:
            job, engine = self.job, self.job.engine.unrecorded
            chosen = _spread(job.taps, neurons) if neurons else None
            batches = partial(capture, job.subject, job.splits.fit, engine, "plan", neurons=chosen)
            self._measured[neurons] = _seconds_per_sample(batches, lambda batch: [V.copy() for V in batch.V])
            job.engine.stats.device = engine.stats.device
            job.engine.stats.providers = engine.stats.providers
        return self._measured[neurons]


@dataclass(frozen=True)
class PassRequest:
    """A command whose passes over one job are to be planned.

    count : number of targets. chosen (c,) : which, where that is known before the model runs. options : what
    else the command was given beside model, samples, targets, taps and output, by keyword.
    """

    planner: Planner
    count: int
    chosen: np.ndarray | None
    taps: TapSettings
    options: Mapping[str, Any]

    @property
    def job(self) -> Job:
        return self.planner.job

    @property
    def every_class(self) -> bool:
        """Whether all classes that have samples are targets."""
        splits = self.job.splits
        return self.count == len(every_class(splits.fit.labels, splits.validation.labels))

    def settings(self, kind: type[Settings], keyword: str = "settings") -> Settings:
        """The settings that the command was given as `keyword`, or their defaults."""
        found: Settings = self.options.get(keyword, kind())
        return found

    def ranking(self, join: JoinSettings) -> None:
        """The passes that rank the neurons of each target."""
        self.planner.score(self.count, join.theta, candidates_wanted(join), self.chosen)
        self.search(join)

    def search(self, join: JoinSettings) -> None:
        """The pass in which `net-gain` searches along the best neurons exactly."""
        if join.criterion == "net-gain":
            self.planner.gather("search", self.job.splits.fit, candidates_wanted(join) * self.count)

    def table_neurons(self, settings: FitSettings) -> int:
        """The passes that choose the neurons of a table; how many it holds."""
        first, *more = tap_groups(self.job, self.taps)
        held = chosen = self.planner.screen(first.taps, settings.neurons)
        for group in more:
            free = settings.neurons - chosen
            held += self.planner.screen(group.taps, free) if free > 0 else 0
        return held + len(all_places(self.job, self.taps))


def _spread(taps: Sequence[Tap], count: int) -> Neurons:
    """So many neurons, evenly over all taps."""
    neurons = all_neurons(taps)
    return take(neurons, np.unique(np.linspace(0, len(neurons) - 1, count).astype(np.int64)))


def _seconds_per_sample(
    batches: Callable[[], Generator[Captured]], work: Callable[[Captured], object]
) -> float:
    """Seconds per sample of the batches after the first, or of the first where there is no other."""
    source = batches()
    samples, begin, started = 0, time.perf_counter(), time.perf_counter()
    try:
        for number, batch in enumerate(source):
            work(batch)
            now = time.perf_counter()
            samples += len(batch.labels)
            if number == 0:
                warm = (now - begin) / samples
                samples, begin = 0, now
            if number >= _BATCHES or now - started > _SECONDS:
                break
    finally:
        source.close()
    return (now - begin) / samples if samples else warm
