"""What does each command do? Its job is on one screen, made of stages; no command imports another.

The command line and the Python API (`onnxtweak.api`) call the same functions. `run`, `demo` and `dry_run`
carry out or plan other commands.

join       synaptic join
retrain    synaptic retraining, once or by a schedule
augment    an MLP on active neurons, for all classes
fit        the best patch that the tables allow
match      a copy patched towards the decisions of a reference
compare    every method on the same samples
evaluate   how good is a model?
inspect    what is in a model, and can it be tweaked?
dump       tables of hidden values and logits, on disk
score      theta of every neuron
apply      a saved tweak written into its base
slot       a model that takes a different tweak in each call
revert     a tweak removed again
diff       every difference between two models
verify     a tweaked file checked again
report     the HTML page of a result
init       a recipe for a model and data
run        a recipe carried out
dry_run    what a command would do, and how long it would take
demo       the main job on the model and samples that come with onnxtweak
doctor     what works on this machine?
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnxtweak.commands.apply import apply
    from onnxtweak.commands.augment import augment
    from onnxtweak.commands.compare import compare
    from onnxtweak.commands.demo import demo
    from onnxtweak.commands.diff import diff
    from onnxtweak.commands.doctor import doctor
    from onnxtweak.commands.dry_run import forecast
    from onnxtweak.commands.dump import dump
    from onnxtweak.commands.evaluate import evaluate
    from onnxtweak.commands.fit import fit
    from onnxtweak.commands.init import init
    from onnxtweak.commands.inspect import inspect
    from onnxtweak.commands.join import join
    from onnxtweak.commands.match import match
    from onnxtweak.commands.report import report
    from onnxtweak.commands.retrain import retrain
    from onnxtweak.commands.revert import revert
    from onnxtweak.commands.run import plan, run
    from onnxtweak.commands.score import score
    from onnxtweak.commands.slot import slot
    from onnxtweak.commands.verify import verify

__all__ = [
    "apply",
    "augment",
    "compare",
    "demo",
    "diff",
    "doctor",
    "dump",
    "evaluate",
    "fit",
    "forecast",
    "init",
    "inspect",
    "join",
    "match",
    "plan",
    "report",
    "retrain",
    "revert",
    "run",
    "score",
    "slot",
    "verify",
]

_FILES = {"forecast": "dry_run", "plan": "run"}  # of functions that are named otherwise


def __getattr__(name: str) -> Any:
    # When it is asked for: `inspect` must not wait for what `fit` loads.
    if name in __all__:
        return getattr(import_module(f"{__name__}.{_FILES.get(name, name)}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Functions(ModuleType):
    """Importing a file would put its module where the function of the same name is wanted."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Functions
