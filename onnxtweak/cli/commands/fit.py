"""`onnxtweak fit`: the best patch that the samples allow."""

from __future__ import annotations

import functools
from typing import Any

from onnxtweak import settings
from onnxtweak.cli.console import Console
from onnxtweak.cli.options.data import listed_options
from onnxtweak.cli.options.fitting import (
    hidden_option,
    learning_tap_options,
    margin_option,
    mirror_option,
    table_neurons_option,
)
from onnxtweak.cli.options.groups import command, gathered, option
from onnxtweak.cli.options.method import class_drop_option
from onnxtweak.cli.options.shared import (
    TABLES,
    dry_run_option,
    engine_options,
    metric_option,
    model_argument,
    optional_target_options,
    output_options,
    reporting_options,
)
from onnxtweak.cli.options.values import Number, Whole
from onnxtweak.cli.output import carry_out, inspect_it

_method = functools.partial(option, "Method")

_fit_options = gathered(
    "settings",
    settings.FitSettings,
    _method(
        "--max-overall-drop",
        type=Number(),
        default=settings.FitSettings.max_overall_drop,
        show_default=f"{settings.FitSettings.max_overall_drop:g}",
        brief="Points of overall accuracy that may be lost [default: 0].",
        help="Percentage points of overall accuracy that may be lost; -2: at least 2 must be gained.",
    ),
    class_drop_option(settings.FitSettings.max_class_drop),
    margin_option,
    table_neurons_option,
    hidden_option,
    mirror_option,
    _method(
        "--budget",
        type=Whole(settings.FitSettings, "budget"),
        metavar="N",
        brief="Maximum number of parameters in the patch.",
        help="Maximum number of parameters in the patch, weights and biases together. Its few neurons are "
        "then chosen by matching pursuit or by an elastic net, for all classes or for the targets alone, "
        "whichever is better [default: no limit].",
    ),
    _method(
        "--synapses",
        type=Whole(settings.FitSettings, "synapses"),
        metavar="N",
        help="The same for weights alone: connections from a hidden neuron to a class [default: no limit].",
    ),
    _method(
        "--slice",
        metavar="COLUMN[=VALUE]",
        help="Instead of classes, improve a group of samples by a column of the data, as for --group: the "
        "one named, or the worst. Its samples count up to 20 times as much in the joint fit. The column "
        "is needed for learning and judging, never by the new model.",
    ),
    metric_option(
        "Instead of accuracy, improve this: balanced or worst-class accuracy, F1 (of class 1 of two, else "
        "the mean over classes), mean IoU, mean cost by a table in a CSV file, within the drops allowed; or "
        "the recall of class 1, at a limit that new samples keep in 84 of 100 cases (--margin 1).",
    ),
    _method(
        "--certify",
        type=Number(),
        metavar="LEVEL",
        help="Weaken the patch until at most this share of all samples, such as 0.02, is expected to become "
        "wrong. Validation samples are reserved for this check.",
    ),
)


@command("fit", "onnxtweak fit model.onnx -d held-out.npz --test test.npz -t cat -o tweaked.onnx")
@model_argument
@listed_options
@optional_target_options
@learning_tap_options
@_fit_options
@engine_options(*TABLES)
@output_options("The new model.", tweak=True)
@dry_run_option
@reporting_options
def fit(dry_run: bool, console: Console, form: str, **asked: Any) -> None:
    """Improve classes with the best patch that the samples allow.

    The command to begin with. Target classes get better; no other class may lose more than --max-class-drop
    points, and the verdict names the one that pays. Samples that the model was not trained on give much
    better patches. If a constant added to a class's score does as well, that is the answer; if nothing helps,
    it is the base.

    All classes are fitted jointly from hidden neurons, which raises the overall accuracy; the surplus over
    --max-overall-drop is then spent on the target classes by exact biases. Without a target nothing is spent:
    the overall accuracy is the goal. Penalties, neurons and biases are chosen by cross-validation.

    With --must, with -d or without, listed samples become right in the new file, and those of --lock stay
    right; what cannot be is named. Without a target nothing else is learnt then.

    The model runs over the fit samples once, or three times if neurons have to be chosen, and twice over the
    others (--dry-run shows how long that takes). Fitting comes on top: its time grows with samples, neurons
    and classes that have samples. Most of it goes into the hidden layer, which --hidden 0 leaves out.
    """
    from onnxtweak.report.text import summary

    carry_out(console, "fit", form, summary.result, summary.verdict, inspect_it, dry_run=dry_run, **asked)
