"""What does the demo do? It runs `join` on the model and samples that come with onnxtweak."""

from __future__ import annotations

import os
from pathlib import Path

from onnxtweak.commands.join import join
from onnxtweak.demo_files import demo_files
from onnxtweak.errors import OutputError
from onnxtweak.results import Result
from onnxtweak.settings import DataSettings, EngineSettings, OutputSettings, TargetSettings
from onnxtweak.types import Progress, silent


def demo(
    *,
    directory: str,
    force: bool = False,
    engine: EngineSettings = EngineSettings(),
    progress: Progress = silent,
) -> Result:
    """Improve a small network that reads digits and is weak on one of them (see models/README.md).

    Writes `tweaked.onnx` and `tweak.safetensors` into `directory`. Raises OutputError where it cannot.
    """
    files = demo_files()
    folder = Path(directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot create the folder: {os.strerror(error.errno or 0)}",
            where=folder,
            hint="name another with -o",
        ) from error
    output = OutputSettings(str(folder / "tweaked.onnx"), str(folder / "tweak.safetensors"), force)
    return join(
        model=str(files.model),
        data=DataSettings(data=(f"{files.data}#fit",), test=(f"{files.data}#test",)),
        engine=engine,
        targets=TargetSettings(worst=1),
        output=output,
        progress=progress,
    )
