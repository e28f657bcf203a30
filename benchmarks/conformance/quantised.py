"""Does a patch live through quantising, and does a quantised file take one?

    python benchmarks/conformance/quantised.py [--nets NETS] [--only NAME,...] [--ways join,fit,augment]
        [--targeted join] [--formats NAME;...] [--learnt 3000] [--before] [--json OUT.json]

The demo's nets, and those in NETS (NAME.onnx, NAME.npz with x and y). After: each is patched, and file and
base are quantised in the same way, once whole and once without the nodes that `onnxtweak inspect` names.
Before: the base is quantised (QDQ, QOperator, dynamic), and the quantised file is patched with default
settings; a failed check would end the script. Accuracies are those of the written files in plain ONNX Runtime
on test samples; what is kept is the patched file's lead over its own base, of the lead before quantising.
Needs `onnxconverter-common` for one of the float16 formats.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime import quantization

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import onnxtweak  # noqa: E402
from benchmarks.conformance.runtimes import nets  # noqa: E402

Quantise = Callable[[Path, Path, list[str], np.ndarray], None]
_CALIBRATED = 200


class _Samples(quantization.CalibrationDataReader):
    def __init__(self, name: str, x: np.ndarray) -> None:
        self.batches = iter([{name: x[at : at + 20]} for at in range(0, len(x), 20)])

    def get_next(self) -> dict | None:
        return next(self.batches, None)


def _static(**options: object) -> Quantise:
    def quantise(source: Path, target: Path, excluded: list[str], x: np.ndarray) -> None:
        name = onnx.load(source).graph.input[0].name
        kinds = {"weight_type": quantization.QuantType.QInt8, "nodes_to_exclude": excluded}
        quantization.quantize_static(source, target, _Samples(name, x), **kinds, **options)

    return quantise


def _dynamic(**options: object) -> Quantise:
    def quantise(source: Path, target: Path, excluded: list[str], x: np.ndarray) -> None:
        kinds = {"weight_type": quantization.QuantType.QInt8, "nodes_to_exclude": excluded}
        quantization.quantize_dynamic(source, target, **kinds, **options)

    return quantise


def _half_common(source: Path, target: Path, excluded: list[str], x: np.ndarray) -> None:
    from onnxconverter_common import float16

    proto = float16.convert_float_to_float16(onnx.load(source), keep_io_types=True, node_block_list=excluded)
    onnx.save(proto, target)


def _half_ort(source: Path, target: Path, excluded: list[str], x: np.ndarray) -> None:
    from onnxruntime.transformers import float16

    proto = float16.convert_float_to_float16(onnx.load(source), keep_io_types=True, node_block_list=excluded)
    onnx.save(proto, target)


def _four_bits(source: Path, target: Path, excluded: list[str], x: np.ndarray) -> None:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    made = MatMulNBitsQuantizer(onnx.load(source), block_size=32, nodes_to_exclude=excluded)
    made.process()
    made.model.save_model_to_file(str(target))


FORMATS: dict[str, Quantise] = {
    "dynamic int8": _dynamic(),
    "dynamic int8, per channel": _dynamic(per_channel=True),
    "static int8": _static(),
    "static int8, per channel": _static(per_channel=True),
    "static int8, QOperator": _static(quant_format=quantization.QuantFormat.QOperator),
    "float16, onnxconverter-common": _half_common,
    "float16, onnxruntime": _half_ort,
    "int4, MatMulNBits": _four_bits,
}
BEFORE = ("dynamic int8", "static int8", "static int8, QOperator")
WAYS = {"join": onnxtweak.join, "fit": onnxtweak.fit, "augment": onnxtweak.augment}


@dataclass(frozen=True)
class Kept:
    """Accuracies on test samples, as fractions: of all, or of the class that is the target.

    base, tweaked, then both quantised, and the tweaked file quantised without its tweak's nodes.
    """

    net: str
    way: str
    format: str
    of: str
    base: float
    tweaked: float
    quantised_base: float
    quantised: float
    excluded: float

    def kept(self, after: float) -> float:
        gained = self.tweaked - self.base
        return (after - self.quantised_base) / gained if gained else float("nan")


def accuracy(path: Path, x: np.ndarray, y: np.ndarray) -> float:
    """Of the written file in plain ONNX Runtime."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    right = 0
    for at in range(0, len(x), 50):
        (found,) = session.run([session.get_outputs()[0].name], {name: x[at : at + 50]})
        shown = (
            found.argmax(axis=1) if found.reshape(len(found), -1).shape[1] > 1 else found.reshape(-1) > 0.5
        )
        right += int((shown == y[at : at + 50]).sum())
    return right / len(x)


def after(name: str, model: Path, learn: tuple, test: tuple, args: argparse.Namespace) -> Iterator[Kept]:
    """A patched file and its base in every format."""
    weak = int(onnxtweak.evaluate(model, data=learn).metrics.per_class.argmin())
    own = test[1] == weak
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        for way in args.ways.split(","):
            tweaked = folder / f"{way}.onnx"
            target = {"target": weak} if way in args.targeted.split(",") else {}
            WAYS[way](model, data=learn, output=str(tweaked), seed=0, **target)
            rows = own if target else np.ones(len(own), bool)
            x, y = test[0][rows], test[1][rows]
            values = [accuracy(path, x, y) for path in (model, tweaked)]
            nodes = [
                node.name for node in onnx.load(tweaked).graph.node if node.name.startswith("onnxtweak/")
            ]
            for title in args.formats.split(";"):
                quantised = []
                for source, excluded in ((model, []), (tweaked, []), (tweaked, nodes)):
                    place = folder / "quantised.onnx"
                    try:
                        FORMATS[title](source, place, excluded, learn[0][:_CALIBRATED])
                        quantised.append(accuracy(place, x, y))
                    except Exception as error:
                        told = f"{type(error).__name__}: {error}"[:200]
                        print(f"  {name}, {way}, {title}: {told}", file=sys.stderr)
                        quantised.append(float("nan"))
                yield Kept(name, way, title, "target" if target else "all", *values, *quantised)


@dataclass(frozen=True)
class Patched:
    """A quantised file, patched. taps : the operators that write what is read."""

    net: str
    way: str
    format: str
    taps: str
    quantised: float
    patched: float


def before(name: str, model: Path, learn: tuple, test: tuple, args: argparse.Namespace) -> Iterator[Patched]:
    """Patches of quantised files."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        for title in BEFORE:
            base = folder / "int8.onnx"
            FORMATS[title](model, base, [], learn[0][:_CALIBRATED])
            taps = onnxtweak.inspect(base, data=(learn[0][:8], learn[1][:8])).taps
            weak = int(onnxtweak.evaluate(base, data=learn).metrics.per_class.argmin())
            for way in args.ways.split(","):
                place = folder / "patched.onnx"
                target = {"target": weak} if way in args.targeted.split(",") else {}
                made = WAYS[way](base, data=learn, output=str(place), seed=0, force=True, **target)
                assert all(check.passed for check in made.checks)
                rows = test[1] == weak if target else np.ones(len(test[1]), bool)
                found = [accuracy(path, test[0][rows], test[1][rows]) for path in (base, place)]
                yield Patched(name, way, title, ", ".join(sorted({tap.op for tap in taps})), *found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--nets", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--learnt", type=int, default=3000, help="samples of NETS to learn from at most")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--targeted", default="join", help="ways that get the weakest class for a target")
    parser.add_argument("--formats", default=";".join(FORMATS))
    parser.add_argument("--before", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    readings: list[Kept | Patched] = []
    if args.before:
        print("| net | format | taps | patch | quantised, % | patched, % |\n|---|---|---|---|--:|--:|")
    else:
        titles = "base → patched, %", "both quantised", "kept, %", "without the patch's nodes", "kept, %"
        print("| net | patch | format | " + " | ".join(titles) + " |")
        print("|---|---|---|--:|--:|--:|--:|--:|")
    for name, model, learn, test in nets(args.nets, set(filter(None, args.only.split(","))), args.learnt):
        learn, test = ((x.astype(np.float32) if x.dtype == np.float64 else x, y) for x, y in (learn, test))
        for found in (before if args.before else after)(name, model, learn, test, args):
            readings.append(found)
            if isinstance(found, Patched):
                cells = [found.net, found.format, found.taps, found.way]
                cells += [f"{100 * value:.1f}" for value in (found.quantised, found.patched)]
            else:
                cells = [
                    found.net,
                    found.way,
                    found.format,
                    f"{100 * found.base:.1f} → {100 * found.tweaked:.1f}",
                ]
                cells += [f"{100 * found.quantised_base:.1f} → {100 * found.quantised:.1f}"]
                cells += [f"{100 * found.kept(found.quantised):.0f}"]
                cells += [f"{100 * found.excluded:.1f}", f"{100 * found.kept(found.excluded):.0f}"]
            print("| " + " | ".join(cells) + " |", flush=True)
    if args.json:
        args.json.write_text(json.dumps([asdict(found) for found in readings], indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
