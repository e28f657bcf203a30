"""What does each command return? One frozen dataclass per kind of result; nothing is computed here.

`onnxtweak.report.schema` says how they look as JSON. Paths are as the user gave them, digests are sha256 in
hex, accuracies fractions in [0, 1], drops and E percentage points, seconds wall time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from onnxtweak.listed import ListedOutcome
from onnxtweak.other_answers import MatchOutcome, Rewritten, RuntimeRun
from onnxtweak.patch import Tweak
from onnxtweak.types import (
    Check,
    FileRef,
    Finding,
    GroupMetrics,
    MetricChange,
    MetricReading,
    Metrics,
    Tap,
    Trial,
    Unchecked,
)
from onnxtweak.verdict import GroupChange, Verdict

HIDDEN = {"json": False}  # of a field that is for programs alone
Shape = tuple[int | None, ...]  # None: an axis whose length is not fixed
Value = tuple[str, str | None, Shape | None]  # a shape of None: any


@dataclass(frozen=True)
class Inspection:
    """What a model holds. inputs, outputs : (name, dtype, shape). logits : (name, rule, sentence). kind : as
    in `HeadKind`. class_axis : which axis of scores at positions counts the classes, where one does. taps :
    those that the selectors choose. candidates : (name, op, dtype, shape, neurons, whether it is an
    activation) of every tensor that can be watched. neurons : of all taps together. tweaks : one dict per
    tweak that the model already contains."""

    model: FileRef
    opset: dict[str, int]
    ir_version: int
    producer: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    logits: tuple[str, str, str]
    kind: str
    classes: int | None
    taps: tuple[Tap, ...]
    candidates: tuple[tuple[str, str, str, tuple[int, ...] | None, int, bool], ...]
    neurons: int
    tweaks: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()
    class_axis: int | None = None


@dataclass(frozen=True)
class Choice:
    """The operating point of a patch, and what it was chosen from.

    targets : class names, or numbers as text, in the order asked for. n, scale : one per target, as in
    `Trial`. neurons : how many were scored. curve : the best target accuracy for each drop in overall
    accuracy, on validation.
    """

    targets: tuple[str, ...]
    n: tuple[int, ...]
    scale: tuple[float, ...]
    theta: str
    criterion: str
    neurons: int
    curve: tuple[Trial, ...]


@dataclass(frozen=True)
class Measurement:
    """Base, tweaked model and bias control on the same samples.

    split : "test", or "validation" or "listed" where there are no others. fixed, broken : samples that only
    the tweaked model, or only the base, gets right. mcnemar_p : exact, of these two. E : harm to the classes.
    verdict : which promises were kept.
    """

    split: str
    before: Metrics
    after: Metrics
    bias_control: Metrics
    fixed: int
    broken: int
    mcnemar_p: float
    E: float
    verdict: Verdict


@dataclass(frozen=True)
class RunFacts:
    """What a run cost, and where it took place.

    seconds : by stage, "all" for the whole. passes : name and samples of every pass over data, in order.
    device : where model and arithmetic really ran.
    """

    seconds: dict[str, float]
    passes: tuple[tuple[str, int], ...]
    device: dict[str, Any]


@dataclass(frozen=True)
class Result:
    """What every command that makes a patch returns: the same parts for every method.

    output : None where no model was written. tweak : kind, parameters and synapses. made : the tweak itself,
    which is no part of the JSON. samples : sizes of splits
    and lists. classes : all names. evidence : of a report; see `onnxtweak.stages.report_data`. listed : what
    became of listed samples. metric : what became of the metric that was asked for, if one was. matched : how
    the copy agrees with a reference, where it was matched to one: then what is measured as accuracy is
    agreement.
    """

    command: str
    model: FileRef
    output: FileRef | None
    tweak: dict[str, Any]
    choice: Choice
    samples: dict[str, int]
    measured: Measurement
    run: RunFacts
    checks: tuple[Check, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)
    listed: ListedOutcome | None = None
    metric: MetricChange | None = None
    matched: MatchOutcome | None = None
    made: Tweak | None = field(default=None, compare=False, metadata=HIDDEN)

    def __repr__(self) -> str:
        old, new = self.before, self.after
        what = f"targets {old.target:.1%} -> {new.target:.1%}, overall {old.overall:.1%} -> {new.overall:.1%}"
        return f"<Result of {self.command} on {self.measured.split}: {what}>"

    @property
    def verdict(self) -> Verdict:
        """Which promises were kept."""
        return self.measured.verdict

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the target classes."""
        return self.choice.targets

    @property
    def before(self) -> Metrics:
        """How the base does."""
        return self.measured.before

    @property
    def after(self) -> Metrics:
        """How the tweaked model does."""
        return self.measured.after

    @property
    def bias_control(self) -> Metrics:
        """How the base does with the best constant added to the logit of each target."""
        return self.measured.bias_control


@dataclass(frozen=True)
class Evaluation:
    """How a model does.

    classes : all names. targets : those asked for. groups : by column, worst first. unit : what was counted,
    "samples" or "positions". readings : of the metrics asked for.
    """

    model: FileRef
    metrics: Metrics
    classes: tuple[str, ...]
    targets: tuple[str, ...]
    seconds: dict[str, float]
    device: dict[str, Any]
    notes: tuple[str, ...] = ()
    groups: tuple[GroupMetrics, ...] = ()
    unit: str = "samples"
    readings: tuple[MetricReading, ...] = ()


@dataclass(frozen=True)
class Applied:
    """A tweak written into its base. adapters : files that fill the slot, where the output has one."""

    model: FileRef
    output: FileRef
    tweak: dict[str, Any]
    checks: tuple[Check, ...]
    seconds: dict[str, float]
    adapters: tuple[FileRef, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dumped:
    """Tables of hidden values and logits on disk. bytes : of all shards together."""

    directory: str
    shards: int
    samples: int
    neurons: int
    bytes: int
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scored:
    """Theta of every neuron. top : the best few per target. dropped : neurons with NaN or infinite values."""

    output: FileRef | None
    neurons: int
    targets: tuple[str, ...]
    top: tuple[dict[str, Any], ...]
    dropped: int
    run: RunFacts
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReportPage:
    """A page drawn from results. results : the files they were read from. made_by : the commands."""

    results: tuple[FileRef, ...]
    output: FileRef
    made_by: str


@dataclass(frozen=True)
class Reverted:
    """A model without its last tweaks. tweaks : one dict per tweak that was removed, the last first."""

    model: FileRef
    output: FileRef
    tweaks: tuple[dict[str, Any], ...]
    checks: tuple[Check, ...]
    seconds: dict[str, float]


@dataclass(frozen=True)
class ModelDiff:
    """Two models side by side. differences : dicts of kind, where, detail, and expected: whether a tweak
    accounts for it. tweaks : one dict per tweak that only `tweaked` contains. checks : passed where nothing
    but the tweaks differs. unchecked : what could not be compared.
    """

    base: FileRef
    tweaked: FileRef
    differences: tuple[dict[str, Any], ...]
    tweaks: tuple[dict[str, Any], ...]
    checks: tuple[Check, ...]
    unchecked: tuple[Unchecked, ...] = ()


@dataclass(frozen=True)
class Verified:
    """A tweaked model, verified again. before, after : base and model on the samples given; None without.

    base : its path is empty where it was rebuilt from the tweaked file; None where it could not be.
    unchecked : the checks that could not be made. rewritten : the file that was compared with the model,
    which alone was checked then. runtimes : those that were asked for, and run the base. groups : by column,
    the worst before first. unit : what was counted, "samples" or "positions".
    """

    model: FileRef
    base: FileRef | None
    tweaks: tuple[dict[str, Any], ...]
    checks: tuple[Check, ...]
    before: Metrics | None
    after: Metrics | None
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()
    unchecked: tuple[Unchecked, ...] = ()
    rewritten: Rewritten | None = None
    runtimes: tuple[RuntimeRun, ...] = ()
    groups: tuple[GroupChange, ...] = ()
    unit: str = "samples"


@dataclass(frozen=True)
class RunResult:
    """A recipe that was run. results : the JSON document of each tweak's result, by name, with its gates.
    cached : tweaks that an earlier run had made. shipped : whether the models were delivered. files : all
    that `directory` now holds, except for the list of their digests.
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
        """Gates that failed, as `tweak: gate`."""
        return tuple(
            f"{name}: {gate['name']}"
            for name, made in self.results.items()
            for gate in made["gates"]
            if not gate["passed"]
        )


@dataclass(frozen=True)
class RecipeWritten:
    """A new recipe for a model and its data."""

    output: FileRef
    model: FileRef
    samples: dict[str, int]
    classes: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Diagnosis:
    """What works on a machine, and what does not."""

    findings: tuple[Finding, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The findings that keep onnxtweak from working."""
        return tuple(finding for finding in self.findings if finding.state == "problem")
