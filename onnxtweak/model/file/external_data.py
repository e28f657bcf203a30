"""In which external data files does a model store its weights, and can they be trusted?

External data is never loaded. It is located, required to be inside the model's folder, measured, and hashed
as a stream.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx

from onnxtweak.errors import ModelError

_CHUNK = 1 << 20


@dataclass(frozen=True)
class ExternalFile:
    """A file with weights beside the model. location : as in the model. path : resolved. size : bytes."""

    location: str
    path: Path
    size: int

    @cached_property
    def sha256(self) -> str:
        """Of the file's bytes, in hex. Computed on first use; the file is read as a stream."""
        return hash_file(self.path)


def external_files(proto: onnx.ModelProto, model: Path) -> tuple[ExternalFile, ...]:
    """Every external file of the model, checked, sorted by location. Raises ModelError."""
    found: dict[str, ExternalFile] = {}
    for tensor in _tensors(proto):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        where = f"{model}, tensor '{tensor.name}', external file '{location}'"
        if location not in found:
            found[location] = _external_file(location, model, where)
        try:
            offset, length = int(entries.get("offset", 0)), int(entries.get("length", 0))
        except ValueError as error:
            what, hint = "offset and length of external data must be numbers", "export the model again"
            raise ModelError(what, where=where, hint=hint) from error
        size = found[location].size
        if offset < 0 or length < 0 or offset + length > size:
            raise ModelError(
                f"the external file is too short: it has {size:,} bytes of {offset + length:,} needed",
                where=where,
                hint="download or export the model again, including its weights",
            )
    return tuple(found[location] for location in sorted(found))


def has_external_data(proto: onnx.ModelProto) -> bool:
    """Whether some tensor of the model is stored in another file."""
    return any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(proto))


def hash_file(path: str | Path) -> str:
    """sha256 of a file's bytes in hex, read as a stream."""
    digest = hashlib.sha256()
    for chunk in read_chunks(Path(path)):
        digest.update(chunk)
    return digest.hexdigest()


def read_chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, a megabyte at a time."""
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _external_file(location: str, model: Path, where: str) -> ExternalFile:
    spellings = (PurePosixPath(location), PureWindowsPath(location))
    if (
        not location
        or "\0" in location
        or "_ORT_MEM_ADDR_" in location  # ONNX Runtime would take the offset as an address in its own memory
        or any(path.is_absolute() or path.anchor or ".." in path.parts for path in spellings)
    ):
        raise ModelError(
            "external data must be a relative path inside the model's folder",
            where=where,
            hint="put the weights beside the model and save it again",
        )
    path = model.parent / location
    try:
        real = path.resolve(strict=True)
        size = real.stat().st_size
    except (OSError, RuntimeError) as error:
        hint = "keep the weights beside the model, under the name they were saved with"
        raise ModelError("an external file with weights is missing", where=where, hint=hint) from error
    # A model cache may link both the model and its weights to one store: that folder is the model's too.
    if not any(real.is_relative_to(folder) for folder in (model.parent.resolve(), model.resolve().parent)):
        raise ModelError(
            "a link leads external data out of the model's folder",
            where=where,
            hint="replace the link with the file itself",
        )
    if not real.is_file():
        raise ModelError("external data is not a regular file", where=where, hint="check the model's folder")
    return ExternalFile(location, real, size)


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor stored in the model, wherever it is."""
    yield from _graph_tensors(proto.graph)
    for function in proto.functions:
        for node in function.node:
            yield from _attribute_tensors(node.attribute)
        yield from _attribute_tensors(function.attribute_proto)
    for training in proto.training_info:
        yield from _graph_tensors(training.initialization)
        yield from _graph_tensors(training.algorithm)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        if node.attribute:
            yield from _attribute_tensors(node.attribute)


def _attribute_tensors(attributes: Iterable[onnx.AttributeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in attributes:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        one_sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
        for sparse in [*attribute.sparse_tensors, *one_sparse]:
            yield from (sparse.values, sparse.indices)
        for graph in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
            yield from _graph_tensors(graph)
