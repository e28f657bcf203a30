"""Does a tweaked file compute the same in other runtimes? File and base in each, beside ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnxtweak.engine.runtimes.run_apart import PACKAGES, RunApart, is_installed, run_apart
from onnxtweak.engine.subject import Subject, filled
from onnxtweak.other_answers import RuntimeDeviation, RuntimeRun
from onnxtweak.quantities import number_of
from onnxtweak.stages.head_check import require_no_boxes
from onnxtweak.stages.open_job import Job
from onnxtweak.temporary_files import temporary_folder
from onnxtweak.types import Check, Unchecked

_SAMPLES, _AT_ONCE = 200, 50
# Rounding, as a share of the largest value; and how many times as far off as the base's values may be.
_ROUNDING, _TIMES_THE_BASE = 1e-3, 4.0
_USUAL = "onnxruntime"  # whose values all others are compared with


@dataclass(frozen=True, eq=False)
class _RuntimeQuestion:
    """What is run: base and tweaked file, the output that shows the answer in each, and batches by input.

    subject : the tweaked model, whose head says what an output decides.
    """

    files: Mapping[str, Path]
    outputs: Mapping[str, str]
    batches: Sequence[Mapping[str, np.ndarray]]
    samples: int
    subject: Subject

    def ask(self, runtime: str) -> dict[str, RunApart]:
        """Both files in a runtime."""
        return {
            key: run_apart(runtime, self.files[key], self.outputs[key], self.batches) for key in self.files
        }


def check_runtimes(
    job: Job, base: bytes | Path, shadow: str | None, names: Sequence[str]
) -> tuple[tuple[RuntimeRun, ...], tuple[Check | Unchecked, ...]]:
    """Run the job's model, which is tweaked, and its base in each of the named runtimes that is installed.

    base : its bytes, or its file where it has weights beside it. shadow : the output that shows the tweaked
    logits, where the base's own stay. A runtime that does not run the base is not the tweak's fault.
    """
    require_no_boxes(job.subject, "comparing runtimes")
    found: list[RuntimeRun] = []
    made: list[Check | Unchecked] = []
    with temporary_folder(Path(tempfile.gettempdir()), private=True) as folder:
        question = _question(job, base, shadow, folder)
        usual = question.ask(_USUAL)
        for name in names:
            if not is_installed(name):
                hint = "pip install 'onnxtweak[runtimes]'"
                made.append(Unchecked(f"runtime {name}", f"{PACKAGES[name][1]} is not installed: {hint}"))
                continue
            answered = usual if name == _USUAL else question.ask(name)
            run, check = _judged(name, answered, usual, question)
            found += [] if run is None else [run]
            made.append(check)
    return tuple(found), tuple(made)


def _question(job: Job, base: bytes | Path, shadow: str | None, folder: Path) -> _RuntimeQuestion:
    subject, samples = job.subject, _some_samples(job)
    path = base if isinstance(base, Path) else folder / "base.onnx"
    if isinstance(base, bytes):
        path.write_bytes(base)
    output = job.opened.logits.output
    files = {"base": path, "tweaked": Path(job.opened.model.path)}
    batches = list(_batches(job, samples, subject.batch or min(_AT_ONCE, len(samples))))
    outputs = {"base": output, "tweaked": shadow or output}
    return _RuntimeQuestion(files, outputs, batches, len(samples), subject)


def _some_samples(job: Job) -> np.ndarray:
    """Some of the job's samples, evenly from all, (n,) int64."""
    samples = job.splits.fit.samples
    return samples[np.unique(np.linspace(0, len(samples) - 1, min(_SAMPLES, len(samples))).astype(np.int64))]


def _batches(job: Job, samples: np.ndarray, size: int) -> Iterator[dict[str, np.ndarray]]:
    """Inputs by name, so many samples at a time; the last are repeated to fill a batch."""
    subject = job.subject
    names = [port.name for port in job.opened.needed]
    for feeds, _, _ in job.splits.fit.dataset.batches(samples, size):
        yield subject.feeding.fed({name: filled(value, size) for name, value in feeds.items()}, names)


def _judged(
    name: str, answered: Mapping[str, RunApart], usual: Mapping[str, RunApart], asked: _RuntimeQuestion
) -> tuple[RuntimeRun | None, Check | Unchecked]:
    """How far base and file are off, and whether the file is no worse than the base."""
    title, version, samples = f"runtime {name}", answered["base"].version, asked.samples
    base, tweaked = (_deviation(answered[key], usual[key], asked) for key in ("base", "tweaked"))
    if base is None:
        reason = answered["base"].failed or usual["base"].failed or "its output has another shape"
        return None, Unchecked(title, f"{name} {version} does not run the base: {reason}")
    if tweaked is None:
        reason = answered["tweaked"].failed or usual["tweaked"].failed or "its output has another shape"
        return None, Check(title, False, f"{name} {version} runs the base, and not this file: {reason}")
    said = (
        f"{name} {version}, {number_of(samples, 'sample')}: {tweaked.differ:,} decisions differ from ONNX "
        f"Runtime's, values by up to {tweaked.largest:.1g} of the largest; the base's {base.differ:,} and "
        f"{base.largest:.1g}"
    )
    passed = tweaked.largest <= max(_ROUNDING, _TIMES_THE_BASE * base.largest)
    return RuntimeRun(name, version, samples, base, tweaked), Check(title, passed, said)


def _deviation(run: RunApart, usual: RunApart, asked: _RuntimeQuestion) -> RuntimeDeviation | None:
    """Of one file's values from ONNX Runtime's; None where either has none, or they are of another shape."""
    if run.values is None or usual.values is None or run.values.shape != usual.values.shape:
        return None
    one, other = run.values[: asked.samples], usual.values[: asked.samples]
    differ = int((_decisions(one, asked.subject) != _decisions(other, asked.subject)).sum())
    if other.dtype.kind not in "fiub":
        return RuntimeDeviation(differ, 0.0 if differ == 0 else 1.0)
    apart, size = np.abs(one.astype(np.float64) - other), np.abs(other.astype(np.float64))
    largest = float(apart.max(initial=0.0) / max(float(size.max(initial=0.0)), 1e-300))
    return RuntimeDeviation(differ, largest if np.isfinite(largest) else 1.0)


def _decisions(values: np.ndarray, subject: Subject) -> np.ndarray:
    """What each sample's values come to, (n,): the highest of several, a label, or a side of one number.

    At positions the same for each of them; of several labels at once a side of each one's number.
    """
    if subject.head.several:
        return values > (0.5 if values.dtype.kind == "f" and ((values >= 0) & (values <= 1)).all() else 0)
    if subject.sizes:
        layout = (subject.answer and subject.answer.layout) or subject.layout
        return values if values.ndim < len(layout) else values.argmax(axis=layout.index("C"))
    rows = values.reshape(len(values), -1)
    if rows.shape[1] > 1:
        return rows.argmax(axis=1)
    single = rows[:, 0]
    if single.dtype.kind != "f":
        return single
    decided: np.ndarray = single > (0.5 if ((single >= 0) & (single <= 1)).all() else 0.0)
    return decided
