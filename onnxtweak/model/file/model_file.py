"""How is a model file read? It is parsed with its external data left in place."""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, EncodeError, Message

from onnxtweak.errors import ModelError
from onnxtweak.model.file import protobuf_edit
from onnxtweak.model.file.external_data import ExternalFile, external_files, has_external_data
from onnxtweak.model.file.foreign_files import identify
from onnxtweak.model.file.load_failures import repair
from onnxtweak.model.graph import DEFAULT_DOMAINS, GraphIndex

LARGEST_PROTOBUF = 2**31 - 1
_EXPORT_AGAIN = "check the path, or export the model again"
_STRING, _MESSAGE = FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE
_LAST_FIELD = 26  # the largest field number of a ModelProto


@dataclass(frozen=True, eq=False)
class ModelFile:
    """An ONNX file as it was read.

    path : as given. data : the file's bytes. proto : parsed, external data left in place; must not be
    changed. sha256 : of `data`, in hex. external : the files with weights, sorted by location. stored :
    whether it is a file; of a model in memory `path` is what messages call it.
    """

    path: Path
    data: bytes = field(repr=False)
    proto: onnx.ModelProto = field(repr=False)
    sha256: str
    external: tuple[ExternalFile, ...] = ()
    stored: bool = True

    def __getstate__(self) -> dict[str, Any]:
        """To another process it goes without what follows from its bytes."""
        return {key: value for key, value in vars(self).items() if key not in ("proto", "graph")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, proto=parse(state["data"], state["path"]))

    @property
    def folder(self) -> Path:
        """The folder to which external data is relative."""
        return self.path.parent

    @cached_property
    def graph(self) -> GraphIndex:
        """The index of the model's graph, built on first use."""
        return GraphIndex(self.proto)

    @cached_property
    def base_sha256(self) -> str:
        """What a tweak is tied to: `sha256`, or a digest that includes external files if there are any."""
        if not self.external:
            return self.sha256
        digest = hashlib.sha256(f"{self.sha256}\n".encode())
        for file in self.external:
            digest.update(f"{file.sha256} {file.location}\n".encode())
        return digest.hexdigest()

    def holding(self, data: bytes) -> ModelFile:
        """The same file with other bytes, which need not be on disk; its external files stay the same."""
        proto = parse(data, self.path)
        return replace(self, data=data, proto=proto, sha256=hashlib.sha256(data).hexdigest())

    @property
    def files(self) -> tuple[Path, ...]:
        """The model's own file and its external files, none of which an output may replace."""
        return (*([self.path] if self.stored else []), *(file.path for file in self.external))


# What names a model wherever one is wanted: its path, or the model itself, read before or never on disk.
ModelSource = str | Path | ModelFile
ModelInMemory = bytes | onnx.ModelProto


def model_files(model: ModelSource) -> tuple[Path, ...]:
    """The files that a model is read from, as far as they are known before it is opened."""
    return model.files if isinstance(model, ModelFile) else (Path(model),)


def read_model(path: ModelSource) -> ModelFile:
    """The model at `path`, parsed without loading external data; a model that was read already, as it is.

    Raises ModelError when there is no such file, when it is not a complete ONNX model, or when an external
    file is missing, too short, or outside the model's folder.
    """
    if isinstance(path, ModelFile):
        return path
    path = Path(path)
    try:
        data = _read(path)
        proto = parse(data, path)
    except ModelError as error:
        known = identify(path)
        if known is None:
            raise
        raise ModelError(known[0], where=path, hint=known[1]) from error
    return ModelFile(path, data, proto, hashlib.sha256(data).hexdigest(), external_files(proto, path))


def model_in_memory(model: ModelInMemory, name: str) -> ModelFile:
    """A model that is no file. name : how messages and results call it. What is given is never changed.

    Raises ModelError for what is no complete ONNX model, and where its weights are in other files.
    """
    try:
        data = model.SerializeToString(deterministic=True) if isinstance(model, onnx.ModelProto) else model
    except (ValueError, EncodeError) as error:  # protobuf's words for more than 2 GiB
        hint = "save it with its weights as external data, and give the path"
        raise ModelError(f"the model cannot be written as bytes: {error}", where=name, hint=hint) from error
    proto = parse(data, name)
    if has_external_data(proto):
        raise ModelError(
            "the model's weights are in other files, which cannot be found from here",
            where=name,
            hint="give the path of the model, or load it together with its weights: onnx.load(path)",
        )
    return ModelFile(Path(name), data, proto, hashlib.sha256(data).hexdigest(), stored=False)


def parse(data: bytes, where: object = "") -> onnx.ModelProto:
    """The model in `data`. Raises ModelError, also for garbage that protobuf accepts.

    where : how the error names the data.
    """
    if not data:
        raise ModelError("the model file is empty", where=where, hint=_EXPORT_AGAIN)
    if data.startswith(b"version https://git-lfs"):
        raise ModelError("this is a Git LFS pointer, not the model", where=where, hint="run `git lfs pull`")
    try:
        proto: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise ModelError(_why_unreadable(data), where=where, hint=_EXPORT_AGAIN) from error
    for valid, problem in (
        (proto.ir_version > 0, "it has no ir_version"),
        (len(proto.graph.node) > 0, "it has no nodes"),
        (len(proto.graph.output) > 0, "it has no outputs"),
        (
            len(proto.opset_import) > 0 or proto.ir_version < 3,
            "it declares no opset, which stands at its end: it may be truncated",
        ),
        (not _has_invalid_text(proto), "it has a name that is not UTF-8 text"),
    ):
        if not valid:
            raise ModelError(f"not an ONNX model: {problem}", where=where, hint=_EXPORT_AGAIN)
    _require_default_opset(proto, where)
    return proto


def _require_default_opset(proto: onnx.ModelProto, where: object) -> None:
    """Raise ModelError where nothing says which version of ONNX's own operators is meant."""
    ours = next((node for node in proto.graph.node if node.domain in DEFAULT_DOMAINS), None)
    if ours is None or proto.ir_version < 3:
        return
    if not any(entry.domain in DEFAULT_DOMAINS for entry in proto.opset_import):
        command = repair("m.opset_import.add(domain='', version=17)", where)
        raise ModelError(
            f"the model uses {ours.op_type}, but imports no version of ONNX's own operators: runtimes guess",
            where=where,
            hint=f"add the opset that it was exported with, such as 17: {command}",
        )


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            hint = "give the .onnx file inside it"
            raise ModelError("this is a folder, not a model file", where=path, hint=hint)
        if not stat.S_ISREG(status.st_mode):  # a pipe would block, a device would never end
            raise ModelError("this is not a regular file", where=path, hint=_EXPORT_AGAIN)
        if status.st_size > LARGEST_PROTOBUF:
            hint = "save it with its weights as external data"
            raise ModelError("the file is larger than the 2 GiB that protobuf allows", where=path, hint=hint)
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError("no such model file", where=path, hint="check the path") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        what = f"the model file cannot be read: {reason}"
        raise ModelError(what, where=path, hint="check the path and its permissions") from error


def _why_unreadable(data: bytes) -> str:
    """Whether the data is truncated, that is, begins with records of a ModelProto, or no model at all."""
    records = 0
    try:
        for record in protobuf_edit.scan(data):
            if record.number > _LAST_FIELD:
                return "not an ONNX model"
            records += 1
    except ModelError as error:
        if records and data[:1] == b"\x08":  # all known writers put ir_version first
            return f"the model file is truncated or damaged: {error.what}"
    return "not an ONNX model"


def _has_invalid_text(message: Message) -> bool:
    """Whether a string in the message, comments aside, is not UTF-8: protobuf returns it as bytes."""
    if type(message) is onnx.TensorProto:  # its other fields may be large
        return isinstance(message.name, bytes) or any(map(_has_invalid_text, message.external_data))
    # Where all bytes are ASCII, its text is. There may be 100,000 of them.
    if type(message) is onnx.ValueInfoProto and message.SerializePartialToString().isascii():
        return False
    for field_type, value in message.ListFields():
        kind = field_type.type
        if kind == _MESSAGE:
            found = any(map(_has_invalid_text, (value,) if isinstance(value, Message) else value))
        elif kind == _STRING and type(value) is not str:  # one that is not UTF-8, or several
            found = field_type.name != "doc_string" and (type(value) is bytes or bytes in map(type, value))
        else:
            continue
        if found:
            return True
    return False
