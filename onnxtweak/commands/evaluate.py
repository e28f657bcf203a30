"""How good is a model? Accuracies, confusion and metrics over all samples, accuracies group by group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxtweak.data.groups import require_shared
from onnxtweak.engine.answer.shown import shown_pass
from onnxtweak.errors import UsageError
from onnxtweak.goal import ResolvedGoal, find_targets
from onnxtweak.method.metrics import measure, measure_groups, read_metric
from onnxtweak.metric.asked import metric_of, require_metric
from onnxtweak.metric.kinds import Predictions
from onnxtweak.metric.rate import require_samples
from onnxtweak.metric.several import MicroF1
from onnxtweak.model.file.model_file import ModelSource
from onnxtweak.quantities import number_of
from onnxtweak.results import Evaluation
from onnxtweak.settings import DataSettings, EngineSettings, OutputSettings, TapSettings, TargetSettings
from onnxtweak.stages.boxes.measure import FoundObjects, box_readings, box_targets, require_measured_whole
from onnxtweak.stages.check_paths import check_paths
from onnxtweak.stages.lines.read_lines import line_readings
from onnxtweak.stages.objects.doubts import doubt_about_boxes
from onnxtweak.stages.open_job import Job, open_whole
from onnxtweak.stages.preprocessing_check import doubts
from onnxtweak.types import Progress, silent

# Samples that a group must have on average: with fewer, most accuracies would be 0 or 1.
_SHARED = 2.0


def evaluate(
    *,
    model: ModelSource,
    data: DataSettings,
    engine: EngineSettings = EngineSettings(),
    taps: TapSettings = TapSettings(),
    targets: TargetSettings = TargetSettings(),
    metrics: Sequence[str] = (),
    progress: Progress = silent,
) -> Evaluation:
    """Overall and per-class accuracy and confusion of a model, over all samples of `data`.

    data : its `by` are columns whose groups are measured one by one. taps : only `logits` is used. metrics :
    words of `--metric`, read as well; so is the mean IoU where there are scores at positions, and macro F1,
    micro F1 and mean average precision where a sample has several labels at once. Raises InputError for what
    cannot be used.
    """
    for text in metrics:
        require_metric(text)
    check_paths(OutputSettings(), model, data, engine)
    job = open_whole(model, data, engine, taps, progress, watch=False)
    view = job.splits.fit
    if job.subject.detector is not None:
        return _of_boxes(job, data, targets, metrics)
    columns = {name: view.rows_by(name) for name in data.by}
    for name, groups in columns.items():
        require_shared(groups, name, _SHARED, "--by")
    several, of_maps = job.head.several, job.subject.sizes and view.dataset.lines is None
    usual = ("f1", "map") if several else ("iou",) if of_maps else ()
    asked = [metric_of(text, job.names, several=several) for text in dict.fromkeys((*metrics, *usual))]
    asked += [MicroF1("micro-f1", "micro F1")] if several else []
    for metric in asked:
        require_samples(metric, view.labels, "labelled")
    shown = shown_pass(job.subject, view, job.engine, "evaluate")
    predicted = shown.classes
    chosen = np.empty(0, np.int64)
    if targets.targets or targets.worst is not None:
        chosen = find_targets(targets, job.names, view.labels, view.labels, predicted)
    measured = measure(predicted, view.labels, ResolvedGoal(chosen, job.head), shown.Z)
    made, group = Predictions(view.labels, predicted, shown.Z), view.groups(data.group)
    other = int(shown.contradicted.sum())
    contradiction: tuple[str, ...] = ()
    if other:
        contradiction = (
            f"on {other:,} of {number_of(len(predicted), 'sample')} the model shows another class than that"
            " of its highest score: it cannot be tweaked as it is",
        )
    return Evaluation(
        model=job.model,
        metrics=measured,
        classes=job.names,
        targets=tuple(job.names[j] for j in chosen),
        seconds=job.run.seconds,
        device=_device(job),
        notes=(*job.splits.notes, *contradiction, *_on_positions(job, data), *doubts(job, view, predicted)),
        groups=tuple(
            group
            for name, groups in columns.items()
            for group in measure_groups(job.head.decisions(predicted, view.labels), groups, name)
        ),
        unit=job.subject.unit,
        readings=(
            *line_readings(view, shown.numbers, data.group),
            *(read_metric(metric, made, group) for metric in asked),
        ),
    )


def _of_boxes(job: Job, data: DataSettings, targets: TargetSettings, metrics: Sequence[str]) -> Evaluation:
    """How well a detector finds objects. Raises UsageError for what is about decisions."""
    require_measured_whole(data)
    if metrics:
        hint = "leave it out: mAP50 and mAP50-95 are always read"
        where = f"--metric {metrics[0]}"
        raise UsageError("a detector is measured by average precision alone", where=where, hint=hint)
    view = job.splits.fit
    made = FoundObjects.of(job.subject, view, job.engine, "evaluate")
    figures = made.metrics(np.empty(0, np.int64))
    doubt = doubt_about_boxes(job, view)
    chosen = np.empty(0, np.int64)
    if targets.targets or targets.worst is not None:
        chosen = box_targets(targets, job.names, figures)
        figures = made.metrics(chosen)
    return Evaluation(
        model=job.model,
        metrics=figures,
        classes=job.names,
        targets=tuple(job.names[j] for j in chosen),
        seconds=job.run.seconds,
        device=_device(job),
        notes=(*job.splits.notes, *([] if doubt is None else [doubt.said])),
        unit="objects",
        readings=box_readings(made, view.groups(data.group)),
    )


def _device(job: Job) -> dict[str, str]:
    """Where the model ran: nothing is scored."""
    return {key: value for key, value in job.run.device.items() if key != "backend"}


def _on_positions(job: Job, data: DataSettings) -> tuple[str, ...]:
    """A note where intervals of groups count several decisions of one sample, which are not independent."""
    if not data.by or job.subject.unit == "samples":
        return ()
    return (
        f"{job.subject.unit} of one sample are not independent: the intervals of groups count each decision, "
        "and are too sure",
    )
