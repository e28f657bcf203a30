"""How are imitations of must-samples made and run? Lock-samples, as they would look if the same befell them.

Only samples of one input of real numbers, or of bytes, can be imitated: identifiers, texts and positions have
no values in between.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from onnxtweak.data.dataset import Dataset
from onnxtweak.data.preprocess.plan import make_plan
from onnxtweak.data.samples import ArrayColumn, InputSpec, Part
from onnxtweak.data.splits import View
from onnxtweak.engine.machine.memory_plan import table_room
from onnxtweak.method.listed.imitation import Imitated, Spoiling
from onnxtweak.method.table import all_neurons, gather, stacked
from onnxtweak.settings import Preprocess
from onnxtweak.stages.choose_neurons import TableNeurons, end_to_end
from onnxtweak.stages.open_job import Job
from onnxtweak.types import Neurons, Tap

# Imitations to find out whether they help, and to teach hidden units by, at most; of so many must-samples and
# lock-samples at most, evenly from all. With fewer lock-samples it is not tried.
IMITATIONS, LESSONS = 3_000, 12_000
_MUST, _SOUND, _FEWEST = 300, 5_000, 30
# Numbers of a model's input that are read beside its hidden neurons, at most.
_MOST_INPUTS = 1_024
# What samples that are held take of the memory for arrays, at most; at least so many are run at a time.
_SHARE, _AT_ONCE = 0.25, 256
_WHERE = "imitations"


def with_inputs(job: Job, watched: TableNeurons) -> TableNeurons:
    """The neurons, and the numbers of the input that imitations change, where these are few."""
    inputs = all_neurons(input_tap(job, len(watched.neurons)))
    if not len(inputs):
        return watched
    both = end_to_end(watched.neurons, inputs)
    return replace(watched, neurons=both, scored=watched.scored + len(inputs), inputs=len(inputs))


def input_tap(job: Job, neurons: int) -> tuple[Tap, ...]:
    """The input that is read beside so many hidden neurons, if it is."""
    listed = job.splits.listed
    spec = _imitable(listed["must"].dataset) if "must" in listed and "lock" in listed else None
    if spec is None or not neurons or np.dtype(spec.dtype).kind != "f":
        return ()
    tap = Tap(spec.name, "Input", tuple(listed["must"].dataset.plans[0][spec.name].shape), spec.dtype)
    return (tap,) if tap.neurons <= _MOST_INPUTS else ()


def imitate(job: Job, neurons: Neurons, must: View, sound: View, count: int) -> Imitated | None:
    """Imitations of must-samples by sound ones, run through the model; None where they cannot be had.

    sound : samples that are right; their labels are the imitations' too. count : how many, at most.
    """
    spec = _imitable(must.dataset)
    listed, others = must.spread_out(_MUST), sound.spread_out(_SOUND)
    if spec is None or not len(neurons) or min(count, len(others)) < _FEWEST:
        return None
    most = table_room(job.engine.settings.memory, job.engine.reserved_bytes) * _SHARE
    each = 4 * math.prod(must.dataset.plans[0][spec.name].shape)
    at_once = int(most / each - 3 * len(listed) - 2 * len(others)) // 6
    if at_once < _AT_ONCE:
        return None
    places = np.searchsorted(must.rows, listed.rows)
    held = _inputs(others, spec)
    spoiling = Spoiling.of((_inputs(listed, spec), listed.labels), (held, others.labels))
    if not len(spoiling.number):
        return None
    rng = np.random.default_rng(job.seed)
    which, chosen = (rng.integers(0, len(each), count) for each in (spoiling.number, held))
    tables = []
    for start in range(0, count, at_once):
        part = slice(start, start + at_once)
        made = spoiling.on(held[chosen[part]], which[part], rng)
        view = _view(made, others.labels[chosen[part]], must.dataset, spec)
        tables.append(gather(job.subject, view, neurons, job.engine, _WHERE))
    return Imitated(stacked(tables), places[spoiling.number[which]])


def imitated_samples(must: View, lock: View) -> View | None:
    """Samples in whose place as many imitations are run, for a plan of the passes; None: it is not tried."""
    found = lock.spread_out(IMITATIONS)
    return None if _imitable(must.dataset) is None or len(found) < _FEWEST or not len(must) else found


def _imitable(dataset: Dataset) -> InputSpec | None:
    """The only input of the samples, where it takes numbers that have others in between."""
    specs = [plan.spec for name, plan in dataset.plans[0].items() if dataset.parts[0].columns[name].shape]
    if dataset.sizes or dataset.several or len(specs) != 1 or specs[0].dtype == "object":
        return None
    kind = np.dtype(specs[0].dtype)
    return specs[0] if kind.kind == "f" or kind == np.uint8 else None


def _inputs(view: View, spec: InputSpec) -> np.ndarray:
    """What the model takes of each sample, (n, D) float32."""
    batches = (feeds[spec.name] for feeds, _, _ in view.batches(_AT_ONCE))
    return np.concatenate([batch.reshape(len(batch), -1).astype(np.float32) for batch in batches])


def _view(made: np.ndarray, labels: np.ndarray, like: Dataset, spec: InputSpec) -> View:
    """Samples (n, D) float32 as the model takes them."""
    kind = np.dtype(spec.dtype)
    array = (np.rint(made) if kind.kind == "u" else made).astype(kind)
    column = ArrayColumn(_WHERE, array.reshape(len(made), *like.plans[0][spec.name].shape))
    part = Part(_WHERE, _WHERE, {spec.name: column}, labels, _WHERE, ())
    plans = ({spec.name: make_plan(column, spec, Preprocess())},)
    return View(Dataset(labels, (spec.name,), None, (part,), plans), np.arange(len(labels)))
