"""`onnxtweak match`: a copy that decides as its reference does, without labels."""

from __future__ import annotations

import functools
from typing import Any

from onnxtweak import settings
from onnxtweak.cli import completion
from onnxtweak.cli.console import Console
from onnxtweak.cli.options.data import unlabelled_options
from onnxtweak.cli.options.fitting import learning_tap_options, margin_option, table_neurons_option
from onnxtweak.cli.options.groups import command, gathered, option
from onnxtweak.cli.options.method import class_drop_option
from onnxtweak.cli.options.shared import (
    TABLES,
    dry_run_option,
    engine_options,
    model_argument,
    output_options,
    reporting_options,
)
from onnxtweak.cli.output import carry_out, inspect_it

_method = functools.partial(option, "Method")

_match_options = gathered(
    "settings",
    settings.MatchSettings,
    option(
        "Model",
        "--reference",
        required=True,
        metavar="REFERENCE",
        shell_complete=completion.files,
        brief="The model whose decisions are taken for right.",
        help="The model whose decisions are taken for right: the one that MODEL was made from.",
    ),
    table_neurons_option,
    margin_option,
    class_drop_option(settings.MatchSettings.max_class_drop),
)


@command("match", "onnxtweak match int4.onnx --reference model.onnx -d images.npz -o matched.onnx")
@model_argument
@unlabelled_options
@learning_tap_options
@_match_options
@engine_options(*TABLES)
@output_options("The new model.", tweak=True)
@dry_run_option
@reporting_options
def match(dry_run: bool, console: Console, form: str, **asked: Any) -> None:
    """Make a copy of a model decide as the model does.

    MODEL is a quantised, pruned, converted or drifted copy of REFERENCE. Both see the same samples, which
    need no labels: what REFERENCE decides is right. From the hidden neurons of MODEL a patch is learnt that
    brings its logits back, by whichever of two losses leaves more decisions right on samples held out. If a
    bias for each class does as well, the answer is the bias; if nothing was lost, nothing is changed. Where
    samples have labels, accuracies are shown too; nothing is learnt from them.

    REFERENCE needs the same classes and takes the same samples; its inputs may have other names and types.
    """
    from onnxtweak.report.text import summary

    carry_out(console, "match", form, summary.result, summary.verdict, inspect_it, dry_run=dry_run, **asked)
