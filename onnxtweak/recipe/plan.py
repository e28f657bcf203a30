"""What does a recipe ask for? The plan: settings for each of its tweaks, and the gates they must pass."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from onnxtweak.settings import DataSettings, EngineSettings, TapSettings, TargetSettings


@dataclass(frozen=True)
class Gates:
    """Limits on test figures; None: no limit. Drops, gains and E are percentage points.

    max_latency_increase : percent. min_mcnemar : confidence, 1 - p, that more is fixed than broken.
    """

    min_target_gain: float | None = None
    max_overall_drop: float | None = None
    max_class_drop: float | None = None
    max_E: float | None = None
    max_latency_increase: float | None = None
    min_mcnemar: float | None = None


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


@dataclass(frozen=True)
class ComparePlan:
    """The [compare] table: all methods, or `methods`, on the same samples. repeats : splits to average over.

    sha256 : of everything in the recipe that shapes it.
    """

    sha256: str
    taps: TapSettings
    targets: TargetSettings
    methods: tuple[str, ...] = ()
    repeats: int = 1


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
