"""How does a tensor hold the logits that a patch is added to?"""

from __future__ import annotations

from dataclasses import dataclass

from onnxtweak.head import Readout, Scale


@dataclass(frozen=True)
class LogitsFormat:
    """How a logits tensor holds its values.

    layout : as `Logits.layout`. dtype : as `Tap.dtype`. readout : how its columns give the classes' scores;
    None: they are these scores, or a single logit for two classes.
    """

    layout: str = "NC"
    dtype: str = "float32"
    readout: Readout | None = None

    @property
    def binary(self) -> bool:
        """One number, two classes: positive for class 1, unless the readout says otherwise."""
        return "C" not in self.layout

    @property
    def is_plain(self) -> bool:
        """The columns are the classes' scores as they are."""
        return self.readout is None or self.readout.is_plain

    @property
    def scale(self) -> Scale:
        """What the columns hold, and how a patch is added to it."""
        return "logit" if self.readout is None else self.readout.scale

    def columns(self, classes: int) -> int:
        """How many columns the tensor has, where the model shows C classes."""
        if self.readout is not None:
            return self.readout.columns
        return 1 if self.binary else classes
