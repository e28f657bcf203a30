"""Every error that onnxtweak raises on purpose, and the exit code each one ends a command with.

    OnnxtweakError
    |-- GateFailed            1   a gate failed; no model is delivered
    |-- InputError            2   something the user gave cannot be used
    |   |-- UsageError            an option, or a combination of options
    |   |-- ModelError            the ONNX file, or what is asked of it
    |   |-- DataError             samples, labels, preprocessing
    |   `-- OutputError           where the result should go
    |-- VerificationError     3   a written file did not pass its checks; it was removed
    `-- MachineError          4   no runtime, or no GPU where one was required

An error says what happened, where (file, tensor, class), and what to do about it. The library raises;
only `onnxtweak.cli` prints.
"""

from __future__ import annotations

from typing import Any


class OnnxtweakError(Exception):
    """Base of the tree.

    Parameters
    ----------
    what : what happened, without a full stop.
    where : the file, tensor, class or option it happened at; may be empty.
    hint : what the user can do about it; may be empty.
    """

    exit_code = 70

    def __init__(self, what: str, *, where: object = "", hint: str = "") -> None:
        self.what = what
        self.where = str(where)
        self.hint = hint
        super().__init__(f"{what} ({self.where})" if self.where else what)
        if hint:
            self.add_note(f"hint: {hint}")  # a traceback shows it, as the command line does

    def __reduce__(self) -> tuple[Any, ...]:  # errors keep their parts between processes
        return _rebuild, (type(self), self.what, self.where, self.hint)


def _rebuild(kind: type[OnnxtweakError], what: str, where: str, hint: str) -> OnnxtweakError:
    return kind(what, where=where, hint=hint)


class GateFailed(OnnxtweakError):
    """A gate failed; no model is delivered."""

    exit_code = 1


class InputError(OnnxtweakError):
    """Something the user gave cannot be used."""

    exit_code = 2


class UsageError(InputError):
    """An option, or a combination of options, is invalid."""


class ModelError(InputError):
    """The ONNX file is invalid, or cannot do what is asked of it."""


class DataError(InputError):
    """Samples, labels or preprocessing do not fit together, or do not fit the model."""


class OutputError(InputError):
    """The result cannot be written where the user wants it."""


class VerificationError(OnnxtweakError):
    """A written file did not pass its checks; it was removed."""

    exit_code = 3


class MachineError(OnnxtweakError):
    """This machine lacks what the job needs: a runtime, a GPU."""

    exit_code = 4
