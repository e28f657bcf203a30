"""What should a user know about the samples and neurons before believing a result? The notes on them."""

from __future__ import annotations

import numpy as np

from onnxtweak.method.selection.candidates import Theta
from onnxtweak.quantities import number_of
from onnxtweak.stages.open_job import Job
from onnxtweak.stages.score import scored_view

# Base accuracy on fit samples above validation by more than this: the base has probably seen them (METHOD 9).
_MEMORISED = 0.05
# By so many standard errors, too: a few samples differ by chance.
_SURELY = 2.5


def seen_in_training(fit_right: np.ndarray, validation_right: np.ndarray) -> str:
    """A note where the base's accuracy on the two splits shows that it was trained on fit samples, or empty.

    fit_right, validation_right (N,) bool : which samples of each the base is right on.
    """
    fit, validation = float(fit_right.mean()), float(validation_right.mean())
    if _much_better(fit_right, validation_right):
        return (
            f"the base is right on {fit:.1%} of the fit samples but on {validation:.1%} of validation: it has"
            " probably seen the fit samples in training"
        )
    if fit == validation == 1:
        return "the base is right on all fit and validation samples: it has probably seen them in training"
    return ""


def known_by_heart(right: np.ndarray, copies_right: np.ndarray) -> str:
    """A note where the base is right on nearly all samples, but not on their mirror images; or empty.

    right, copies_right (N,) bool : which samples it is right on, and which copies.
    """
    if right.mean() <= 1 - _MEMORISED or not _much_better(right, copies_right):
        return ""
    return (
        f"the base is right on {right.mean():.1%} of the samples but on {copies_right.mean():.1%} of their"
        " mirror images, which it has not been trained on"
    )


def _much_better(first: np.ndarray, second: np.ndarray) -> bool:
    """Is the base so much more often right (N,) bool on the first samples that it has to have seen them?"""
    error = np.concatenate([first, second]).std() * (1 / len(first) + 1 / len(second)) ** 0.5
    return bool(first.mean() - second.mean() > max(_MEMORISED, _SURELY * error))


def notes_on_tables(job: Job, theta: Theta, Z: np.ndarray, most: int) -> tuple[str, ...]:
    """What a user should know about the samples and neurons.

    Z (N, C) : validation logits of the base. most : synapses that a target may get.
    """
    fit_right = job.head.decisions(theta.predicted, scored_view(job).labels).right
    notes = []
    if seen := seen_in_training(fit_right, job.head.right(Z, job.splits.validation.labels)):
        notes.append(f"{seen}; samples held out from training give better tables")
    if most > job.neurons:
        notes.append(
            f"-n {most:,}: only {job.neurons:,} neurons are watched, so no target gets more than that"
        )
    if job.subject.batch == 1 and job.engine.stats.device != "cpu":
        notes.append(
            "the model file fixes the batch to 1: a GPU is about ten times faster with larger batches"
        )
    if theta.dropped:
        notes.append(
            f"left out: {number_of(theta.dropped, 'neuron')}, NaN or infinite on at least one sample"
        )
    return tuple(notes)
