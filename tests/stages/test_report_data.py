"""Counts at every strength and bias: those of each sample, computed by itself."""

from __future__ import annotations

import numpy as np
import pytest

from onnxtweak.commands import apply, evaluate, join
from onnxtweak.goal import ResolvedGoal
from onnxtweak.settings import DataSettings, EngineSettings, OutputSettings, TargetSettings
from onnxtweak.stages import report_data
from tests.support.weak_class import TARGET, weak_cnn

SAMPLES, CLASSES = 300, 5


def counted(goal: ResolvedGoal):
    rng = np.random.default_rng(4)
    base = rng.normal(size=(SAMPLES, CLASSES)).astype(np.float32)
    tweaked = (base + rng.normal(size=base.shape) * 0.7).astype(np.float32)
    labels = rng.integers(0, CLASSES - 1, SAMPLES)  # the last class has no samples
    predicted = base.argmax(axis=1), tweaked.argmax(axis=1)
    found = report_data.of_strengths((base, tweaked), predicted, labels, goal)["strengths"]
    return base, tweaked, labels, found


@pytest.mark.parametrize("rows", [7, 1 << 22])
def test_each_point_counts_every_sample(monkeypatch, rows):
    monkeypatch.setattr(report_data, "_ROWS", rows)
    targets = np.array([1, 3])
    base, tweaked, labels, found = counted(ResolvedGoal(targets))
    assert len(found["biases"]) > 4 and found["biases"] == sorted(found["biases"])
    for s, strength in enumerate(found["strengths"]):
        for b, bias in enumerate(found["biases"]):
            Z = base + (tweaked - base) * np.float32(strength)
            Z[:, targets] += np.float32(bias)
            right = labels[Z.argmax(axis=1) == labels]
            expected = np.bincount(right, minlength=CLASSES)
            assert found["right"][s][b] == " ".join(map(str, expected)), (strength, bias)


def test_biases_change_the_targets_and_nothing_else_has_any():
    _, _, labels, found = counted(ResolvedGoal(np.array([1, 3])))
    own = found["right"][found["strengths"].index(1.0)]
    of_targets = [sum(int(text.split()[c]) for c in (1, 3)) for text in own]
    assert of_targets == sorted(of_targets) and of_targets[0] < of_targets[-1] < np.isin(labels, (1, 3)).sum()
    for goal in (ResolvedGoal(np.arange(CLASSES)), ResolvedGoal(np.empty(0, np.int64))):
        assert counted(goal)[3]["biases"] == [0.0]


def test_a_few_samples_of_each_class_are_shown():
    labels = np.repeat(np.arange(30), 10)
    rows = report_data.few_of_each(np.arange(len(labels)), labels, ResolvedGoal(np.array([29])))
    assert labels[rows[:4]].tolist() == [29] * 4 and len(rows) == 48
    assert (np.bincount(labels[rows])[labels[rows]] == 4).all()


def test_a_point_is_what_the_written_file_does(tmp_path):
    """At half the strength: the file that `apply --scale 0.5` writes, measured on its own."""
    model, data = weak_cnn(tmp_path)
    tweak, half = str(tmp_path / "tweak.safetensors"), str(tmp_path / "half.onnx")
    samples = {"data": DataSettings((str(data),), test=(str(data),))}
    made = join(
        model=str(model),
        **samples,
        engine=EngineSettings(backend="numpy"),
        targets=TargetSettings((str(TARGET),)),
        output=OutputSettings(str(tmp_path / "o.onnx"), tweak=tweak, evidence=True),
    )
    found = made.evidence["strengths"]
    neutral = found["biases"].index(0.0)

    def shares(strength: float) -> list[float]:
        right = np.array(found["right"][found["strengths"].index(strength)][neutral].split(), float)
        with np.errstate(invalid="ignore"):
            return (right / made.evidence["support"]).tolist()

    np.testing.assert_allclose(shares(0.0), made.before.per_class)
    np.testing.assert_allclose(shares(1.0), made.after.per_class)
    apply(model=str(model), tweak=tweak, output=OutputSettings(half), scale=0.5)
    measured = evaluate(model=half, data=DataSettings((str(data),))).metrics
    np.testing.assert_allclose(shares(0.5), measured.per_class)
    assert made.after.overall != made.before.overall
