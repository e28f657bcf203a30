"""What each command hands back, nouns for the reports, nothing computed here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from onnxtweak.types import Check, FileRef, Metrics, Tap, Trial

Value = tuple[str, str | None, tuple[int | None, ...]]


@dataclass(frozen=True)
class Inspection:
    """What is in a model. inputs, outputs : (name, dtype, shape). logits : (name, rule, sentence).

    taps : those the selectors choose. candidates : (name, op, dtype, shape, neurons, is an activation) of
    everything that can be watched. neurons : of all taps together. tweaks : one dict per tweak inside.
    """

    model: FileRef
    opset: dict[str, int]
    ir_version: int
    producer: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    logits: tuple[str, str, str]
    classes: int | None
    taps: tuple[Tap, ...]
    candidates: tuple[tuple, ...]
    neurons: int
    tweaks: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """What a command that makes a patch reports: JSON schema 1, the same keys for every method.

    split : which split `before`, `after`, `bias_control`, `fixed`, `broken`, `mcnemar_p` and `E` are of.
    targets : class names or numbers as text, in the order asked for. n, scale : one per target.
    neurons : how many neurons were scored. samples : sizes of fit, validation, test.
    curve : the best target accuracy for each drop in overall accuracy, on validation.
    evidence : what the pictures of a report are drawn from; see `onnxtweak.stages.report_data`.
    seconds : wall time by stage. passes : name and samples of every pass over data, in order.
    """

    command: str
    model: FileRef
    output: FileRef | None
    tweak: dict[str, Any]
    targets: tuple[str, ...]
    n: tuple[int, ...]
    scale: tuple[float, ...]
    theta: str
    criterion: str
    neurons: int
    samples: dict[str, int]
    split: str
    before: Metrics
    after: Metrics
    bias_control: Metrics
    fixed: int
    broken: int
    mcnemar_p: float
    E: float
    curve: tuple[Trial, ...]
    seconds: dict[str, float]
    passes: tuple[tuple[str, int], ...]
    device: dict[str, Any]
    checks: tuple[Check, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """How a model does on samples. classes : names. targets : names of those asked for."""

    model: FileRef
    metrics: Metrics
    classes: tuple[str, ...]
    targets: tuple[str, ...]
    seconds: dict[str, float]
    device: dict[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Applied:
    """A tweak written into its base. adapters : files that fill a slot, where the output has one."""

    model: FileRef
    output: FileRef
    tweak: dict[str, Any]
    checks: tuple[Check, ...]
    seconds: dict[str, float]
    adapters: tuple[FileRef, ...] = ()


@dataclass(frozen=True)
class Dumped:
    """Tables on disk. bytes : of all shards together."""

    directory: str
    shards: int
    samples: int
    neurons: int
    bytes: int
    seconds: dict[str, float]


@dataclass(frozen=True)
class Scored:
    """Theta of every neuron. top : the best few per target. dropped : neurons that were NaN or infinite."""

    output: FileRef | None
    neurons: int
    targets: tuple[str, ...]
    top: tuple[dict[str, Any], ...]
    dropped: int
    seconds: dict[str, float]
    passes: tuple[tuple[str, int], ...]
    device: dict[str, Any]


@dataclass(frozen=True)
class ReportPage:
    """A page made of a result. made_by : the command that made the result."""

    result: FileRef
    output: FileRef
    made_by: str


@dataclass(frozen=True)
class Reverted:
    """Tweaks taken off again. tweaks : one dict per tweak that was taken off, the last first."""

    model: FileRef
    output: FileRef
    tweaks: tuple[dict[str, Any], ...]
    checks: tuple[Check, ...]
    seconds: dict[str, float]


@dataclass(frozen=True)
class ModelDiff:
    """Two models side by side.

    differences : dicts of kind, where, detail, and whether a tweak inside accounts for it. tweaks : one dict
    per tweak that only the second has. checks : passed where nothing but the tweaks is different.
    """

    base: FileRef
    tweaked: FileRef
    differences: tuple[dict[str, Any], ...]
    tweaks: tuple[dict[str, Any], ...]
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Verified:
    """A tweaked file, proven again. before, after : of base and file on the samples given; None without.

    base : path empty where the base was rebuilt from the tweaked file.
    """

    model: FileRef
    base: FileRef | None
    tweaks: tuple[dict[str, Any], ...]
    checks: tuple[Check, ...]
    before: Metrics | None
    after: Metrics | None
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunResult:
    """A recipe carried out. results : by tweak the document of its result, gates among it.

    cached : names of tweaks that an earlier run had made. shipped : whether models were handed over.
    files : all that lies in `directory` now, its list of digests excepted.
    """

    recipe: FileRef
    directory: str
    results: dict[str, dict[str, Any]]
    cached: tuple[str, ...]
    shipped: bool
    files: tuple[FileRef, ...]
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[str, ...]:
        """Gates that were not met, as `tweak: gate`."""
        return tuple(
            f"{name}: {gate['name']}"
            for name, made in self.results.items()
            for gate in made["gates"]
            if not gate["passed"]
        )


@dataclass(frozen=True)
class RunPlan:
    """What a recipe would do. tweaks : one dict each. files : names that would be written."""

    recipe: FileRef
    model: FileRef
    samples: dict[str, int]
    classes: int
    tweaks: tuple[dict[str, Any], ...]
    gates: dict[str, float]
    directory: str
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RecipeWritten:
    """A recipe written for a model and data."""

    output: FileRef
    model: FileRef
    samples: dict[str, int]
    classes: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class MethodStanding:
    """How one method did, as means over the repeats. An interval is (mean, standard error).

    overall, target : accuracies on test at its own operating point. at : target accuracy at each of
    `Comparison.drops`, read on test; NaN where it does not get there. over_bias : the same minus the bias
    control's, paired. curve : [drop, target] over a wider range. fixed, broken, parameters : means.
    mcnemar_p : the median. E : points. seconds : of learning, passes over data excluded. note : of the last
    repeat; for a method that does not apply the reason, and nothing else.
    """

    method: str
    overall: tuple[float, float]
    target: tuple[float, float]
    at: tuple[tuple[float, float], ...]
    over_bias: tuple[tuple[float, float], ...]
    curve: tuple[tuple[float, float], ...]
    fixed: float
    broken: float
    mcnemar_p: float
    E: tuple[float, float]
    parameters: float
    seconds: float
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """All methods on the same splits. before : overall and target accuracy of the base on test, as intervals.

    standings : in the order of the methods. drops : percentage points of overall accuracy. samples : sizes of
    fit, validation, test, of the last repeat. output, checks : of the method that was written, if one was.
    """

    model: FileRef
    targets: tuple[str, ...]
    repeats: int
    samples: dict[str, int]
    before: dict[str, tuple[float, float]]
    drops: tuple[float, ...]
    standings: tuple[MethodStanding, ...]
    seconds: dict[str, float]
    passes: tuple[tuple[str, int], ...]
    device: dict[str, Any]
    output: FileRef | None = None
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. state : "ok", "warning" or "problem". hint : what to do, where not ok."""

    name: str
    state: str
    detail: str
    hint: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """What was found on a machine."""

    findings: tuple[Finding, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        """What keeps onnxtweak from working."""
        return tuple(finding for finding in self.findings if finding.state == "problem")


@dataclass(frozen=True)
class PlannedPass:
    """Passes over the same samples, as they would be made: one for each block of neurons.

    neurons : of all blocks together; block : of the largest. taps : distinct tensors. batch : samples per run
    of the model; fold : samples that are scored at a time. state_bytes : kept between batches. value_bytes :
    hidden values that leave the model in one pass. seconds : of all passes, estimated.
    """

    name: str
    passes: int
    samples: int
    taps: int
    neurons: int
    block: int
    batch: int
    fold: int
    state_bytes: int
    value_bytes: int
    seconds: float


@dataclass(frozen=True)
class DryRun:
    """What a command would do. targets : in words.

    seconds : "all", of all steps, estimated from a few batches; what is learnt on tables comes on top.
    memory : bytes allowed; taken : of them, by the model and by samples that are held. shards : of the score
    pass, shared among `workers` processes. cached : the score pass is known from an earlier run.
    """

    command: str
    model: FileRef
    samples: dict[str, int]
    classes: int
    targets: str
    memory: int
    shards: int
    workers: int
    cached: bool
    steps: tuple[PlannedPass, ...]
    seconds: dict[str, float]
    device: dict[str, Any]
    notes: tuple[str, ...] = ()
    taken: int = 0
