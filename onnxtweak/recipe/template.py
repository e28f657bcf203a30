"""What is in the recipe that `init` writes? The template: every key explained, defaults commented out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from onnxtweak.recipe.values import key_of
from onnxtweak.registry import METHODS
from onnxtweak.settings import FitSettings, Preprocess

_SHOWN = 12  # classes and tensors that a comment lists


def template(
    *,
    model: str,
    data: Mapping[str, Any],
    preprocess: Preprocess,
    targets: Sequence[str],
    classes: Sequence[str],
    samples: Mapping[str, int],
    taps: Sequence[tuple[str, int]],
) -> str:
    """The text of a recipe. classes : all names. taps : (name, neurons) of each tensor to be watched."""
    return f"""\
# A recipe for `onnxtweak run`. Paths are relative to this file. Any key can be overridden:
# `--set gates.max-E=1`, `--set tweak.NAME.count=[1,10]`, or a variable such as ONNXTWEAK_ENGINE_DEVICE=cpu.

[model]
path = {_value(model)}
# logits = "NAME"               # default: found in the graph
# threshold = 0.5               # of a model that shows one probability
# class-axis = 1                # of scores at positions: the axis that counts the classes

[data]                          # {_counts(samples)}
{_table(data)}
# names = "names.txt"           # class names, one per line
# inputs = {{ sr = 16000 }}       # one value for all samples, of inputs such as rates and states
# seed = 0                      # of the split, where val or test is not given
# anyway = false                # true: learn even if the model only guesses on these samples

[preprocess]                    # how raw samples become the model's input
{_preprocessing(preprocess)}

[engine]
device = "auto"                 # auto, cpu, cuda, cuda:0
# memory = "4GiB"

[goal]                          # of every [[tweak]]; what a tweak says itself wins
{_targets(targets)}
# {len(classes):,} classes: {_listed(classes)}
# slice = "COLUMN"              # instead: the worst group of samples by a column of the data, or COLUMN=VALUE
# max-overall-drop = {FitSettings.max_overall_drop:.1f}        # percentage points that may be lost
# max-class-drop = 5.0          # the same of any class
# must = ["wrong.npz"]          # samples that have to become right; of method fit
# lock = ["right.npz"]          # samples that are right and have to stay so; keep: the same for any decision

# One [[tweak]] for each model to build. Methods: {", ".join(METHODS)}.
[[tweak]]
name = "tweaked"                # files are named after it
method = "fit"
# taps = ["activations", "penultimate"]  # or stages, blocks, op:TYPE, tensor names
# {len(taps):,} tensors can be watched: {_listed([f"{name} ({neurons:,})" for name, neurons in taps])}
# pool = ["mean", "std"]        # of each channel: mean, std, max, grid2; none: each position a neuron
# margin = {FitSettings.margin:.1f}                  # standard errors to stay clear of the limits of the goal
# hidden = {FitSettings.hidden}                   # units of the hidden layer that is tried too; 0: none

[gates]                         # judged on test samples; if one fails, no model is delivered
min-target-gain = 0.0           # points
max-overall-drop = 0.5          # points
# max-class-drop = 5.0          # points, of any class
# max-E = 2.0                   # points, root mean square of the classes' losses
# max-latency-increase = 5.0    # percent
# min-mcnemar = 0.95            # confidence that more is fixed than broken
# max-not-kept = 0              # promises of the verdict that may be broken
# max-not-shown = 0             # and those that the test samples may leave open; default: all
# min-must-fixed = 1.0          # must-samples that are right: a share, or above 1 a number
# max-lock-broken = 0           # lock-samples that break: a number, or below 1 a share
# max-keep-changed = 0.01       # decisions on kept samples that change: a number, or below 1 a share
# refuse-copy = true            # a copy of the base, where nothing did better, is no result

[output]
directory = "build"
# cache = ".onnxtweak"          # what later runs reuse
"""


def _value(value: Any) -> str:
    """A TOML value. JSON writes text as TOML does, except for one character."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_value(key)} = {_value(item)}" for key, item in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _table(values: Mapping[str, Any]) -> str:
    return "\n".join(f"{key} = {_value(value)}" for key, value in values.items() if value not in (None, []))


def _preprocessing(preprocess: Preprocess) -> str:
    given = {key_of(f.name): getattr(preprocess, f.name) for f in fields(preprocess)}
    lines = _table({key: list(v) if isinstance(v, tuple) else v for key, v in given.items() if v is not None})
    return lines or '# pixel-scale = "1/255"\n# mean = [0.485, 0.456, 0.406]\n# std = [0.229, 0.224, 0.225]'


def _targets(targets: Sequence[str]) -> str:
    if targets:
        return f"target = {_value(list(targets))}"
    return 'worst = 3                       # or target = ["NAME", "NAME"]'


def _counts(samples: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {role}" for role, count in samples.items())


def _listed(names: Sequence[str]) -> str:
    """Names in a comment: quoted, so that no name can end the line."""
    more = f", and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(_value(name) for name in names[:_SHOWN]) + more
