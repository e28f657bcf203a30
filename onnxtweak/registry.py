"""Which methods are commands? The registry: name, settings, targets and default taps of each.

The job of method NAME is `onnxtweak.commands.NAME.NAME`; the passes over samples that it would make are
planned by `onnxtweak.commands.NAME.passes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnxtweak.settings import (
    AugmentSettings,
    FitSettings,
    JoinSettings,
    MatchSettings,
    RetrainSettings,
    TapSettings,
)


@dataclass(frozen=True)
class Method:
    """A way to make a tweak.

    settings : settings classes by the keyword under which the job takes them; those under `settings` are the
    method's own. targeted : whether it takes target classes. for_all : whether it may go without, for all
    classes. taps : selectors of what it watches by default; none: it chooses. files : its own settings that
    name a file, without which it cannot do. unlabelled : whether it learns from samples without labels.
    """

    name: str
    settings: Mapping[str, type]
    targeted: bool = True
    for_all: bool = False
    taps: tuple[str, ...] = TapSettings.taps
    files: tuple[str, ...] = ()
    unlabelled: bool = False

    def files_of(self, settings: object) -> tuple[str, ...]:
        """The files that its own settings name."""
        return tuple(getattr(settings, name) for name in self.files)


METHODS = {
    method.name: method
    for method in (
        Method("join", {"settings": JoinSettings}),
        Method("retrain", {"settings": RetrainSettings, "join": JoinSettings}),
        Method("fit", {"settings": FitSettings}, for_all=True, taps=()),
        Method("augment", {"settings": AugmentSettings}, targeted=False),
        Method(
            "match",
            {"settings": MatchSettings},
            targeted=False,
            taps=(),
            files=("reference",),
            unlabelled=True,
        ),
    )
}
