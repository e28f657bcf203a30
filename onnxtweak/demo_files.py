"""Where are the model and the data of the demo?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from onnxtweak.errors import MachineError


@dataclass(frozen=True)
class DemoFiles:
    """Paths of the demo's model (.onnx) and labelled samples (.npz)."""

    model: Path
    data: Path


def demo_files() -> DemoFiles:
    """The files as an installed wheel carries them, or as a checkout holds them in `models/`.

    Raises MachineError where neither is complete.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "_demo", package.parent / "models"):
        files = DemoFiles(folder / "digits_cnn3.onnx", folder / "digits.npz")
        if files.model.is_file() and files.data.is_file():
            return files
    raise MachineError(
        "the demo's model and data are missing from this installation",
        where=package,
        hint="install onnxtweak again, or run the demo from a checkout",
    )
