"""A tweaked model against its base: one CPU thread, in turns.

    python benchmarks/speed/latency.py [--models cnn3,resnet20,googlenet] [--taps 1,2,4,8] [--pool none|mean]
                                 [--batch 1] [--seconds 10] [--least]

Synapses sit on 1 to 8 activations spread over the depth of the network, ten each, for one target. Base and
tweaked model take turns in one process, neither with spinning threads; what is printed is the median of the
paired differences, and the difference of the fastest tenth, which other work on the machine disturbs less.
The goal: at most 3 % or 15 microseconds more, whichever is larger.

With --least a second tweaked model is timed that reads a slice of each map, which no gathering of neurons can
be cheaper than.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from onnxtweak.engine.opened import Opened, opened_model
from onnxtweak.engine.session import open_session
from onnxtweak.engine.subject import choose_taps, measured, watchable
from onnxtweak.model.edit.splice import splice
from onnxtweak.patch import Tweak
from onnxtweak.settings import EngineSettings, TapSettings
from onnxtweak.types import Tap
from tests.support.nets import cnn3, random_inputs, reseed_light, resnet20, round_pools_up
from tests.support.tweaks import random_neurons, random_patch, saved

ENGINE = EngineSettings(device="cpu", threads=1)
MODELS = {
    "cnn3": cnn3,
    "resnet20": resnet20,
    "googlenet": lambda: round_pools_up(reseed_light("inception_v1")),
}
_PER_TAP = 10
_WARM_UP = 10


def spread(taps: tuple[Tap, ...], count: int) -> tuple[Tap, ...]:
    """`count` of the taps, evenly over the depth; the middle one for a count of one."""
    if count == 1:
        return (taps[len(taps) // 2],)
    places = np.linspace(0, len(taps) - 1, count).round().astype(int)
    return tuple(taps[place] for place in dict.fromkeys(places))


def activations(opened: Opened, feeds: dict, pool: str) -> tuple:
    """The subject and its activations."""
    found = [candidate for candidate in watchable(opened) if candidate.activation]
    subject, shapes = measured(opened, [c.name for c in found], feeds, ENGINE)
    return subject, choose_taps(opened, found, shapes, TapSettings(pool=(pool,)))


def compare(base: bytes, tweaked: bytes, feeds: dict, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Times of both in microseconds, turn by turn."""
    sessions = [open_session(data, Path(), ENGINE, "model") for data in (base, tweaked)]
    for session in sessions * _WARM_UP:
        session.run(feeds)
    taken: list[tuple[float, float]] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        order = (0, 1) if len(taken) % 2 else (1, 0)
        turn = {}
        for which in order:
            begin = time.perf_counter_ns()
            sessions[which].run(feeds)
            turn[which] = (time.perf_counter_ns() - begin) / 1e3
        taken.append((turn[0], turn[1]))
    times = np.array(taken)
    return times[:, 0], times[:, 1]


def least(base: bytes, logits: str, taps: tuple[Tap, ...], classes: int) -> bytes:
    """The model with the first numbers of each tensor, one a channel, added to its logits."""
    model = onnx.load_from_string(base)
    for node in model.graph.node:
        node.output[:] = ["least/logits" if name == logits else name for name in node.output]

    def constant(name: str, values: list[int] | np.ndarray) -> str:
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), f"least/{name}"))
        return f"least/{name}"

    def node(op: str, inputs: list[str], output: str, **attributes: int) -> str:
        model.graph.node.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    parts = []
    for number, tap in enumerate(taps):
        axes = list(range(1, 1 + len(tap.shape)))
        ends = [_PER_TAP if axis == 1 + tap.channel_axis else 1 for axis in axes]
        bounds = [("starts", [0] * len(axes)), ("ends", ends), ("axes", axes)]
        cut = [tap.name, *(constant(f"{name}{number}", values) for name, values in bounds)]
        parts.append(node("Flatten", [node("Slice", cut, f"least/cut{number}")], f"least/{number}", axis=1))
    values = node("Concat", parts, "least/values", axis=1)
    weight = constant("weight", np.ones((_PER_TAP * len(taps), classes), np.float32))
    node("Add", ["least/logits", node("MatMul", [values, weight], "least/delta")], logits)
    return model.SerializeToString()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--taps", default="1,2,4,8")
    parser.add_argument("--pool", default="none")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--least", action="store_true")
    args = parser.parse_args()
    columns = ["model", "tapped tensors", "base", "more", "more, fastest tenth", "allowed", "turns"]
    columns += ["least, fastest tenth"] if args.least else []
    print("| " + " | ".join(columns) + " |")
    print("|---|" + "--:|" * (len(columns) - 1))
    over = 0
    for name in args.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            model = saved(MODELS[name](), Path(folder))
            feeds = random_inputs(model.proto, args.batch)
            subject, taps = activations(opened_model(model, TapSettings()), feeds, args.pool)
            for count in dict.fromkeys(min(int(c), len(taps)) for c in args.taps.split(",")):
                chosen = spread(taps, count)
                synapses = random_patch("synapses", _PER_TAP * len(chosen), 1)
                neurons = random_neurons(chosen, _PER_TAP * len(chosen))
                tweak = Tweak("join", model.base_sha256, subject.logits, subject.classes, neurons, synapses)
                base, tweaked = compare(model.data, splice(model, tweak), feeds, args.seconds)
                more = float(np.median(tweaked - base))
                fast = float(np.percentile(tweaked, 10) - np.percentile(base, 10))
                allowed = max(0.03 * float(np.median(base)), 15.0)
                over += min(more, fast) > allowed
                cells = [name, len(chosen), f"{np.median(base):,.0f} us", f"{more:+,.1f} us"]
                cells += [f"{fast:+,.1f} us", f"{allowed:,.0f} us", f"{len(base):,}"]
                if args.least:
                    cut = least(model.data, subject.logits, chosen, subject.classes)
                    base, reading = compare(model.data, cut, feeds, args.seconds)
                    cells.append(f"{np.percentile(reading, 10) - np.percentile(base, 10):+,.1f} us")
                print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    return int(over > 0)


if __name__ == "__main__":
    raise SystemExit(main())
