"""Which runtimes compute the same from a patched file as ONNX Runtime does? Base and patches in each.

    python benchmarks/conformance/runtimes.py [--nets NETS] [--only NAME,...] [--samples 200]
        [--with NAME=PYTHON ...] [--write docs/surgery.md] [--json OUT.json]

The demo's nets, and those in NETS (NAME.onnx, NAME.npz with x and y), are patched by `join`, `fit` (linear,
and with a hidden layer), `augment`, a slot, and a shadow; test samples, which nothing was learnt from, go
through every file in every runtime. PYTHON has the runtime NAME: `opencv=venv48/bin/python`; by default all
are taken from the Python that runs this. For `web`, NODE_MODULES names npm's folder with onnxruntime-web.

A file passes where its values are off by no more than a thousandth of the largest, or four times as much as
the base's, and its decisions are ONNX Runtime's but for those that are that close. Where a runtime does not
run the base, the patch is not to blame. --write puts the table into a page, between its two marks.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import onnxtweak  # noqa: E402
from onnxtweak.commands.apply import apply  # noqa: E402
from onnxtweak.commands.slot import slot  # noqa: E402
from onnxtweak.settings import OutputSettings  # noqa: E402

DEMO = ("digits_cnn3", "digits_resnet20")
TITLES = {
    "onnxruntime": "ONNX Runtime",
    "onnx": "onnx, reference",
    "openvino": "OpenVINO",
    "opencv": "OpenCV",
    "mnn": "MNN",
    "ncnn": "ncnn by pnnx",
    "onnx2torch": "onnx2torch",
    "web": "onnxruntime-web (Node)",
}
PATCHES = ("join", "fit, linear", "fit", "augment", "slot", "shadow")
_ROUNDING, _TIMES_THE_BASE = 1e-3, 4.0
_LEARNT, _SECONDS = 3000, 600
_SHOWN = 100  # characters of a reason
_BEGIN, _END = "<!-- table of runtimes -->\n", "<!-- end -->"


@dataclass(frozen=True)
class Case:
    """A net, its base and patched files, and samples. outputs : which output to compare, by file."""

    net: str
    samples: np.ndarray
    files: dict[str, Path]
    outputs: dict[str, str]
    input: str


@dataclass(frozen=True)
class Found:
    """One file in one runtime. apart : of the largest value. differ : decisions. failed : why it has none."""

    net: str
    patch: str
    runtime: str
    version: str
    apart: float | None
    differ: int | None
    failed: str


def nets(
    folder: Path | None, only: set[str], learnt: int = _LEARNT
) -> Iterator[tuple[str, Path, tuple, tuple]]:
    """Name, model, samples to learn from and samples to test on, each (x, y)."""
    with np.load(ROOT / "models" / "digits.npz") as held:
        learn, test = ((held[f"x_{part}"], held[f"y_{part}"]) for part in ("fit", "test"))
    for name in DEMO:
        if not only or name in only:
            yield name, ROOT / "models" / f"{name}.onnx", learn, test
    for path in sorted(folder.glob("*.onnx")) if folder else ():
        if not only or path.stem in only:
            with np.load(path.with_suffix(".npz")) as held:
                x, y = held["x"], held["y"]
            order = np.random.default_rng(0).permutation(len(y))
            half = min(learnt, len(y) * 3 // 5)
            rows = order[:half], order[half:]
            yield path.stem, path, *((x[part], y[part]) for part in rows)


def patched(name: str, model: Path, learn: tuple, test: tuple, folder: Path, samples: int) -> Case:
    """Every patch of a net; one that is not made (the base was best) is left out."""
    proto = onnx.load(model, load_external_data=False)
    output, files, outputs = proto.graph.output[0].name, {"base": model}, {}
    common = {"data": learn, "seed": 0}
    weak = int(onnxtweak.evaluate(model, data=learn).metrics.per_class.argmin())
    ways = {
        "join": lambda **to: onnxtweak.join(model, target=weak, **common, **to),
        "fit, linear": lambda **to: onnxtweak.fit(model, hidden=0, **common, **to),
        "fit": lambda **to: onnxtweak.fit(model, **common, **to),
        "augment": lambda **to: onnxtweak.augment(model, **common, **to),
    }
    tweaks = {}
    for way, make in ways.items():
        path, tweak = folder / f"{way}.onnx", folder / f"{way}.safetensors"
        try:
            made = make(output=str(path), tweak=str(tweak))
        except onnxtweak.errors.InputError as error:
            print(f"  {name}, {way}: {error}", file=sys.stderr)
            continue
        if made.made is not None and made.made.patch.changes_logits:
            files[way], tweaks[way] = path, tweak
    for way in ("fit, linear", "join"):
        if way in tweaks:
            place = folder / "shadow.onnx"
            apply(model=str(model), tweak=str(tweaks[way]), output=OutputSettings(str(place)), shadow=True)
            files["shadow"] = place
            place = folder / "slot.onnx"
            slot(model=str(model), tweaks=[str(tweaks[way])], output=OutputSettings(str(place)))
            files["slot"] = place
            break
    for way, path in files.items():
        shown = [value.name for value in onnx.load(path, load_external_data=False).graph.output]
        outputs[way] = shown[-1] if way == "shadow" else output
    x = test[0][:samples].astype(_dtype(proto))
    return Case(name, x, files, outputs, proto.graph.input[0].name)


def _dtype(proto: onnx.ModelProto) -> np.dtype:
    return onnx.helper.tensor_dtype_to_np_dtype(proto.graph.input[0].type.tensor_type.elem_type)


def run(case: Case, runtime: str, python: str, folder: Path) -> dict[str, tuple[dict, np.ndarray | None]]:
    """What each file gives in a runtime, and what was said of it.

    A process takes all files; where one ends it, the next takes the rest.
    """
    given = folder / "given.npy"
    np.save(given, case.samples)
    script = str(ROOT / "benchmarks" / "conformance" / "run_elsewhere.py")
    answers: dict[str, tuple[dict, np.ndarray | None]] = {}
    waiting = list(case.files)
    while waiting:
        places = {patch: folder / f"found {patch}.npy" for patch in waiting}
        words = [w for p in waiting for w in (str(case.files[p]), case.outputs[p], str(places[p]))]
        command = [python, script, runtime, str(given), case.input, *words]
        why = f"no answer within {_SECONDS} s"
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
            said, why = ran.stdout, f"its process ended with code {ran.returncode}"
        except subprocess.TimeoutExpired as late:
            said = (late.stdout or b"").decode(errors="replace")
        lines = [line.split("FOUND ", 1)[1] for line in said.splitlines() if "FOUND " in line]
        for patch, line in zip(waiting, lines, strict=False):
            told = json.loads(line)
            answers[patch] = told, None if told["failed"] else np.load(places[patch])
        if len(lines) < len(waiting):
            answers[waiting[len(lines)]] = {"version": "", "failed": why}, None
        waiting = waiting[len(lines) + 1 :]
    return answers


def compared(case: Case, told: dict, values: np.ndarray | None, usual: np.ndarray, at: tuple) -> Found:
    """One file in one runtime, beside ONNX Runtime's values. at : patch and runtime."""
    apart = differ = None
    failed = told["failed"]
    if values is not None:
        other = usual.reshape(len(case.samples), -1).astype(np.float64)
        values = values.reshape(len(values), -1).astype(np.float64)
        if values.shape != other.shape or not np.isfinite(values).all():
            failed = "its output has another shape, or is not finite"
        else:
            apart = float(np.abs(values - other).max() / np.abs(other).max())
            differ = int((_decided(values) != _decided(other)).sum())
    return Found(case.net, *at, told["version"], apart, differ, failed)


def in_runtime(case: Case, runtime: str, python: str, usual: dict, folder: Path) -> Iterator[Found]:
    """Every file of a case in one runtime."""
    for patch, (told, values) in run(case, runtime, python, folder).items():
        found = compared(case, told, values, usual[patch][1], (patch, runtime))
        print(f"  {found}", file=sys.stderr, flush=True)
        yield found


def _decided(values: np.ndarray) -> np.ndarray:
    return values.argmax(axis=1) if values.shape[1] > 1 else values[:, 0] > 0


def passes(found: Found, base: Found) -> bool:
    return found.apart is not None and found.apart <= max(_ROUNDING, _TIMES_THE_BASE * (base.apart or 0.0))


def table(readings: list[Found]) -> str:
    """A row for each runtime: of the nets whose base it runs, how many of each patch pass; and why not."""
    lines = [
        "| runtime | nets | " + " | ".join(PATCHES) + " | off, base | off, patched |",
        "|---|--:|" + "--:|" * (len(PATCHES) + 2),
    ]
    reasons: list[str] = []
    for runtime, version in dict.fromkeys((f.runtime, f.version) for f in readings if f.version):
        title = f"{TITLES[runtime]} {version}"
        own = [f for f in readings if f.runtime == runtime and f.version in (version, "")]
        bases = {f.net: f for f in own if f.patch == "base"}
        ran = [f for f in own if bases[f.net].apart is not None]
        cells = []
        for patch in PATCHES:
            tried = [f for f in ran if f.patch == patch]
            bad = [f for f in tried if not passes(f, bases[f.net])]
            cells.append(f"{len(tried) - len(bad)} of {len(tried)}" if tried else "")
            for f in bad:
                why = f.failed[:_SHOWN] or f"values off by {f.apart:.1g} of the largest, {f.differ} decisions"
                reasons.append(f"- {title}, {f.net}, {patch}: {why}")
        for net, base in bases.items():
            if base.apart is None:
                reasons.append(f"- {title} does not run {net} itself: {base.failed[:_SHOWN]}")
        for own_base in (True, False):
            apart = [f.apart or 0.0 for f in ran if (f.patch == "base") is own_base]
            cells.append(f"{max(apart, default=0.0):.0e}")
        nets_run = sum(base.apart is not None for base in bases.values())
        lines.append("| " + " | ".join([title, f"{nets_run} of {len(bases)}", *cells]) + " |")
    return "\n".join([*lines, "", *sorted(reasons)]).rstrip() + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--nets", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--with", dest="pythons", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    given = [word.split("=", 1) for word in args.pythons]
    pairs = given or [[name, sys.executable] for name in TITLES]
    readings: list[Found] = []
    for name, model, learn, test in nets(args.nets, set(filter(None, args.only.split(",")))):
        print(name, file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            case = patched(name, model, learn, test, Path(folder), args.samples)
            usual = run(case, "onnxruntime", sys.executable, Path(folder))
            for runtime, python in pairs:
                readings += in_runtime(case, runtime, python, usual, Path(folder))
    made = table(readings)
    print(made)
    if args.json:
        args.json.write_text(json.dumps([asdict(found) for found in readings], indent=1), encoding="utf-8")
    if args.write:
        page = args.write.read_text(encoding="utf-8")
        before, rest = page.split(_BEGIN, 1)
        args.write.write_text(f"{before}{_BEGIN}{made}{_END}{rest.split(_END, 1)[1]}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
