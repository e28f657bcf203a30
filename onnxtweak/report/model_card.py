"""What does a model card say about a patch? A section with the metadata that Hugging Face reads.

The metadata is YAML whose texts are quoted as JSON quotes them, which is YAML too: names may hold anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from onnxtweak._version import __version__
from onnxtweak.quantities import number_of
from onnxtweak.report.changes import cells, measure_of, most_changed
from onnxtweak.report.markup import STRANGE, percent, shortened
from onnxtweak.report.promises import headline, rows
from onnxtweak.report.text.layout import Block, Facts, Heading, Note, TextTable, markdown
from onnxtweak.verdict import COPY

_CLASSES = 10  # that gain, and that pay


def model_card(made: Mapping[str, Any], name: str = "") -> str:
    """The card of the document of a patch: metadata, then a section to put under what is said of the base.

    name : of the model; by default that of its file. Raises LookupError or TypeError for another document.
    """
    name = name or PurePath((made["output"] or made["model"])["path"]).stem
    return f"{_metadata(made, name)}\n{markdown(_section(made))}"


def _metadata(made: Mapping[str, Any], name: str) -> str:
    kind, measure = ("accuracy", "Accuracy") if measure_of(made) == "accuracy" else ("f1", "Macro F1")
    metrics = [
        f"    - type: {kind}\n      name: {_quoted(said)}\n      value: {made['after'][key]:.6g}"
        for said, key in ((measure, "overall"), (f"{measure} of the target classes", "target"))
        if made["after"][key] is not None
    ]
    dataset = f"the {made['split']} samples"
    lines = [
        "---",
        "library_name: onnx",
        "tags:",
        "- onnx",
        "- onnxtweak",
        "model-index:",
        f"- name: {_quoted(name)}",
        "  results:",
        "  - task:",
        "      type: other",
        "      name: Classification",
        "    dataset:",
        "      type: custom",
        f"      name: {_quoted(dataset)}",
        "    metrics:",
        *metrics,
        "---",
        "",
    ]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return json.dumps(STRANGE.sub("\ufffd", shortened(text, 200)), ensure_ascii=False)


def _section(made: Mapping[str, Any]) -> tuple[Block, ...]:
    verdict, tweak, latency = made["verdict"], made["tweak"], made.get("evidence", {}).get("latency")
    facts = [
        ("verdict", headline(verdict)),
        ("goal", verdict["goal"]),
        (
            "method",
            f"onnxtweak {__version__} {made['command']}, {number_of(tweak['parameters'], 'parameter')} added",
        ),
        ("base", f"sha256 {made['model']['sha256']}"),
        ("samples", ", ".join(f"{role} {count:,}" for role, count in made["samples"].items())),
    ]
    if latency:
        facts.append(("latency of one sample", f"{latency['increase']:+.1f} % on one CPU thread"))
    blocks: list[Block] = [Heading("Patched with onnxtweak"), Facts(tuple(facts))]
    if verdict["state"] == COPY:
        return tuple(blocks)
    promises = tuple((row.said, row.change, row.interval, row.state) for row in rows(verdict))
    figures = tuple(
        (said, *(percent(made[side][key]) for side in ("before", "after", "bias_control")))
        for said, key in (("all classes", "overall"), ("target classes", "target"))
    )
    changed, left_out = most_changed(made, _CLASSES)
    classes = tuple(cells(one, 60) for one in changed)
    return (
        *blocks,
        TextTable(("promise", "points", "95 % interval", ""), promises),
        Heading(f"{measure_of(made).capitalize()} on the {made['split']} samples, in percent"),
        TextTable(("", "base", "patched", "a bias alone"), figures),
        Heading("Classes that gain, and that pay"),
        TextTable(("class", "base", "patched", "points", "95 % interval"), classes),
        *([Note(f"{number_of(left_out, 'more class')} changed")] if left_out else []),
        Note("the patch can be removed, byte for byte: `onnxtweak revert`"),
    )
