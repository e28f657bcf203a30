"""How much memory does a splice of a model take whose weights are larger than 2 GB?

    python benchmarks/speed/large_splice.py [--external-gb 2.5] [--inline-mb 400]

The external weights are a sparse file: it has the size, and hardly needs disk. Each splice runs in a process
of its own; peak memory is the growth of its resident set over the interpreter with its libraries loaded.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from onnx import TensorProto, helper

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from onnxtweak.model.edit.revert import revert
from onnxtweak.model.edit.splice import splice
from onnxtweak.model.file.model_file import read_model
from onnxtweak.model.file.output_file import write_model
from onnxtweak.types import Tap
from tests.support.nets import mlp
from tests.support.tweaks import random_tweak

TAPS = (Tap("act1", "Relu", (16,)),)


def external(folder: Path, size: int) -> Path:
    """A classifier beside a weight of `size` bytes in another file, which nothing reads."""
    proto = mlp()
    tensor = TensorProto(name="large", data_type=TensorProto.FLOAT, dims=[size // 4])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "large.bin", "offset": "0", "length": str(size // 4 * 4)}.items():
        tensor.external_data.add(key=key, value=value)
    proto.graph.initializer.append(tensor)
    with open(folder / "large.bin", "wb") as file:
        file.truncate(size)
    (folder / "base.onnx").write_bytes(proto.SerializeToString())
    return folder / "base.onnx"


def inline(folder: Path, size: int) -> Path:
    """A classifier with a weight of `size` bytes in the file itself."""
    proto = mlp()
    proto.graph.initializer.append(
        helper.make_tensor("large", TensorProto.FLOAT, [size // 4], bytes(size // 4 * 4), raw=True)
    )
    (folder / "base.onnx").write_bytes(proto.SerializeToString())
    return folder / "base.onnx"


def spliced(path: Path) -> None:
    """Splice, write beside the base, take it off again; print peak memory and seconds."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    model = read_model(path)
    data = splice(model, random_tweak(model, TAPS, 4))
    write_model(model, path.with_name("tweaked.onnx"), [data])
    seconds = time.perf_counter() - begin
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert revert(data) == model.data
    print(f"{peak:,.0f} MB | {seconds:.1f} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--external-gb", type=float, default=2.5)
    parser.add_argument("--inline-mb", type=int, default=400)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        spliced(args.one)
        return 0
    print("| model | peak memory of the splice | time |\n|---|--:|--:|")
    cases = (
        (f"{args.external_gb:g} GB of external weights", external, int(args.external_gb * 1e9)),
        (f"{args.inline_mb} MB of weights in the file", inline, args.inline_mb * 10**6),
    )
    for name, build, size in cases:
        with tempfile.TemporaryDirectory() as folder:
            path = build(Path(folder), size)
            command = [sys.executable, __file__, "--one", str(path)]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
            print(f"| {name} | {said} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
