"""Why might a model only guess? Likely mistakes in preprocessing, tried on a few of the samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from onnxtweak.engine.passes import logits_pass
from onnxtweak.errors import InputError
from onnxtweak.settings import Color, Preprocess
from onnxtweak.stages.open_job import Job, open_whole
from onnxtweak.types import silent

_TRIED = 512  # samples, evenly from all of them
_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def likely_mistake(job: Job, predicted: np.ndarray) -> str:
    """What to change, with the accuracy that it gives; empty where nothing tried is much better.

    predicted (N,) : classes of the samples as they are prepared now.
    """
    labels, classes = job.splits.fit.labels, job.subject.classes
    now = float((predicted == labels).mean())
    enough = max(2 * now, 3 / classes, 0.2) if classes > 2 else max(1.4 * now, 0.7)
    for shift, change in ((1, "subtracting 1 from"), (-1, "adding 1 to")):
        right = float((predicted + shift == labels).mean())
        if right >= enough:
            return f"{change} each label gives {right:.1%}: are classes numbered from 0?"
    rows = np.unique(np.linspace(0, len(labels) - 1, min(_TRIED, len(labels))).astype(np.int64))
    best, found = enough, ""
    for words, preprocess in _alternatives(job.reopen.data.preprocess):
        right = _accuracy(job, preprocess, rows)
        if right > best:
            best, found = right, f"on {len(rows)} samples, {words} gives {right:.1%}"
    return found


def _alternatives(now: Preprocess) -> Iterator[tuple[str, Preprocess]]:
    """Other ways to prepare an image, as command-line options, likely ones first."""
    ways = (
        ("--pixel-scale 1/255", {"pixel_scale": 1 / 255, "mean": None, "std": None}),
        (
            "--pixel-scale 1/255 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225",
            {"pixel_scale": 1 / 255, **_IMAGENET},
        ),
        ("--pixel-scale 1/127.5 --mean 1", {"pixel_scale": 1 / 127.5, "mean": (1.0,), "std": None}),
        ("leaving out --pixel-scale, --mean and --std", {"pixel_scale": None, "mean": None, "std": None}),
        ("--pixel-scale 255", {"pixel_scale": 255.0, "mean": None, "std": None}),
    )
    other: Color = "RGB" if now.color == "BGR" else "BGR"
    for words, fields in ways:
        changed = replace(now, **fields)
        if changed != now:
            yield words, changed
    yield f"--color {other}", replace(now, color=other)
    for words, fields in ways[:3]:
        yield f"{words} --color {other}", replace(now, **fields, color=other)


def _accuracy(job: Job, preprocess: Preprocess, rows: np.ndarray) -> float:
    """Accuracy on some rows prepared in another way; 0 where such samples do not fit the model."""
    data, taps = replace(job.reopen.data, preprocess=preprocess), job.reopen.taps
    try:
        other = open_whole(job.model.path, data, job.engine.settings, taps, silent, watch=False)
        view = replace(other.splits.fit, rows=rows)
        logits = logits_pass(other.subject, view, other.engine, "try")
        return float(other.head.right(logits, view.labels).mean())
    except InputError:
        return 0.0
