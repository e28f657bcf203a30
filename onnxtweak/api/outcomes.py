"""What can a program and a notebook ask of a result? To be shown, saved, or put into a DataFrame."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxtweak import commands
from onnxtweak.engine.opened import open_model
from onnxtweak.errors import MachineError, UsageError
from onnxtweak.model.file.model_file import ModelSource
from onnxtweak.quantities import number_of
from onnxtweak.report.text import comparison, inspection, summary
from onnxtweak.report.text.notebook import html
from onnxtweak.results import HIDDEN, Evaluation, Inspection, Result
from onnxtweak.settings import EngineSettings, OutputSettings
from onnxtweak.stages.open_tweak import open_subject, recorded_taps
from onnxtweak.stages.proposal import splice_in
from onnxtweak.standings import Comparison
from onnxtweak.types import BoxMetrics, FileRef, LabelMetrics

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, repr=False)
class PatchResult(Result):
    """A `Result` with the model that it is about, so that the new model can be had at any time.

    >>> import onnxtweak
    >>> from onnxtweak.demo_files import demo_files
    >>> made = onnxtweak.join(demo_files().model, data=f"{demo_files().data}#fit", target=8, count=10)
    >>> onnxtweak.diff(demo_files().model, made.to_bytes()).checks[0].passed
    True
    """

    base: ModelSource = field(default="", compare=False, metadata=HIDDEN)
    engine: EngineSettings = field(default=EngineSettings(), compare=False, metadata=HIDDEN)

    def _repr_html_(self) -> str:
        return html(summary.result(self))

    def to_bytes(self) -> bytes:
        """The new model, the same bytes as `save` writes: `onnxruntime.InferenceSession(made.to_bytes())`.

        Weights in external files stay there. Raises ModelError where the base has changed since.
        """
        tweak = self._tweak
        opened = open_model(self.base, recorded_taps(tweak.logits, tweak.provenance))
        if not tweak.patch.changes_logits:
            return opened.model.data
        return splice_in(open_subject(opened, [tweak], self.engine)[0], tweak)

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> FileRef:
        """Write the new model, the same bytes as with `output=path`, and check the file as it lies on disk.

        force : replace an existing file. Raises OutputError where it cannot be written, ModelError where the
        base has changed since, VerificationError when a check fails; nothing is written then.
        """
        place = OutputSettings(os.fspath(path), force=force)
        return commands.apply(model=self.base, tweak=self._tweak, output=place, engine=self.engine).output

    def to_frame(self) -> DataFrame:
        """A row per class: samples, accuracies of the base, the new model and the bias control, as fractions.

        Needs pandas. change : of the new model against the base, in percentage points. Of several labels at
        once F1 in place of accuracies, and average precisions beside them.
        """
        ranked: dict[str, np.ndarray] = {}
        if isinstance(self.before, LabelMetrics) and isinstance(self.after, LabelMetrics):
            ranked = {
                "average_precision_base": self.before.average_precision,
                "average_precision": self.after.average_precision,
            }
        before, after, bias = (each.per_class for each in (self.before, self.after, self.bias_control))
        return _frame(
            self.classes,
            {
                "samples": self.before.support,
                "base": before,
                "tweaked": after,
                "change": (after - before) * 100,
                "bias_only": bias,
                **ranked,
                "target": [name in self.targets for name in self.classes],
            },
            "class",
        )

    @property
    def _tweak(self) -> Any:
        if self.made is None:
            raise UsageError("the result came without its tweak", where=self.command, hint="make it again")
        return self.made


@dataclass(frozen=True, repr=False)
class EvaluationResult(Evaluation):
    """An `Evaluation` that can be shown."""

    def __repr__(self) -> str:
        measured = self.metrics
        said = f"{measured.overall:.1%} of {number_of(measured.samples, 'sample')}"
        if isinstance(measured, LabelMetrics):
            said = f"macro F1 {measured.overall:.1%} on {number_of(measured.samples, 'sample')}"
        if isinstance(measured, BoxMetrics):
            said = f"mAP50 {measured.overall:.1%} on {number_of(measured.samples, 'sample')}"
        return f"<Evaluation of {self.model.path}: {said}>"

    def _repr_html_(self) -> str:
        return html(summary.evaluation(self))

    def to_frame(self) -> DataFrame:
        """A row per class: its samples, those predicted as it, and accuracy as a fraction. Needs pandas.

        Of several labels at once: samples that have the label, average precision, precision, recall and F1.
        Of a detector: objects, AP50-95 and AP50.
        """
        if isinstance(self.metrics, BoxMetrics):
            found = {
                "objects": self.metrics.objects,
                "ap50_95": self.metrics.strict,
                "ap50": self.metrics.per_class,
            }
            return _frame(self.classes, found, "class")
        if isinstance(self.metrics, LabelMetrics):
            columns = {"samples": self.metrics.support, **_of_labels(self.metrics)}
            return _frame(self.classes, columns, "class")
        confusion = self.metrics.confusion
        return _frame(
            self.classes,
            {
                "samples": confusion.sum(axis=1),
                "predicted": confusion.sum(axis=0),
                "accuracy": self.metrics.per_class,
            },
            "class",
        )


@dataclass(frozen=True, repr=False)
class ComparisonResult(Comparison):
    """A `Comparison` that can be shown."""

    def __repr__(self) -> str:
        return f"<Comparison of {len(self.standings)} methods: {comparison.verdict(self)}>"

    def _repr_html_(self) -> str:
        return html(comparison.comparison(self))

    def to_frame(self) -> DataFrame:
        """A row per method: accuracies on test as fractions, and what it changed. Needs pandas.

        Columns `at_D` : accuracy of the targets where the overall accuracy loses at most D points.
        """
        standings = self.standings
        columns: dict[str, Any] = {
            "overall": [one.overall[0] for one in standings],
            "target": [one.target[0] for one in standings],
            **{f"at_{drop:g}": [one.at[k][0] for one in standings] for k, drop in enumerate(self.drops)},
            **{
                name: [getattr(one, name) for one in standings]
                for name in ("fixed", "broken", "mcnemar_p", "parameters", "seconds", "note")
            },
        }
        return _frame([one.method for one in standings], columns, "method")


@dataclass(frozen=True, repr=False)
class InspectionResult(Inspection):
    """An `Inspection` that can be shown."""

    def __repr__(self) -> str:
        return f"<Inspection of {self.model.path}: {self.classes} classes, {self.neurons:,} neurons watched>"

    def _repr_html_(self) -> str:
        return html(inspection.inspection(self))


def _of_labels(metrics: LabelMetrics) -> dict[str, np.ndarray]:
    return {
        "average_precision": metrics.average_precision,
        "precision": metrics.precision,
        "recall": metrics.recall,
        "F1": metrics.per_class,
    }


def parts(noun: Any) -> dict[str, Any]:
    """What a result is made of, by the names of its fields."""
    return {one.name: getattr(noun, one.name) for one in fields(noun)}


def _frame(index: Sequence[str], columns: Mapping[str, Any], name: str) -> DataFrame:
    try:
        from onnxtweak.api.frames import frame
    except ImportError as error:
        raise MachineError(
            "to_frame needs pandas, which is not installed", hint="pip install pandas"
        ) from error
    return frame(index, {key: np.asarray(values) for key, values in columns.items()}, name)
