"""What does a recipe ask for? Settings for each of its tweaks, and the limits they must keep."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from onnxtweak.settings import (
    AugmentSettings,
    DataSettings,
    EngineSettings,
    FitSettings,
    JoinSettings,
    RetrainSettings,
    TapSettings,
    TargetSettings,
)


@dataclass(frozen=True)
class Method:
    """A way to make a tweak. settings : by the name under which the job takes them; the first are its own.

    targeted : whether it is told for which classes. for_all : whether all classes are meant where it is not
    told. taps : what it watches when nobody says.
    """

    settings: dict[str, type]
    targeted: bool = True
    for_all: bool = False
    taps: tuple[str, ...] = TapSettings.taps


# The methods of a [[tweak]], by the name of their command.
METHODS = {
    "join": Method({"join": JoinSettings}),
    "retrain": Method({"retrain": RetrainSettings, "join": JoinSettings}),
    "fit": Method({"fit": FitSettings}, for_all=True, taps=()),
    "augment": Method({"augment": AugmentSettings}, targeted=False),
}


@dataclass(frozen=True)
class Gates:
    """Limits on test figures; None: no limit. Drops, gains and E in percentage points.

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
    """One [[tweak]]. options : settings of its method, by the name under which the job takes them.

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
    """The [compare]: every method, or `methods`, on the same samples. repeats : splits to average over.

    sha256 : of everything in the recipe that shapes it.
    """

    sha256: str
    taps: TapSettings
    targets: TargetSettings
    methods: tuple[str, ...] = ()
    repeats: int = 1


@dataclass(frozen=True)
class Recipe:
    """A recipe, read. path : of its file. directory : where results go. cache : what later runs find again.

    sha256 : of all its tweaks and gates, after overrides; not of comments, paths and machine.
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
