"""`onnxtweak inspect`: what is in a model?"""

from __future__ import annotations

from onnxtweak.cli.console import Console
from onnxtweak.cli.options.data import later_samples_options
from onnxtweak.cli.options.groups import command
from onnxtweak.cli.options.shared import engine_options, model_argument, reporting_options, tap_options
from onnxtweak.cli.output import show
from onnxtweak.settings import DataSettings, EngineSettings, TapSettings


@command("inspect", "onnxtweak inspect model.onnx --taps stages")
@model_argument
@later_samples_options
@tap_options
@engine_options()
@reporting_options
def inspect(
    model: str,
    data: DataSettings | None,
    taps: TapSettings,
    engine: EngineSettings,
    console: Console,
    form: str,
) -> None:
    """Show what is in a model and what can be done with it.

    Lists inputs, outputs, the logits tensor and how it was found, classes, the hidden tensors that can be
    watched and how many neurons they have, and any tweak that the model already contains. Hidden tensors are
    measured by running made-up samples, or a few of yours: -d is needed where the model leaves the size of
    its input open.
    """
    from onnxtweak import commands
    from onnxtweak.report.text import inspection

    found = commands.inspect(model=model, data=data, taps=taps, engine=engine)
    show(console, "inspect", found, inspection.inspection, form)
