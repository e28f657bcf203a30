"""What should a user know of the samples and the neurons before he believes a result?"""

from __future__ import annotations

import numpy as np

from onnxtweak.method.selection.candidates import Theta
from onnxtweak.stages.open_job import Job

# Base accuracy on fit samples above validation by more than this: the base has probably seen them (METHOD 9).
_MEMORISED = 0.05


# So many standard errors, too: a few samples differ by chance.
_SURELY = 2.5


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
    if said := seen_in_training(fit_right, job.head.right(Z, job.splits.validation.labels)):
        notes.append(f"{said}; samples held out from training give better tables")
    there = sum(tap.neurons for tap in job.taps)
    if most > there:
        notes.append(f"-n {most:,}: only {there:,} neurons are watched, so a target gets no more than that")
    if job.subject.batch == 1 and job.engine.stats.device != "cpu":
        notes.append(
            "the model's file fixes its batch to 1: a GPU is some ten times faster on many at a time"
        )
    if found.dropped:
        notes.append(f"{found.dropped:,} neurons were NaN or infinite on some sample and were left out")
    return tuple(notes)
