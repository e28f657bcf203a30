"""What may a Python program hand over as a model? A path, bytes, an onnx.ModelProto, or one opened before."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from onnxtweak.errors import UsageError
from onnxtweak.model.file.model_file import (
    ModelFile,
    ModelInMemory,
    ModelSource,
    model_in_memory,
    read_model,
)


@dataclass(frozen=True, eq=False)
class Model:
    """A model that was read once, for several calls: what `onnxtweak.open` returns.

    Parsing, the index of the graph, and the digests of the file and of its external weights are made once. A
    model on disk must stay as it is while it is in use: a written tweak is checked against it.
    """

    file: ModelFile = field(repr=False)

    @property
    def path(self) -> Path | None:
        """Where it was read from; None of a model in memory."""
        return self.file.path if self.file.stored else None

    @property
    def sha256(self) -> str:
        """Of its bytes, in hex."""
        return self.file.sha256

    def __bytes__(self) -> bytes:
        return self.file.data

    def __repr__(self) -> str:
        return f"<Model {self.file.path}: {len(self.file.data):,} bytes, sha256 {self.sha256[:12]}>"


ModelLike = str | os.PathLike[str] | ModelInMemory | Model


def source_of(model: ModelLike) -> ModelSource:
    """What commands take for a model. Raises UsageError, and ModelError for bytes that are none."""
    if isinstance(model, Model):
        return model.file
    if isinstance(model, str | os.PathLike):
        return os.fspath(model)
    if isinstance(model, bytes | bytearray | memoryview):
        return model_in_memory(bytes(model), "<bytes>")
    if hasattr(model, "SerializeToString") and hasattr(model, "graph"):
        return model_in_memory(model, "<ModelProto>")
    raise UsageError(
        f"{type(model).__name__} is not a model",
        where="model",
        hint="give the path of an .onnx file, its bytes, an onnx.ModelProto, or what onnxtweak.open returns",
    )


def opened(model: ModelLike) -> Model:
    """The model, read. Raises ModelError."""
    return Model(read_model(source_of(model)))
