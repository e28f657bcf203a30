"""What does each of onnxtweak's methods reach on one base, and how is any other net read beside them?

One sweep over the base's hidden values serves all methods, by the machinery of `onnxtweak compare`. They
learn from the held-out samples, which onnxtweak divides into fit and validation by itself.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

import onnxtweak
from benchmarks.science.thesis.data import as_file, divide
from benchmarks.science.thesis.recipes import Recipe
from benchmarks.science.thesis.sizes import Options
from benchmarks.science.thesis.train import Trained, trained
from onnxtweak.commands.compare import gather_inputs
from onnxtweak.goal import ResolvedGoal
from onnxtweak.method.compare.comparison import CURVE, MethodResult, judge, readings
from onnxtweak.method.compare.inputs import CompareInputs
from onnxtweak.method.compare.methods import METHODS as TABLE_METHODS
from onnxtweak.method.metrics import harm, measure
from onnxtweak.patch import Linear
from onnxtweak.settings import DataSettings, EngineSettings, FitSettings, JoinSettings, TapSettings
from onnxtweak.stages.open_for_tables import open_for_tables
from onnxtweak.stages.open_job import Job
from onnxtweak.types import silent

# The thesis's calibration: the softmax times mu on the target and 1 - mu elsewhere (3.3.2).
MU = 0.9
METHODS = (
    "bias",
    "calibration, mu = 0.9",
    "join",
    "join + bias",
    "SR-1",
    "SR-1 + bias",
    "SR-1 + bias, random neurons",
    "SR-2",
    "random-n refit",
    "AAN",
    "fit",
)
_EQUAL, _ONE = CURVE.index(0.0), CURVE.index(1.0)


@dataclass(frozen=True)
class Reading:
    """Test samples under a method.

    target, overall : accuracies as it stands, at its own operating point. at_equal : the best target accuracy
    that biases on top of it reach where the overall accuracy is not below the base's; set on test for all
    methods alike, NaN: not reached. at_one : the same, one point below the base's. E : of Eq. 3.3, in
    points. per_class (C,). seconds : of learning.
    """

    target: float
    overall: float
    at_equal: float
    at_one: float
    E: float
    per_class: tuple[float, ...]
    seconds: float = 0.0
    parameters: int = 0
    note: str = ""


Readings = dict[str, Reading]


@dataclass(frozen=True)
class Bench:
    """A base, and all that onnxtweak's methods need of it. samples : file with `fit` and `test`."""

    base: Trained
    samples: Path
    job: Job
    inputs: CompareInputs

    @property
    def targets(self) -> np.ndarray:
        return self.inputs.goal.targets


def weakest(base: Trained, labels: np.ndarray, count: int = 1) -> tuple[int, ...]:
    """The classes that the base does worst on the held-out samples; labels (n,) are theirs. Ascending."""
    right = base.held.argmax(axis=1) == labels
    by_class = [right[labels == c].mean() for c in range(base.held.shape[1])]
    return tuple(sorted(int(c) for c in np.argsort(by_class, kind="stable")[:count]))


def open_bench(
    recipe: Recipe,
    targets: Sequence[int],
    options: Options,
    *,
    taps: Sequence[str] = (),
    join: JoinSettings = JoinSettings(),
    settings: FitSettings = FitSettings(),
) -> Bench:
    """Score and gather. taps : as in `onnxtweak compare`, of which the default is all activations."""
    base = trained(recipe, options.data, options.work)
    samples = as_file(recipe.sample, options.data, options.work)
    data = DataSettings((f"{samples}#fit",), test=(f"{samples}#test",), seed=recipe.seed)
    engine = EngineSettings(device="cpu", threads=1)
    watched = TapSettings(taps=tuple(taps))
    job = open_for_tables(str(base.model), data, engine, watched, silent)
    goal = ResolvedGoal(np.array(sorted(targets)), max_overall_drop=settings.max_overall_drop)
    inputs, _, _ = gather_inputs(job, watched, goal, join, settings, recipe.seed)
    return Bench(base, samples, job, inputs)


def readings_of(
    recipe: Recipe,
    targets: Sequence[int],
    options: Options,
    methods: Sequence[str] = METHODS,
    *,
    taps: Sequence[str] = (),
    join: JoinSettings = JoinSettings(),
    settings: FitSettings = FitSettings(),
) -> Readings:
    """Every method by its name; `settings.max_overall_drop` is what the methods may lose.

    Kept in WORK/readings under a digest of all that determines them, onnxtweak's own source included.
    """
    asked = [recipe.name, sorted(targets), list(taps), asdict(join), asdict(settings), _source()]
    digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:10]
    path = options.work / "readings" / f"{recipe.name}-{digest}.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    missing = [name for name in methods if name not in known]
    if missing:
        bench = open_bench(recipe, targets, options, taps=taps, join=join, settings=settings)
        for name in missing:
            since = time.perf_counter()
            result = try_method(name, bench.inputs)
            known[name] = asdict(read_result(bench, result, time.perf_counter() - since))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(known), encoding="utf-8")
    return {name: Reading(**known[name]) for name in methods}


def try_method(name: str, of: CompareInputs) -> MethodResult:
    """What a method offers: onnxtweak's own, or the thesis's where that differs."""
    if name == "calibration, mu = 0.9":
        nothing = Linear(np.zeros((0, of.classes)), np.zeros(of.classes))
        Z, labels = of.validation.Z, of.validation.labels
        point = np.full(len(of.goal), np.log(MU / (1 - MU)))
        return MethodResult(np.empty(0, np.int64), nothing, Z, Z, labels, point=point)
    if name in ("SR-1", "SR-2"):  # the thesis's have no bias
        return replace(TABLE_METHODS[name](of), point=np.zeros(len(of.goal)))
    if name == "SR-1 + bias":
        return TABLE_METHODS["SR-1"](of)
    if name == "SR-1 + bias, random neurons":
        most = max(of.join.count)
        drawn = [of.random[t * most : (t + 1) * most] for t in range(len(of.goal))]
        return TABLE_METHODS["SR-1"](replace(of, joined=drawn))
    return TABLE_METHODS[name](of)


def read_result(bench: Bench, result: MethodResult, seconds: float = 0.0) -> Reading:
    """The operating point is set on held-out samples; then test is read."""
    of, settings = bench.inputs, bench.inputs.settings
    made = judge(result, of.test, of.goal, settings.margin)
    return Reading(
        made.metrics.target,
        made.metrics.overall,
        float(made.at[_EQUAL]),
        float(made.at[_ONE]),
        made.E,
        tuple(map(float, made.metrics.per_class)),
        seconds,
        result.parameters + int(np.count_nonzero(made.bias)),
        result.note,
    )


def read_logits(
    Z: np.ndarray,
    base: np.ndarray,
    labels: np.ndarray,
    targets: Sequence[int],
    seconds: float = 0.0,
    parameters: int = 0,
) -> Reading:
    """Any net, as it stands. Z, base (n, C) : its logits and the base's, on the same samples."""
    goal = ResolvedGoal(np.array(sorted(targets)))
    before, after = (measure(goal.head.predict(z), labels, goal, Z.shape[1]) for z in (base, Z))
    return Reading(
        after.target,
        after.overall,
        *map(float, readings(Z, base, labels, goal, (0.0, 1.0))),
        harm(before, after),
        tuple(map(float, after.per_class)),
        seconds,
        parameters,
    )


def thesis_rivals(
    rivals: Mapping[str, Recipe], base: Recipe, targets: Sequence[int], options: Options
) -> Readings:
    """Nets that were trained, as they stand, read beside their base."""
    before = trained(base, options.data, options.work)
    labels = divide(base.sample, options.data).y_test
    found = {}
    for name, recipe in rivals.items():
        net = trained(recipe, options.data, options.work)
        found[name] = read_logits(net.test, before.test, labels, targets, net.seconds, net.parameters)
    return found


@cache
def _source() -> str:
    """Digest of the program whose methods are read."""
    folder = Path(onnxtweak.__file__).parent
    files = [*sorted(folder.rglob("*.py")), Path(__file__)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
