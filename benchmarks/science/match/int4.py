"""How much of what rounded weights cost does `match` bring back, on samples without labels?

    python -m benchmarks.science.match.int4 NETS [NAME ...] [--json OUT.json]
        [--bits 4,8] [--learn 6000] [--seeds 3] [--threads N]

NETS holds NAME.onnx and NAME.npz (x, y), as `science/fit/public_nets.py` makes them; without a name all are
taken. The weights of each Conv, Gemm and MatMul are rounded to BITS, symmetric, with one step per tensor or
one per output channel. For each seed, which is printed, `match` gets LEARN of the samples without their
labels, at most 60 % of them, and its default settings; all others are the test. What counts is the written
file, read through plain ONNX Runtime. Beside it: the reference, the copy, and the best bias for every class.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

import onnxtweak
from benchmarks.science.fit.halves import shown


@dataclass(frozen=True)
class Reading:
    """One match. Accuracies and agreements are fractions of the test samples."""

    net: str
    bits: int
    step: str
    seed: int
    reference: float
    copy: float
    bias: float
    matched: float
    copy_agrees: float
    matched_agrees: float
    answer: str


def rounded(path: Path, bits: int, step: str) -> onnx.ModelProto:
    """A copy with rounded weights. step : "tensor" or "channel"."""
    proto = onnx.load(path)
    output_axis = {}
    for node in proto.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul") and len(node.input) > 1:
            turned = any(a.name == "transB" and a.i for a in node.attribute)
            output_axis[node.input[1]] = 0 if node.op_type == "Conv" or turned else 1
    for tensor in proto.graph.initializer:
        if tensor.name not in output_axis or len(tensor.dims) < 2:
            continue
        weight = numpy_helper.to_array(tensor)
        axes = tuple(range(weight.ndim))
        over = axes if step == "tensor" else tuple(a for a in axes if a != output_axis[tensor.name])
        size = np.abs(weight).max(axis=over, keepdims=True) / (2 ** (bits - 1) - 1)
        size[size == 0] = 1
        whole = np.clip(np.round(weight / size), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        tensor.CopyFrom(numpy_helper.from_array((whole * size).astype(weight.dtype), tensor.name))
    return proto


def measure(folder: Path, net: str, copy: tuple[int, str], seed: int, asked: argparse.Namespace) -> Reading:
    """copy : bits and step."""
    reference = folder / f"{net}.onnx"
    with np.load(folder / f"{net}.npz") as file:
        x, y = file["x"], file["y"]
    order = np.random.default_rng([seed, 16]).permutation(len(y))
    learn = min(asked.learn, len(y) * 6 // 10)
    test = order[learn:]
    with tempfile.TemporaryDirectory() as place:
        made = Path(place)
        onnx.save(rounded(reference, *copy), made / "copy.onnx")
        np.savez(made / "bare.npz", x=x[order[:learn]])
        np.savez(made / "test.npz", x=x[test], y=y[test])
        result = onnxtweak.match(
            made / "copy.onnx",
            reference=reference,
            data=made / "bare.npz",
            test=made / "test.npz",
            output=made / "matched.onnx",
            threads=asked.threads,
            seed=seed,
        )
        decided, copied, matched = (
            shown(path, x[test], asked.threads)
            for path in (reference, made / "copy.onnx", made / "matched.onnx")
        )
    told = result.matched
    assert told is not None and told.accuracy is not None
    assert abs(told.accuracy["tweaked"] - (matched == y[test]).mean()) < 1e-9, "not what was reported"
    return Reading(
        net,
        *copy,
        seed,
        reference=float((decided == y[test]).mean()),
        copy=float((copied == y[test]).mean()),
        bias=told.accuracy["bias"],
        matched=float((matched == y[test]).mean()),
        copy_agrees=float((copied == decided).mean()),
        matched_agrees=float((matched == decided).mean()),
        answer=result.verdict.answer,
    )


def row(readings: list[Reading]) -> str:
    """The means over all seeds as a row of a table, percent."""
    mean = {
        key: 100 * float(np.mean([getattr(one, key) for one in readings]))
        for key in ("reference", "copy", "bias", "matched", "copy_agrees", "matched_agrees")
    }
    lost = mean["reference"] - mean["copy"]
    back = f"{100 * (mean['matched'] - mean['copy']) / lost:.0f}" if lost >= 0.5 else "-"
    first, figures = readings[0], [f"{mean[key]:.1f}" for key in ("reference", "copy", "bias", "matched")]
    agrees = f"{mean['copy_agrees']:.1f} → {mean['matched_agrees']:.1f}"
    agrees += f" | {', '.join(sorted({one.answer for one in readings}))}"
    return f"| {first.net} | int{first.bits}, {first.step} | {' | '.join(figures)} | {back} | {agrees} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("nets", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--bits", default="4,8")
    parser.add_argument("--learn", type=int, default=6000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    names = asked.names or sorted(path.stem for path in asked.nets.glob("*.onnx"))
    found: list[Reading] = []
    print(f"seeds {', '.join(map(str, range(asked.seeds)))}, {asked.learn} samples to learn from")
    print("| net | weights | reference | copy | bias | matched | back, % | agreement | answer |")
    print("|---|---|--:|--:|--:|--:|--:|--:|---|")
    for net in names:
        for bits in map(int, asked.bits.split(",")):
            for step in ("tensor", "channel"):
                each = [measure(asked.nets, net, (bits, step), seed, asked) for seed in range(asked.seeds)]
                found += each
                print(row(each), flush=True)
                if asked.json is not None:
                    asked.json.write_text(json.dumps([asdict(one) for one in found], indent=1))


if __name__ == "__main__":
    main()
