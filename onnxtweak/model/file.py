"""How does a model come from the disk, and how does a result get there whole or not at all?

A model is parsed with its external data left where it is. An output is written beside its target and renamed
when it is complete.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterable, MutableSequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, Message

from onnxtweak.errors import ModelError, OutputError
from onnxtweak.model import wire
from onnxtweak.model.external import ExternalFile, external_files, hash_file, read_chunks

LARGEST_PROTOBUF = 2**31 - 1
_EXPORT_AGAIN = "check the path, or export the model again"


@dataclass(frozen=True, eq=False)
class ModelFile:
    """An ONNX file as it was read.

    path : as given. data : the file's bytes. proto : parsed, external data left where it is; not to be
    changed. sha256 : of `data`, in hex. external : the files with weights, sorted by location.
    """

    path: Path
    data: bytes = field(repr=False)
    proto: onnx.ModelProto = field(repr=False)
    sha256: str
    external: tuple[ExternalFile, ...] = ()

    @property
    def folder(self) -> Path:
        """Where external data is looked for."""
        return self.path.parent

    @cached_property
    def base_sha256(self) -> str:
        """What a tweak is tied to: `sha256`; where there are external files, a digest over all of them."""
        if not self.external:
            return self.sha256
        digest = hashlib.sha256(f"{self.sha256}\n".encode())
        for file in self.external:
            digest.update(f"{file.sha256} {file.location}\n".encode())
        return digest.hexdigest()

    def holding(self, data: bytes) -> ModelFile:
        """The same file with other bytes, that need not be on disk; its external files are still its own."""
        proto = parse(data, self.path)
        return ModelFile(self.path, data, proto, hashlib.sha256(data).hexdigest(), self.external)

    @property
    def files(self) -> tuple[Path, ...]:
        """The model's own file and its external files: what no output may ever replace."""
        return (self.path, *(file.path for file in self.external))


def read_model(path: str | Path) -> ModelFile:
    """The model at `path`, parsed without loading external data.

    Raises ModelError when there is no such file, when it is not a whole ONNX model, or when an external file
    is missing, too short, or outside the model's folder.
    """
    path = Path(path)
    data = _read(path)
    proto = parse(data, path)
    return ModelFile(path, data, proto, hashlib.sha256(data).hexdigest(), external_files(proto, path))


def parse(data: bytes, where: object = "") -> onnx.ModelProto:
    """The model in `data`. Protobuf accepts some garbage; this does not. Raises ModelError."""
    if not data:
        raise ModelError("the model file is empty", where=where, hint=_EXPORT_AGAIN)
    if data.startswith(b"version https://git-lfs"):
        raise ModelError("this is a Git LFS pointer, not the model", where=where, hint="run `git lfs pull`")
    try:
        proto = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise ModelError(_why_unreadable(data), where=where, hint=_EXPORT_AGAIN) from error
    for whole, lack in (
        (proto.ir_version > 0, "it has no ir_version"),
        (len(proto.graph.node) > 0, "it has no nodes"),
        (len(proto.graph.output) > 0, "it has no outputs"),
        (len(proto.opset_import) > 0 or proto.ir_version < 3, "it names no opset; it may be cut short"),
        (not _has_broken_text(proto), "it has a name that is not UTF-8 text"),
    ):
        if not whole:
            raise ModelError(f"not an ONNX model: {lack}", where=where, hint=_EXPORT_AGAIN)
    return proto


def check_output(path: str | Path, *, force: bool = False, protect: Iterable[str | Path] = ()) -> None:
    """Raise OutputError now if `write_atomic` with the same arguments could not succeed later.

    protect : files that must never be replaced, under whatever name, symbolic or hard link `path` gives them.
    """
    path = Path(path)
    _check_target(path, force, protect)
    probe = _beside(path)
    try:
        os.close(_create(probe))
    except OSError as error:
        raise _cannot_write(path, error) from error
    probe.unlink(missing_ok=True)


def write_atomic(
    path: str | Path, chunks: Iterable[bytes], *, force: bool = False, protect: Iterable[str | Path] = ()
) -> None:
    """Write `chunks` to `path`: whole, or not at all.

    Raises OutputError when `path` is protected, exists without `force`, or cannot be written (folder,
    permission, disk full). Whatever goes wrong, interruption included, no partial file stays behind.
    """
    path = Path(path)
    _check_target(path, force, protect)
    part = _beside(path)
    try:
        with open(_create(part), "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise _cannot_write(path, error) from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def check_model_output(base: ModelFile, path: str | Path, *, force: bool = False) -> None:
    """`check_output` for a model derived from `base`: neither it nor its weights may be replaced.

    Also raises OutputError when the output goes to another folder in which another file already bears the
    name of one of the base's external files.
    """
    path = Path(path)
    check_output(path, force=force, protect=base.files)
    for file, copy in _to_copy(base, path):
        if os.path.lexists(copy) and not (os.path.isfile(copy) and hash_file(copy) == file.sha256):
            raise OutputError(
                "the model's weights would go where a different file is",
                where=copy,
                hint="choose an empty folder, or write beside the base model",
            )


def write_model(
    base: ModelFile, path: str | Path, chunks: Iterable[bytes], *, force: bool = False
) -> tuple[Path, ...]:
    """Write a model derived from `base`; returns every file that was created, the model first.

    A model that refers to external files finds them only in its own folder. In another folder than the base's
    they are therefore copied beside the output (never linked: runtimes refuse links); equal files that are
    there already are left alone.
    """
    path = Path(path)
    check_model_output(base, path, force=force)
    created: list[Path] = []
    folders: list[Path] = []
    try:
        for file, copy in _to_copy(base, path):
            if not os.path.lexists(copy):
                folders += _make_folders(copy.parent)
                write_atomic(copy, read_chunks(file.path))
                created.append(copy)
        write_atomic(path, chunks, force=force, protect=base.files)
    except BaseException:
        for copy in created:
            copy.unlink(missing_ok=True)
        for folder in reversed(folders):
            folder.rmdir()
        raise
    return (path, *created)


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            hint = "name the .onnx file inside it"
            raise ModelError("this is a folder, not a model file", where=path, hint=hint)
        if not stat.S_ISREG(status.st_mode):  # a pipe would block, a device never end
            raise ModelError("this is not a regular file", where=path, hint=_EXPORT_AGAIN)
        if status.st_size > LARGEST_PROTOBUF:
            hint = "save it with its weights as external data"
            raise ModelError("the file is larger than the 2 GiB that protobuf allows", where=path, hint=hint)
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelError("there is no such model file", where=path, hint="check the path") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        what = f"the model file cannot be read: {reason}"
        raise ModelError(what, where=path, hint="check the path and its permissions") from error


def _why_unreadable(data: bytes) -> str:
    """Truncated, or never a model? A cut file begins with whole records of a ModelProto."""
    read = 0
    try:
        for found in wire.scan(data):
            if found.number > 26:
                return "not an ONNX model"
            read += 1
    except ModelError as error:
        if read and data[:1] == b"\x08":  # every known writer puts ir_version first
            return f"the model file is cut short or damaged: {error.what}"
    return "not an ONNX model"


def _has_broken_text(message: Message) -> bool:
    """Whether a string in the message, comments aside, is not UTF-8: protobuf hands it out as bytes."""
    if isinstance(message, onnx.TensorProto):  # its other fields may be large
        return isinstance(message.name, bytes) or any(map(_has_broken_text, message.external_data))
    for about, value in message.ListFields():
        if about.type not in (about.TYPE_STRING, about.TYPE_MESSAGE) or about.name == "doc_string":
            continue
        for item in value if isinstance(value, MutableSequence) else (value,):
            if isinstance(item, bytes) or (isinstance(item, Message) and _has_broken_text(item)):
                return True
    return False


def _to_copy(base: ModelFile, path: Path) -> list[tuple[ExternalFile, Path]]:
    """The base's external files and where they go beside `path`; nothing when they are there already."""
    folder = os.path.realpath(path.parent)
    pairs = [(file, path.parent / file.location) for file in base.external]
    for _, copy in pairs:
        if not Path(os.path.realpath(copy)).is_relative_to(folder):
            what = "a link leads the model's weights out of the output's folder"
            raise OutputError(what, where=copy, hint="write to a folder without such links")
    return [(file, copy) for file, copy in pairs if not _same_file(copy, file.path)]


def _make_folders(folder: Path) -> list[Path]:
    """Make `folder` and what is missing above it; returns what was made, outermost first."""
    missing = [place for place in (folder, *folder.parents) if not os.path.isdir(place)][::-1]
    for place in missing:
        try:
            place.mkdir()
        except OSError as error:
            raise _cannot_write(place, error) from error
    return missing


def _check_target(path: Path, force: bool, protect: Iterable[str | Path]) -> None:
    if not path.name or os.path.isdir(path):
        raise OutputError("the output is a folder", where=path, hint="name a file inside it")
    if not os.path.isdir(path.parent):
        raise OutputError("the output's folder does not exist", where=path.parent, hint="create it first")
    if any(_same_file(path, other) for other in protect):
        what = "the output would replace a file it is made from"
        raise OutputError(what, where=path, hint="choose another output path")
    try:
        os.lstat(path)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:  # a name that is too long, a null character
        raise _cannot_write(path, error) from error
    if not force:
        raise OutputError("the output exists already", where=path, hint="use --force to replace it")
    if os.path.exists(path) and not os.path.isfile(path):
        what = "the output is not a regular file"
        raise OutputError(what, where=path, hint="choose another output path")


def _same_file(one: str | Path, other: str | Path) -> bool:
    try:
        return os.path.samefile(one, other)  # the same inode, through any link
    except (OSError, ValueError):
        return os.path.realpath(one) == os.path.realpath(other)


def _beside(path: Path) -> Path:
    return path.parent / f".onnxtweak-{secrets.token_hex(6)}.part"


def _create(path: Path) -> int:
    """A new file with the user's usual permissions; fails if it exists."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)


def _cannot_write(path: Path, error: OSError | ValueError) -> OutputError:
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        what, hint = "the disk is full; nothing was kept", "free some space, or write elsewhere"
    else:
        what = f"the output cannot be written: {getattr(error, 'strerror', None) or error}"
        hint = "check the path, the folder and its permissions"
    return OutputError(what, where=path, hint=hint)
