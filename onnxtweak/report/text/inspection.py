"""What does the text say about a model that was looked into, or a machine?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnxtweak.report.text.layout import Block, Facts, Heading, Note, TextTable
from onnxtweak.results import Diagnosis, Inspection


def diagnosis(found: Diagnosis) -> tuple[Block, ...]:
    """A line per finding; then, for each that is not ok, what to do."""
    lines = tuple(
        (f.name, f.detail if f.state == "ok" else f"{f.state.upper()}: {f.detail}") for f in found.findings
    )
    hints = (Note(f"{f.name}: {f.hint}") for f in found.findings if f.state != "ok" and f.hint)
    return (Heading("This machine"), Facts(lines), *hints)


def inspection(found: Inspection) -> tuple[Block, ...]:
    """What is in the file, where its logits are, and which hidden tensors can be watched."""
    chosen = {tap.name for tap in found.taps}
    rows = [
        (
            name,
            op,
            dtype,
            _shape(shape),
            "?" if shape is None else f"{neurons:,}",
            "yes" if activation else "",
        )
        for name, op, dtype, shape, neurons, activation in found.candidates
    ]
    marked = frozenset(row for row, candidate in enumerate(found.candidates) if candidate[0] in chosen)
    facts = [
        ("sha256", found.model.sha256),
        ("opset", _opset(found.opset)),
        ("IR version", str(found.ir_version)),
        ("producer", found.producer or "unknown"),
        *(("input", _value(*value)) for value in found.inputs),
        *(("output", _value(*value)) for value in found.outputs),
        ("logits", found.logits[2]),
        (
            "kind",
            found.kind if found.class_axis is None else f"{found.kind}, classes on axis {found.class_axis}",
        ),
        ("classes", "unknown" if found.classes is None else f"{found.classes:,}"),
        ("watched", _watched(found)),
    ]
    facts += [("tweak inside", _tweak(tweak)) for tweak in found.tweaks]
    return (
        Heading(str(found.model.path)),
        Facts(tuple(facts)),
        Heading("Hidden tensors that can be watched"),
        TextTable(
            ("tensor", "made by", "type", "shape", "neurons", "activation"),
            tuple(rows),
            left=3,
            marked=marked,
        ),
        *map(Note, found.notes),
    )


def _tweak(inside: dict[str, Any]) -> str:
    """A tweak found in a model; whole digests are left to the JSON form."""
    return (
        f"{inside['number']}: {inside['kind']}, scale {inside['scale']:g}, made by onnxtweak "
        f"{inside['version']} for the base with sha256 {inside['base_sha256'][:12]}…"
    )


def _opset(opset: dict[str, int]) -> str:
    return ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in opset.items())


def _watched(found: Inspection) -> str:
    if found.candidates and all(shape is None for _, _, _, shape, _, _ in found.candidates):
        return "unknown: the hidden tensors could not be measured"
    tensors = "tensor" if len(found.taps) == 1 else "tensors"
    neurons = "neuron" if found.neurons == 1 else "neurons"
    return f"{len(found.taps):,} {tensors}, {found.neurons:,} {neurons}"


def _value(name: str, dtype: str | None, shape: Sequence[Any] | None) -> str:
    return f"{name} {dtype or '?'} {'of any shape' if shape is None else _shape(shape)}"


def _shape(shape: Sequence[Any] | None) -> str:
    return (
        "?" if shape is None else "x".join("?" if axis is None else str(axis) for axis in shape) or "scalar"
    )
