"""Damaged and hostile files: whatever is in them, one clear error, and nothing touched or left behind.

    python benchmarks/conformance/fuzz.py [--cases 20000] [--seed 0] [--keep FOLDER]

A case takes a model, a tweaked model (also stacked, with external weights, with a slot, with a shadow) or a
tweak file, damages it, and gives it to everything that reads such files: `diff`, `revert` and `apply`'s
splice through the command line or the library, the search for logits and taps, the exposing of taps. A case
fails when it ends with a traceback, takes longer than ten seconds, changes an input, or leaves a file
behind. Nothing here is run by ONNX Runtime, which makes promises of its own: see docs/security.md.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import json
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from onnxtweak.cli.main import main as command_line
from onnxtweak.errors import OnnxtweakError
from onnxtweak.model.edit.expose import expose
from onnxtweak.model.edit.record import recorded_tweak, silenced
from onnxtweak.model.edit.revert import revert
from onnxtweak.model.edit.slot import fill, slot_inside, with_slot
from onnxtweak.model.edit.splice import splice
from onnxtweak.model.edit.tweak_file import load, save
from onnxtweak.model.file import protobuf_edit
from onnxtweak.model.file.model_file import read_model
from onnxtweak.model.file.tweak_metadata import tweaks_inside
from onnxtweak.model.inspect.logits import find_logits
from onnxtweak.model.inspect.taps import candidates
from onnxtweak.types import Tap
from tests.support import adversarial_models
from tests.support.tweaks import random_tweak

TAPS = (Tap("act1", "Relu", (6,)),)
_LONGEST = 10  # seconds
_HOSTILE_PATHS = (
    "../outside.bin",
    "/etc/hostname",
    "a/../../outside.bin",
    "C:\\weights.bin",
    "link.bin",
    "",
    ".",
    "x" * 5000,
    "nul\0byte",
)
_LARGE = (-1, 0, 1 << 31, (1 << 63) - 1, -(1 << 63))


@dataclass(frozen=True)
class Seeds:
    """Whole files that cases are made of. models : by name. base : what the tweak file belongs to."""

    models: dict[str, bytes]
    base: bytes
    tweak_file: bytes


def seeds(folder: Path) -> Seeds:
    """A base, and what onnxtweak makes of it."""
    base = read_model(adversarial_models.write("tail softmax", folder))
    tweak = random_tweak(base, TAPS, 3)
    once = splice(base, tweak)
    (folder / "once.onnx").write_bytes(once)
    second = read_model(folder / "once.onnx")
    save(tweak, folder / "tweak.safetensors")
    models = {
        "base": base.data,
        "tweaked": once,
        "stacked": splice(second, random_tweak(second, TAPS, 3, "linear")),
        "slot": with_slot(base, TAPS, logits="logits", classes=3),
        "shadow": splice(base, tweak, shadow=True),
    }
    for name in ("If beside the path", "a local function before the logits", "quantised to int8"):
        models[name] = adversarial_models.write(name, folder).read_bytes()
    return Seeds(models, base.data, (folder / "tweak.safetensors").read_bytes())


# -------------------------------------------------------------------------------------- the damage


def damaged_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut, doubled, flipped, shuffled, or with a length that lies."""
    out = bytearray(data)
    kind = rng.integers(0, 6)
    here = int(rng.integers(0, len(out)))
    if kind == 0:
        return bytes(out[:here])
    if kind == 1:
        stop = min(len(out), here + int(rng.integers(1, 60)))
        out[here:stop] = out[here:stop] * 2
    elif kind == 2:
        stop = min(len(out), here + int(rng.integers(1, 60)))
        del out[here:stop]
    elif kind == 3:
        out[here:here] = protobuf_edit.varint(int(rng.integers(0, 1 << 62))) * int(rng.integers(1, 4))
    elif kind == 4:
        out += out[here : here + 200]
    else:
        for place in rng.integers(0, len(out), rng.integers(1, 6)):
            out[place] = rng.integers(0, 256)
    return bytes(out)


def damaged_model(data: bytes, rng: np.random.Generator) -> bytes:
    """A well-formed file that says something absurd."""
    proto = onnx.ModelProto.FromString(data)
    graph = proto.graph
    nodes, tensors = list(graph.node), list(graph.initializer)
    for _ in range(int(rng.integers(1, 3))):
        node = nodes[rng.integers(len(nodes))]
        tensor = tensors[rng.integers(len(tensors))]
        other = nodes[rng.integers(len(nodes))]
        kind = rng.integers(0, 16)
        if kind == 0 and node.input:
            node.input[rng.integers(len(node.input))] = other.output[0] if other.output else "nobody"
        elif kind == 1 and node.output:
            node.output[0] = other.output[0] if other.output else ""
        elif kind == 2:
            node.op_type = str(rng.choice(["If", "Softmax", "Shape", "", "Identity", "Div", "Concat"]))
        elif kind == 3:
            del node.input[:]
        elif kind == 4 and tensor.dims:
            tensor.dims[rng.integers(len(tensor.dims))] = int(rng.choice(_LARGE))
        elif kind == 5:
            tensor.data_type = int(rng.integers(0, 40))
        elif kind == 6:
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=str(rng.choice(_HOSTILE_PATHS)))
            tensor.external_data.add(key="offset", value=str(rng.choice(_LARGE)))
            tensor.external_data.add(key="length", value="ten" if rng.random() < 0.3 else "8")
        elif kind == 7:
            graph.output[0].type.tensor_type.shape.dim.add(dim_value=int(rng.choice(_LARGE)))
        elif kind == 8:
            proto.opset_import[0].version = int(rng.choice((*_LARGE, 6, 99)))
        elif kind == 9:
            proto.ir_version = int(rng.choice((*_LARGE, 3, 99)))
        elif kind == 10:
            if len(graph.node) > 1:
                del graph.node[int(rng.integers(len(graph.node)))]
            nodes = list(graph.node)
        elif kind == 11:
            _nest(node, int(rng.integers(1, 60)))
        elif kind == 12 and proto.metadata_props:
            entry = proto.metadata_props[rng.integers(len(proto.metadata_props))]
            entry.value = damaged_text(entry.value, rng)
        elif kind == 13 and proto.metadata_props:
            proto.metadata_props[rng.integers(len(proto.metadata_props))].key = str(
                rng.choice(["onnxtweak.2.undo", "onnxtweak.1.patch", "onnxtweak.999999.kind", "x"])
            )
        elif kind == 14:
            tensor.raw_data = tensor.raw_data[: rng.integers(0, 4)]
        else:
            graph.input.add(name=str(rng.choice(["logits", "act1", "input", ""])))
    return proto.SerializeToString()


def _nest(node: onnx.NodeProto, depth: int) -> None:
    inner = node
    for _ in range(depth):
        attribute = inner.attribute.add(name="body", type=onnx.AttributeProto.GRAPH)
        inner = attribute.g.node.add(op_type="If", input=["flag"], output=["x"])


def damaged_text(text: str, rng: np.random.Generator) -> str:
    """JSON with other numbers, types or depth; or no JSON."""
    choices: list[Callable[[], str]] = [
        lambda: text[: int(rng.integers(0, len(text) + 1))],
        lambda: text.replace("0", "-1", 1),
        lambda: text.replace("1", "1e999"),
        lambda: text.replace("[", "{", 1),
        lambda: "[" * 5000,
        lambda: "NaN",
        lambda: '{"length": 9999999999, "edits": [[0, 1, "AA=="]]}',
        lambda: '{"length": 1, "edits": [[-5, 1e30, "?"]]}',
        lambda: json.dumps({"type": "synapses", "taps": [{}], "index": [[]], "shadow": 7}),
    ]
    return choices[rng.integers(len(choices))]()


def damaged_tweak(data: bytes, rng: np.random.Generator) -> bytes:
    """A tweak file with another header, or with damaged bytes."""
    if rng.random() < 0.4:
        return damaged_bytes(data, rng)
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    entry = json.loads(header["__metadata__"]["onnxtweak"])
    kind = rng.integers(0, 7)
    if kind == 0:
        entry[str(rng.choice(list(entry)))] = rng.choice([None, -1, "", 10**30], 1).tolist()[0]
    elif kind == 1:
        entry["taps"][0][str(rng.choice(list(entry["taps"][0])))] = [1 << 60, -1]
    elif kind == 2:
        del entry[str(rng.choice(list(entry)))]
    elif kind == 3:
        header["weight"]["shape"] = [int(rng.choice(_LARGE))]
    elif kind == 4:
        header[str(rng.choice(["weight", "index"]))]["data_offsets"] = [0, int(rng.integers(0, 1 << 40))]
    elif kind == 5:
        header["weight"]["dtype"] = str(rng.choice(["F32", "BF16", "I64", "X"]))
    else:
        entry["provenance"] = {"inputs": {"input": ["float32", [10**12, "x", None]]}}
    text = json.dumps(entry)
    header["__metadata__"]["onnxtweak"] = damaged_text(text, rng) if rng.random() < 0.2 else text
    packed = json.dumps(header).encode()
    return struct.pack("<Q", len(packed)) + packed + data[8 + size :]


# --------------------------------------------------------------------------------------- the cases


def run_case(number: int, seed: int, whole: Seeds, folder: Path) -> str:
    """What became of one case: "ok", the kind of error, or "FAILED: ..." with the reason."""
    rng = np.random.default_rng((seed, number))
    for file in folder.iterdir():
        file.unlink()
    (folder / "base.onnx").write_bytes(whole.base)
    (folder / "link.bin").symlink_to("/etc/hostname")
    names = list(whole.models)
    if number % 4 == 3:
        target, data = folder / "case.safetensors", damaged_tweak(whole.tweak_file, rng)
    else:
        model = whole.models[names[number % len(names)]]
        data = damaged_bytes(model, rng) if number % 4 == 0 else damaged_model(model, rng)
        target = folder / "case.onnx"
    target.write_bytes(data)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    signal.alarm(_LONGEST)
    try:
        said = (_with_tweak if target.suffix == ".safetensors" else _with_model)(target, folder, number)
    except _Slow:
        return "FAILED: took too long"
    except Exception:
        return "FAILED: " + traceback.format_exc(limit=-3).strip()
    finally:
        signal.alarm(0)
    after = {file.name: file.read_bytes() for file in folder.iterdir()}
    return said if after == before else "FAILED: touched a file"


class _Slow(Exception):
    """A case takes too long."""


def _slow(*_: object) -> None:
    raise _Slow


def _with_model(path: Path, folder: Path, number: int) -> str:
    commands = (
        ["diff", str(folder / "base.onnx"), str(path)],
        ["diff", str(path), str(folder / "base.onnx"), "-f", "json"],
        ["revert", str(path), "-o", str(folder / "out.onnx"), "--all"],
    )
    said, made = _command(commands[number % len(commands)]), folder / "out.onnx"
    if said != "ok" and made.exists():
        return f"FAILED: left a file behind after: {said}"
    made.unlink(missing_ok=True)
    try:
        model = read_model(path)
        with contextlib.suppress(OnnxtweakError):
            [(recorded_tweak(tweak), tweak.shadow) for tweak in tweaks_inside(model.proto)]
            silenced(model.proto)
            slot = slot_inside(model.proto)
            if slot is not None:
                fill(slot, random_tweak(model, TAPS, 3))
        logits = "logits"
        with contextlib.suppress(OnnxtweakError):
            logits = find_logits(model.graph).name
        candidates(model.graph, logits)
        expose(model.graph, "logits", TAPS)
        tweak = random_tweak(model, TAPS, 3)
        if revert(splice(model, tweak)) != model.data:
            return "FAILED: not taken back"
    except OnnxtweakError as error:
        return said if said != "ok" else type(error).__name__
    return said


def _with_tweak(path: Path, folder: Path, number: int) -> str:
    try:
        tweak = load(path)
        data = splice(read_model(folder / "base.onnx"), tweak)
        if revert(data) != (folder / "base.onnx").read_bytes():
            return "FAILED: not taken back"
    except OnnxtweakError as error:
        return type(error).__name__
    return "ok"


def _command(arguments: list[str]) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = command_line([*arguments, "-q"])
    if code in (0, 2, 3) and "Traceback" not in said.getvalue():
        return "ok" if code == 0 else f"exit {code}"
    raise AssertionError(f"{arguments[0]} ended with {code}: {said.getvalue()[-500:]}")


def fuzz(cases: int, seed: int, keep: Path | None = None, first: int = 0) -> collections.Counter:
    """How often each outcome came up. keep : folder for the files of cases that fail."""
    counts: collections.Counter = collections.Counter()
    previous = signal.signal(signal.SIGALRM, _slow)
    try:
        with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as place:
            whole = seeds(Path(made))
            for number in range(first, first + cases):
                outcome = run_case(number, seed, whole, Path(place))
                counts[outcome] += 1
                if outcome.startswith("FAILED") and keep is not None:
                    for file in Path(place).glob("case.*"):
                        (keep / f"{number}{file.suffix}").write_bytes(file.read_bytes())
    finally:
        signal.signal(signal.SIGALRM, previous)
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the files of cases that fail")
    args = parser.parse_args()
    begin = time.perf_counter()
    counts = fuzz(args.cases, args.seed, args.keep, args.first)
    for outcome, count in counts.most_common():
        print(f"{count:>7,}  {outcome}")
    failed = sum(count for outcome, count in counts.items() if outcome.startswith("FAILED"))
    print(f"{args.cases:,} cases, {failed} failed ({time.perf_counter() - begin:.0f} s)")
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
