"""Theta of every neuron over the fit samples: the longest pass, kept for the next run where asked to.

What is kept belongs to exactly one question (model, samples, taps, targets, kind of theta, device): any
change of these asks again. A damaged file is asked again too.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

import onnxtweak
from onnxtweak.engine.scoring import ThetaPass, from_model, theta_pass
from onnxtweak.model.file import write_atomic
from onnxtweak.pipeline.job import Job
from onnxtweak.theta.state import ThetaState

_LARGEST = 2**30  # bytes; beyond this, writing takes longer than it saves


def scored(job: Job, targets: np.ndarray, theta: str) -> ThetaPass:
    """Theta's state for target classes (c,) over the fit samples of a job."""
    fit, settings = job.splits.fit, job.engine.settings
    asked = None if settings.work_dir is None else _question(job, targets, theta)
    file = None if asked is None else Path(settings.work_dir) / f"score-{asked}.npz"
    if file is not None and settings.resume and file.is_file():
        known = _read(file, len(job.taps))
        if known is not None:
            job.engine.progress.reuse("score")
            job.engine.ledger.passes.append(("score, cached", 0))
            return known
    found = theta_pass(
        from_model(job.subject, fit, job.engine),
        job.taps,
        fit.labels,
        targets,
        theta,
        job.engine,
        asked=asked,
        reopen=job.reopen,
    )
    if file is not None:
        _keep(file, found)
    return found


def _question(job: Job, targets: np.ndarray, theta: str) -> str:
    asked = {
        "onnxtweak": onnxtweak.__version__,
        "base": job.opened.model.base_sha256,
        "logits": job.subject.logits,
        "samples": job.splits.digest,
        "taps": [asdict(tap) for tap in job.taps],
        "targets": targets.tolist(),
        "theta": theta,
        "device": job.engine.settings.device,
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:32]


def _read(file: Path, taps: int) -> ThetaPass | None:
    names = [field.name for field in fields(ThetaState)]
    try:
        # NumPy does not close a file that turns out to be damaged.
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as held:
            states = tuple(ThetaState(**{name: held[f"{t}.{name}"] for name in names}) for t in range(taps))
            return ThetaPass(states, held["predicted"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _keep(file: Path, found: ThetaPass) -> None:
    arrays = {
        f"{t}.{name}": array for t, state in enumerate(found.states) for name, array in vars(state).items()
    }
    if sum(array.nbytes for array in arrays.values()) > _LARGEST:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    out = io.BytesIO()
    np.savez(out, predicted=found.predicted, **arrays)
    write_atomic(file, [out.getvalue()], force=True)
