"""Is what a command reports what the file itself answers? Files are run in ONNX Runtime alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

import onnxtweak
from onnxtweak.results import Result
from tests.support.plain_session import plain_session

TARGET = 1
Rows = dict[str, np.ndarray]


@dataclass(frozen=True)
class Trial:
    """A model, and how its file is run outside onnxtweak.

    fed : what a session takes, from rows by input. score : the scores (n, C), from the file's outputs.
    apart : whether samples are run one at a time. constants : `--input` of all commands.
    """

    proto: ModelProto
    fed: Callable[[Rows], Mapping[str, np.ndarray]] = lambda rows: rows
    score: Callable[[list[np.ndarray]], np.ndarray] = lambda outputs: outputs[0]
    apart: bool = False
    constants: dict[str, float] = field(default_factory=dict)

    def scores(self, file: Path, rows: Rows) -> np.ndarray:
        """(n, C), as the file itself shows them."""
        session = plain_session(str(file))
        count = len(next(iter(rows.values())))
        size = 1 if self.apart else count
        parts = [{k: v[i : i + size] for k, v in rows.items()} for i in range(0, count, size)]
        return np.concatenate([self.score(session.run(None, dict(self.fed(part)))) for part in parts])


def try_out(
    trial: Trial, rows: Rows, folder: Path, *, methods: tuple[str, ...] = ("join", "fit"), **options: Any
) -> dict[str, Result]:
    """Each method on a weak class of the model; asserts that the files answer as the results say.

    rows : samples by input, of which the last third are the test. options : of every command;
        `fit` learns linear patches alone where they do not say.
    """
    model = folder / "model.onnx"
    model.write_bytes(trial.proto.SerializeToString())
    scores = trial.scores(model, rows)
    lack = np.zeros(scores.shape[1])
    lack[TARGET] = scores.std()
    noise = 0.3 * scores.std() * np.random.default_rng(0).standard_normal(scores.shape)
    labels = (scores + lack + noise).argmax(axis=1)
    cut = len(labels) * 2 // 3
    for name, part in (("data", slice(0, cut)), ("test", slice(cut, None))):
        np.savez(folder / f"{name}.npz", y=labels[part], **{k: v[part] for k, v in rows.items()})
    held_out, truth = {k: v[cut:] for k, v in rows.items()}, labels[cut:]
    results = {}
    for method in methods:
        output = folder / f"{method}.onnx"
        small = {"hidden": 0} if method == "fit" else {}
        result = getattr(onnxtweak, method)(
            model,
            data=folder / "data.npz",
            test=folder / "test.npz",
            target=TARGET,
            output=output,
            threads=1,
            inputs=trial.constants,
            anyway=True,  # labels are drawn from what a random net answers
            **{**small, **options},
        )
        for file, reported in ((model, result.measured.before), (output, result.measured.after)):
            right = (trial.scores(file, held_out).argmax(axis=1) == truth).mean()
            assert right == reported.overall, (method, file)
        results[method] = result
    return results
