"""What is a file that is no ONNX model, and which command makes one of it?"""

from __future__ import annotations

import shlex
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

Answer = tuple[str, str]  # what it is, what to do

_HEAD = 4096
_TF2ONNX = "convert it with tf2onnx: python -m tf2onnx.convert"
_TORCH = (
    'build the network in PyTorch, load the weights, and call torch.onnx.export(model, (x,), "model.onnx")'
)
_SOURCE = "it cannot be turned back: tweak the .onnx file that it was made from, and convert the result"


def identify(path: Path) -> Answer | None:
    """What a file or folder is that protobuf does not read as a model; None where nothing tells."""
    place = shlex.quote(str(path))
    try:
        if path.is_dir():
            return _folder(path, place)
        if not path.is_file():  # a pipe would block
            return None
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return None
    for matches, answer in _BINARY:
        if matches(head):
            return answer[0], answer[1].format(path=place)
    if head.startswith(b"\x1f\x8b"):
        return _gzip(head, place)
    if head.startswith(b"PK\x03\x04"):
        return _zip(path, place)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 30:
        return _safetensors(head, place)
    return _text(head, path)


def _folder(path: Path, place: str) -> Answer | None:
    if (path / "saved_model.pb").is_file():
        return "this is a TensorFlow SavedModel", f"{_TF2ONNX} --saved-model {place} --output model.onnx"
    if any(path.glob("*.mlmodel")) or (path / "Manifest.json").is_file():
        return "this is a Core ML package", _SOURCE
    if (path / "config.json").is_file() and any((*path.glob("*.safetensors"), *path.glob("*.bin"))):
        return (
            "this is a checkpoint of Hugging Face Transformers",
            f"export it: optimum-cli export onnx --model {place} exported/",
        )
    return None


def _starts(*magic: bytes, at: int = 0) -> Callable[[bytes], bool]:
    return lambda head: head[at:].startswith(magic)


_BINARY: tuple[tuple[Callable[[bytes], bool], Answer], ...] = (
    (
        _starts(b"ORTM", at=4),
        (
            "this is a model in ONNX Runtime's own format (ORT)",
            f"{_SOURCE}: python -m onnxruntime.tools.convert_onnx_models_to_ort FOLDER",
        ),
    ),
    (
        _starts(b"TFL3", at=4),
        ("this is a TensorFlow Lite model", f"{_TF2ONNX} --tflite {{path}} --output model.onnx"),
    ),
    (
        _starts(b"\x89HDF\r\n\x1a\n"),
        ("this is an HDF5 file, as Keras writes", f"{_TF2ONNX} --keras {{path}} --output model.onnx"),
    ),
    (
        _starts(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."),
        ("this is a PyTorch checkpoint", _TORCH),
    ),
    (
        _starts(b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"),
        (
            "this is a Python pickle, not an ONNX model",
            "load it with the library that wrote it and export from there: skl2onnx.to_onnx(model, x[:1]) "
            "for scikit-learn, torch.onnx.export for PyTorch",
        ),
    ),
    (_starts(b"ustar", at=257), ("this is a tar archive", "unpack it: tar xf {path}")),
    (_starts(b"\xfd7zXZ"), ("this file is compressed with xz", "unpack it: xz -dc {path} > model.onnx")),
    (_starts(b"BZh"), ("this file is compressed with bzip2", "unpack it: bzip2 -dc {path} > model.onnx")),
    (
        _starts(b"\x28\xb5\x2f\xfd"),
        ("this file is compressed with zstd", "unpack it: zstd -dc {path} > model.onnx"),
    ),
    (_starts(b"7z\xbc\xaf\x27\x1c"), ("this is a 7z archive", "unpack it: 7z x {path}")),
    (
        _starts(b"GGUF"),
        ("this is a GGUF file of a language model", "export the model that it was made from to ONNX"),
    ),
    (_starts(b"ftrt", b"ptrt"), ("this is a TensorRT engine", _SOURCE)),
    (
        _starts(b"\x93NUMPY"),
        ("this is a NumPy array, not a model", "give the .onnx file first, and samples with -d"),
    ),
)


def _gzip(head: bytes, place: str) -> Answer:
    try:
        inside = zlib.decompressobj(wbits=31).decompress(head, _HEAD)
    except zlib.error:
        inside = b""
    if inside[257:262] == b"ustar":
        return "this is a compressed tar archive", f"unpack it: tar xzf {place}"
    return "this file is compressed with gzip", f"unpack it: gzip -dc {place} > model.onnx"


def _zip(path: Path, place: str) -> Answer:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return "this is a damaged zip archive", "copy or download it again"
    inner = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in inner:
        return (
            "this is a TorchScript archive",
            f'export it: python -c "import torch; m = torch.jit.load({str(path)!r}).eval(); '
            "torch.onnx.export(m, (torch.zeros(1, 3, 224, 224),), 'model.onnx', dynamo=False)\", with "
            "an input of the shape that the model takes",
        )
    if "data.pkl" in inner:
        return "this is a PyTorch checkpoint", _TORCH
    if {"archive_format", "archive_version"} & inner:
        return (
            "this is a program of torch.export",
            "torch.export.load(FILE), then torch.onnx.export(program, ...)",
        )
    if "model.weights.h5" in inner:
        return (
            "this is a Keras model",
            f'export it: python -c "import keras; keras.saving.load_model({str(path)!r})'
            ".export('model.onnx', format='onnx')\"",
        )
    if any(name.endswith(".npy") for name in names):
        return "this is an .npz file of arrays, not a model", "give the .onnx file first, and samples with -d"
    models = [name for name in names if name.endswith(".onnx")]
    which = f", then give {shlex.quote(models[0])}" if models else ""
    return "this is a zip archive", f"unpack it: unzip {place}{which}"


def _safetensors(head: bytes, place: str) -> Answer:
    if b'"onnxtweak' in head:
        return (
            "this is a tweak, not a model",
            f"give the model it was made for: onnxtweak apply MODEL.onnx {place} -o NEW.onnx",
        )
    return "this is a safetensors file: weights without the network", _TORCH


def _text(head: bytes, path: Path) -> Answer | None:
    try:
        text = head[: len(head) - 3].decode("utf-8-sig") if len(head) == _HEAD else head.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    begun = text.lstrip()
    kind = ""
    if begun.startswith("{"):
        kind = "json" if '"irVersion"' in begun or '"opsetImport"' in begun or '"graph"' in begun else ""
        if not kind:
            return "this is a JSON file, not an ONNX model", "give the .onnx file"
    elif begun.startswith(("ir_version:", "opset_import {", "graph {", "producer_name:")):
        kind = "textproto"
    elif begun.startswith("<") and "ir_version:" in begun:
        kind = "onnxtxt"
    if kind:
        code = f"import onnx; onnx.save(onnx.load({str(path)!r}, format='{kind}'), 'model.onnx')"
        return f"this is an ONNX model as text ({kind})", f'convert it: python -c "{code}"'
    if begun[:9].lower() == "<!doctype" or begun[:5].lower() == "<html":
        return (
            "this is a web page, not the model",
            "download the file itself: a link to the raw file, not to its page",
        )
    if begun.startswith("<?xml") and "<net" in begun:
        return "this is a model of OpenVINO", _SOURCE
    return None
