"""What does a recipe ask for? The plan: settings for each of its tweaks, and the gates they must pass."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any

from onnxtweak.bounded import Bounded
from onnxtweak.quantities import Range
from onnxtweak.registry import METHODS
from onnxtweak.settings import (
    COUNT,
    FINITE,
    NOT_NEGATIVE,
    DataSettings,
    EngineSettings,
    TapSettings,
    TargetSettings,
)


@dataclass(frozen=True)
class Gates(Bounded):
    """Limits on test figures; None: no limit. Drops, gains and E are percentage points.

    max_latency_increase : percent. min_mcnemar : confidence, 1 - p, that more is fixed than broken.
    min_metric_gain, max_limit_excess : of the metric that was asked for, gained in points (per 100
    samples), and how far the rate that it limits may lie beyond the limit. min_slice_gain, max_group_drop :
    of the slice that was asked for, and of any other group of its column. refuse_copy : whether a copy of
    the base is no result. max_not_kept, max_not_shown : how many promises of the verdict may be so, the
    comparison with a bias aside. min_must_fixed : must-samples that the file gets right, as a share up to
    1, else as a number. max_lock_broken, max_keep_changed : lock-samples that break, and decisions on kept
    samples that change, as a share below 1, else as a number.
    """

    min_target_gain: Annotated[float | None, FINITE] = None
    max_overall_drop: Annotated[float | None, FINITE] = None
    max_class_drop: Annotated[float | None, FINITE] = None
    min_metric_gain: Annotated[float | None, FINITE] = None
    max_limit_excess: Annotated[float | None, FINITE] = None
    min_slice_gain: Annotated[float | None, FINITE] = None
    max_group_drop: Annotated[float | None, FINITE] = None
    max_E: Annotated[float | None, FINITE] = None
    max_latency_increase: Annotated[float | None, FINITE] = None
    min_mcnemar: Annotated[float | None, Range(least=0, below=1)] = None
    refuse_copy: bool = True
    max_not_kept: Annotated[int | None, NOT_NEGATIVE] = 0
    max_not_shown: Annotated[int | None, NOT_NEGATIVE] = None
    min_must_fixed: Annotated[float | None, NOT_NEGATIVE] = None
    max_lock_broken: Annotated[float | None, NOT_NEGATIVE] = None
    max_keep_changed: Annotated[float | None, NOT_NEGATIVE] = None

    @property
    def limits(self) -> dict[str, float]:
        """What is judged, by the words of a recipe; `refuse-copy` as the number of copies that may be."""
        found = {key.replace("_", "-"): limit for key, limit in asdict(self).items() if limit is not None}
        return found | {"refuse-copy": 0} if found.pop("refuse-copy") else found


GATES = tuple(field.name.replace("_", "-") for field in fields(Gates))


@dataclass(frozen=True)
class TweakPlan:
    """One [[tweak]]. options : settings of its method, by the keyword under which the job takes them.

    sha256 : of everything in the recipe that shapes this tweak, and nothing else.
    """

    name: str
    sha256: str
    method: str
    taps: TapSettings
    targets: TargetSettings
    options: dict[str, Any]

    @property
    def files(self) -> tuple[str, ...]:
        """The files that its settings name."""
        return METHODS[self.method].files_of(self.options["settings"])


@dataclass(frozen=True)
class ComparePlan(Bounded):
    """The [compare] table: all methods, or `methods`, on the same samples.

    metric : instead of accuracy. repeats : splits to average over.

    sha256 : of everything in the recipe that shapes it.
    """

    sha256: str
    taps: TapSettings
    targets: TargetSettings
    methods: tuple[str, ...] = ()
    metric: str | None = None
    repeats: Annotated[int, COUNT] = 1


@dataclass(frozen=True)
class Recipe:
    """A recipe that has been read.

    path : of its file. sha256 : of all its tweaks and gates, after overrides; comments, paths and machine do
    not count. directory : where results go. cache : folder of what later runs reuse.
    """

    path: str
    sha256: str
    model: str
    data: DataSettings
    engine: EngineSettings
    tweaks: tuple[TweakPlan, ...]
    gates: Gates
    directory: str
    cache: str
    compare: ComparePlan | None = None
