"""Which classes should do better? What `--target` and `--worst` name, on the samples at hand."""

from __future__ import annotations

import numpy as np

from onnxtweak.engine.passes import logits_pass
from onnxtweak.method.targets import find_targets
from onnxtweak.settings import (
    TargetSettings,
)
from onnxtweak.stages.open_job import Job


def choose_targets(job: Job, targets: TargetSettings) -> np.ndarray:
    """Target numbers (c,), ascending; `--worst` runs the base over validation first."""
    fit, validation = job.splits.fit, job.splits.validation
    predicted = None
    if targets.worst is not None and not targets.targets:
        predicted = logits_pass(job.subject, validation, job.engine, "find the worst").argmax(axis=1)
    return find_targets(targets, job.names, fit.labels, validation.labels, predicted)
