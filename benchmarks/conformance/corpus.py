"""Does the surgery hold on every model at hand? One table; the run behind docs/conformance.md.

    python benchmarks/conformance/corpus.py [--suite NAME ...] [--only TEXT] [--limit N] [--write PAGE]

Suites: `light` (the nine classifiers of the onnx wheel, with seeded weights), `simple`, `pytorch-converted`,
`pytorch-operator` (its other model files), `node` (its test cases of single operators, made in the process),
`adversarial` (tests/support/adversarial_models.py). Every model is tried twice: as a
classifier, the way a user's model is, and with a splice forced onto one of its floating-point tensors, which
tests the surgery alone.
"""

from __future__ import annotations

import argparse
import collections
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from onnxtweak.engine.opened import opened_model
from onnxtweak.engine.subject import choose_taps, made_up_samples, measured, watchable
from onnxtweak.engine.tap_safety import safe_taps
from onnxtweak.errors import OnnxtweakError, VerificationError
from onnxtweak.model.edit.diff import diff, only_the_splice
from onnxtweak.model.edit.expose import expose
from onnxtweak.model.edit.piece_builder import ELEMENT_TYPES
from onnxtweak.model.edit.revert import revert
from onnxtweak.model.edit.splice import splice
from onnxtweak.model.file.model_file import ModelFile, read_model
from onnxtweak.model.inspect.logits import FLOATS
from onnxtweak.model.logits_format import LogitsFormat
from onnxtweak.patch import Linear, Tweak
from onnxtweak.settings import EngineSettings, TapSettings
from onnxtweak.stages.checks import check_checker
from onnxtweak.types import Neurons
from tests.support import adversarial_models
from tests.support.nets import LIGHT, random_inputs, reseed_light
from tests.support.tweaks import random_tweak

CHECKS = ("watching", "neutral", "checker", "revert", "diff")
ENGINE = EngineSettings(device="cpu", threads=1)
_TYPES = {kind: name for name, kind in ELEMENT_TYPES.items()}


@dataclass
class Model:
    """A model on disk. feeds : inputs by name, None: random ones."""

    suite: str
    name: str
    path: Path
    feeds: dict[str, object] | None = None


@dataclass
class Outcome:
    """What became of one model in one way. checks : passed or not; missing where it could not be made."""

    suite: str
    name: str
    way: str
    checks: dict[str, bool] = field(default_factory=dict)
    refused: str = ""
    crash: str = ""


# ----------------------------------------------------------------------------------------- the models


def light(folder: Path) -> Iterator[Model]:
    for path in sorted(LIGHT.glob("light_*.onnx")):
        place = folder / "base.onnx"
        place.write_bytes(reseed_light(path.stem).SerializeToString())
        yield Model("light", path.stem, place)


def on_disk(kind: str) -> Iterator[Model]:
    for path in sorted((LIGHT.parent / kind).glob("*/model.onnx")):
        proto = onnx.load(path)
        initializers = {tensor.name for tensor in proto.graph.initializer}
        names = [value.name for value in proto.graph.input if value.name not in initializers]
        files = sorted(path.parent.glob("test_data_set_0/input_*.pb"), key=lambda p: int(p.stem[6:]))
        feeds = None
        if len(files) == len(names):
            feeds = {n: _tensor(file.read_bytes()) for n, file in zip(names, files, strict=True)}
        usable = feeds is not None and all(value is not None for value in feeds.values())
        yield Model(kind, path.parent.name, path, feeds if usable else None)


def _tensor(data: bytes) -> np.ndarray | None:
    try:
        return numpy_helper.to_array(onnx.TensorProto.FromString(data))
    except Exception:  # a sequence or an optional: such inputs are left to the node cases
        return None


def node(folder: Path) -> Iterator[Model]:
    from onnx.backend.test.case.node import collect_testcases

    for case in collect_testcases(None):
        place = folder / "base.onnx"
        place.write_bytes(case.model.SerializeToString())
        names = [value.name for value in case.model.graph.input]
        values = case.data_sets[0][0] if case.data_sets else []
        feeds = dict(zip(names, values, strict=False))
        yield Model("node", case.name, place, feeds)


def made_here(folder: Path) -> Iterator[Model]:
    for name in adversarial_models.CASES:
        with tempfile.TemporaryDirectory(dir=folder) as own:
            yield Model("adversarial", name, adversarial_models.write(name, Path(own)))


def suites(folder: Path) -> dict[str, Iterator[Model]]:
    return {
        "adversarial": made_here(folder),
        "simple": on_disk("simple"),
        "pytorch-converted": on_disk("pytorch-converted"),
        "pytorch-operator": on_disk("pytorch-operator"),
        "node": node(folder),
        "light": light(folder),
    }


# ----------------------------------------------------------------------------------------- the trials


def tried(model: Model, way: str, work: Path) -> Outcome:
    """One model, one way; nothing escapes."""
    outcome = Outcome(model.suite, model.name, way)
    before = model.path.read_bytes()
    try:
        file = read_model(model.path)
        feeds = random_inputs(file.proto, 3) if model.feeds is None else model.feeds
        if way == "classifier":
            as_classifier(file, feeds, outcome, work)
        else:
            by_force(file, feeds, outcome, work)
    except VerificationError as failure:
        outcome.crash = f"VerificationError: {failure}"
    except OnnxtweakError as refusal:
        outcome.refused = refusal.what
    except Exception as error:
        outcome.crash = "".join(traceback.format_exception_only(error)).strip()
    if model.path.read_bytes() != before:
        outcome.checks["watching"] = False
    return outcome


def as_classifier(model: ModelFile, feeds: dict, outcome: Outcome, work: Path) -> None:
    """The way of a user's model: logits found, taps measured, synapses on all of them."""
    opened = opened_model(model, TapSettings())
    found = watchable(opened)
    if any(not isinstance(value, np.ndarray) for value in feeds.values()):
        feeds = made_up_samples(opened, {})
    proto_before = model.proto.SerializeToString()
    subject, shapes = measured(opened, [c.name for c in found], feeds, ENGINE)
    try:
        taps = choose_taps(opened, found, shapes, TapSettings())
    except OnnxtweakError:
        taps = choose_taps(opened, found, shapes, TapSettings(("*",)))
    watched = safe_taps(subject, taps, feeds, ENGINE)
    outcome.checks["watching"] = model.proto.SerializeToString() == proto_before
    tweak = random_tweak(model, watched.taps, subject.classes, count=9, logits=subject.logits)
    tweak = replace(tweak, provenance={"from": "conformance"})
    _prove(model, tweak, subject.logits_format, feeds, outcome, work)


def by_force(model: ModelFile, feeds: dict, outcome: Outcome, work: Path) -> None:
    """A zero added to the last floating-point tensor that a node writes, whatever it is."""
    graph = model.graph
    types = _types(model, work)
    wanted = [v.name for v in reversed(graph.outputs)]
    wanted += [name for node in reversed(graph.nodes) for name in node.output if name]
    for name in wanted:
        kind = types.get(name, graph.declared_type(name))
        scalar = graph.declared_shape(name) == ()
        if graph.position(name) is not None and kind in FLOATS and not scalar:
            break
    else:
        outcome.refused = "(forced) no floating-point tensor that a node writes"
        return
    nobody = Neurons((), np.zeros(0, np.int32), np.zeros(0, np.int64))
    patch = Linear(np.zeros((0, 2)), np.zeros(2))
    tweak = Tweak("bias", model.base_sha256, name, 2, nobody, patch)
    proto_before = model.proto.SerializeToString()
    expose(graph, name, ())
    outcome.checks["watching"] = model.proto.SerializeToString() == proto_before
    _prove(model, tweak, LogitsFormat("N1", _TYPES[kind]), feeds, outcome, work)


def _types(model: ModelFile, work: Path) -> dict[str, int]:
    """Types of the outputs as the runtime sees them; empty where it does not load the model."""
    try:
        session = _session(model.path)
    except Exception:
        return {}
    names = {"tensor(float)": 1, "tensor(float16)": 10, "tensor(double)": 11, "tensor(bfloat16)": 16}
    return {output.name: names.get(output.type, 0) for output in session.get_outputs()}


def _prove(
    model: ModelFile, tweak: Tweak, logits_format: LogitsFormat, feeds: dict, outcome: Outcome, work: Path
) -> None:
    tweaked = splice(model, tweak, logits_format)
    neutral = splice(model, tweak, logits_format, scale=0.0)
    outcome.checks["revert"] = revert(tweaked) == model.data and revert(neutral) == model.data
    outcome.checks["diff"] = only_the_splice(diff(model.proto, tweaked))
    outcome.checks["checker"] = check_checker(model, tweaked).passed
    place = model.path.with_name(".conformance.onnx") if model.external else work / "neutral.onnx"
    try:
        one, again = _run(model.path, feeds), _run(model.path, feeds)
    except Exception:
        return  # not a model that this runtime runs, tweaked or not
    place.write_bytes(neutral)
    try:
        zero = _run(place, feeds)
    finally:
        place.unlink()
    if _same(one, again):  # of noise nothing can be said
        outcome.checks["neutral"] = _same(one, zero)


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _run(path: Path, feeds: dict) -> list:
    session = _session(path)
    known = {value.name for value in session.get_inputs()}
    return session.run(None, {name: value for name, value in feeds.items() if name in known})


def _same(one: object, other: object) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        floating = one.dtype.kind == "f"
        return one.shape == other.shape and np.array_equal(one, other, equal_nan=floating)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return one == other or (one != one and other != other)


# ----------------------------------------------------------------------------------------- the table


def page(outcomes: list[Outcome], seconds: float) -> str:
    """The report in Markdown."""
    lines = [
        "# Conformance",
        "",
        "What the surgery did to every model at hand. This page was written in",
        f"{seconds:.0f} s by `python benchmarks/conformance/corpus.py --write docs/conformance.md`,",
        f"with onnx {onnx.__version__} and ONNX Runtime {onnxruntime.__version__} on the CPU.",
        "",
        "Each model is tried in two ways. *Classifier*: as a user's model, with logits found, hidden",
        "tensors measured, and synapses on all that can be watched; what is not a classifier is refused with",
        "the reason. *Forced*: a zero is added to some floating-point tensor of any model, which tests the",
        "surgery alone.",
        "",
        "- watching: exposing tensors leaves the base model's bytes unchanged",
        "- neutral: at scale 0 all outputs equal the base's, number for number",
        "- checker: the ONNX checker accepts the result as it accepts the base",
        "- revert: removing the tweak gives the base's bytes",
        "- diff: the only differences are the tweak's",
        "",
        "A cell says how many passed, of those where the check was possible: outputs cannot be",
        "compared where ONNX Runtime cannot run the base, or where the base is random.",
        "",
        "| models | way | tried | crashed | refused | " + " | ".join(CHECKS) + " |",
        "|---|---|--:|--:|--:|" + "--:|" * len(CHECKS),
    ]
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.suite, outcome.way), []).append(outcome)
    for (suite, way), group in groups.items():
        cells = [
            suite,
            way,
            len(group),
            sum(bool(o.crash) for o in group),
            sum(bool(o.refused) for o in group),
        ]
        for check in CHECKS:
            asked = [o.checks[check] for o in group if check in o.checks]
            cells.append(f"{sum(asked)} of {len(asked)}")
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    reasons = collections.Counter(_reason(o.refused) for o in outcomes if o.refused)
    lines += ["", "## Refused, by reason", "", "| models | reason |", "|--:|---|"]
    lines += [f"| {count} | {reason} |" for reason, count in reasons.most_common()]
    failures = [o for o in outcomes if o.crash or not all(o.checks.values())]
    lines += ["", "## Failures", ""]
    lines += [f"- {o.suite} / {o.name} ({o.way}): {o.crash or _failed(o)}" for o in failures] or ["None."]
    return "\n".join(lines) + "\n"


def _failed(outcome: Outcome) -> str:
    return ", ".join(name for name, passed in outcome.checks.items() if not passed)


def _reason(text: str) -> str:
    """What is common to refusals of one kind: names and numbers left out."""
    text = re.sub(r"\(shape [^)]*\)|of shape \([^)]*\)", "(of this shape)", text)
    text = re.sub(
        r"ONNX Runtime [0-9.]+ cannot load the model: .*", "ONNX Runtime cannot load the model", text
    )
    text = re.sub(r"the model cannot run on these samples: .*", "ONNX Runtime cannot run the base", text)
    text = re.sub(r"'[^']*'", "...", text)
    return re.sub(r"\b\d+\b", "n", text).replace("|", "/")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--suite", action="append", help="only this suite; repeatable")
    parser.add_argument("--only", default="", help="only models with this in their names")
    parser.add_argument("--limit", type=int, default=0, help="at most so many models a suite")
    parser.add_argument("--write", metavar="PAGE", help="write the table there, else to stdout")
    args = parser.parse_args()
    begin = time.perf_counter()
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        for suite, models in suites(Path(folder)).items():
            if args.suite and suite not in args.suite:
                continue
            count = 0
            for model in models:
                if args.only not in model.name:
                    continue
                count += 1
                outcomes += [tried(model, way, Path(folder)) for way in ("classifier", "forced")]
                print(f"\r{suite}: {count}", end="", file=sys.stderr, flush=True)
                if count == args.limit:
                    break
            print(file=sys.stderr)
    text = page(outcomes, time.perf_counter() - begin)
    if args.write:
        Path(args.write).write_text(text, encoding="utf-8")
    else:
        print(text)
    return int(any(o.crash or not all(o.checks.values()) for o in outcomes))


if __name__ == "__main__":
    raise SystemExit(main())
