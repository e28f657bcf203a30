"""What does `report` read, and what does a browser see of its page? A result as JSON, and an HTML parser."""

from __future__ import annotations

import base64
import json
from html.parser import HTMLParser
from typing import Any

import numpy as np

from onnxtweak.data.thumbnails import png
from onnxtweak.goal import ResolvedGoal
from onnxtweak.head import ONE_LABEL
from onnxtweak.method.selection.candidates import add_weights, no_theta
from onnxtweak.report import schema
from onnxtweak.stages import report_data
from onnxtweak.types import Trial
from tests.support import results


def a_document(classes: int = 12, seed: int = 0, each: int = 20, **changes: Any) -> dict[str, Any]:
    """A join on `classes` classes that helped the first two, with every kind of evidence.

    each : samples of a class, about.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, classes * each)
    wrong = rng.random((2, len(labels))) < 0.2
    predicted = [np.where(w, rng.integers(0, classes, len(labels)), labels) for w in wrong]
    predicted[0][labels < 2] = classes - 1
    confusions = []
    for row in predicted:
        table = np.zeros((classes, classes), np.int64)
        np.add.at(table, (labels, row), 1)
        confusions.append(table.tolist())
    before, after = (results.metrics(table, (0, 1)) for table in confusions)
    names = tuple(f"class {c}" for c in range(classes))
    picture = png(rng.integers(0, 255, (8, 8), dtype=np.uint8))
    weights = add_weights(no_theta(1, 1).sizes[0], rng.lognormal(size=500))
    decided = [ONE_LABEL.decisions(each, labels) for each in predicted]
    changed = report_data.of_predictions((before, after), decided)
    scores = [
        rng.normal(size=(len(labels), classes)) + 9 * (row[:, None] == np.arange(classes))
        for row in predicted
    ]
    changed |= report_data.of_strengths(scores, predicted, labels, ResolvedGoal(np.array([0, 1])))
    made = results.a_result(
        verdict=results.a_verdict(
            changed["fixed"], changed["broken"], changed["support"], targets=(0, 1), names=names
        ),
        before=before,
        after=after,
        bias_control=before,
        targets=names[:2],
        n=(10, 10),
        scale=(5.0, 5.0),
        classes=names,
        evidence=changed
        | {
            "validation": {
                "samples": 100,
                "base": point(0, 0.1),
                "chosen": point(-2, 0.8),
                "bias": point(0, 0.5),
            },
            "bias_curve": [point(-1, 0.3), point(0, 0.5), point(3, 0.7)],
            "trials": report_data.of_trials(
                [Trial(n, s, s / 5 - n / 10, s / 80) for n in (1, 10) for s in (0, 5, 20)]
            ),
            "theta": [report_data.theta_histogram(weights, np.array([2.0, 3.0]))] * 2,
            "layers": [
                {"tap": "relu1", "op": "Relu", "shape": [8], "target": t, "synapses": 10} for t in (0, 1)
            ],
            "graph": {
                "places": [
                    {"name": "x", "op": "input", "role": "input"},
                    {"name": "relu1", "op": "Relu", "role": "read"},
                    {"name": "onnxtweak/1/add", "op": "Add", "role": "added"},
                ],
                "edges": [[0, 1, True], [1, 2, False]],
                "left_out": 0,
            },
            "size": {"before": 1000, "after": 1100},
            "latency": {"before": 10.0, "after": 10.5, "increase": 5.0, "turns": 99},
            "samples": {"fixed": [a_sample(picture)], "broken": []},
            "provenance": {"onnxtweak": "0.1.0", "data_sha256": "e" * 64},
        },
    )
    return json.loads(json.dumps(schema.document("join", made))) | changes


def point(drop: float, target: float) -> dict[str, float]:
    return {"drop": drop, "target": target}


def a_sample(picture: bytes) -> dict[str, Any]:
    uri = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    return {"row": 3, "where": "row 3 of x.npz", "label": 0, "before": 1, "after": 0, "picture": uri}


class Page(HTMLParser):
    """What a browser would see: tags (name, attributes) and text."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "br", "img", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (["script"], ["style"]):
            self.text.append(data)
