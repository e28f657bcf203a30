"""Several labels: a group that should do better, a budget, decisions to keep; read from the written file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import f1_score

from onnxtweak.cli.main import main
from tests.support.labels_at_positions import labels_at_positions
from tests.support.plain_session import plain_session
from tests.support.several_labels import several_labels

QUICK = ("--hidden", "0", "--device", "cpu", "--max-class-drop", "none")


def fitted(capsys, model, data, *words):
    """The JSON of a fit, and what its file shows."""
    new = data.parent / "new.onnx"
    assert (
        main(["fit", str(model), "-d", str(data), *words, *QUICK, "-o", str(new), "-f", "json", "--force"])
        == 0
    )
    made, x = json.loads(capsys.readouterr().out), np.load(data)["x"]
    return made, lambda samples=x: _shown(new, samples)


def _shown(path, x):
    session = plain_session(str(path))
    return session.run(["answer"], {"x": x})[0] > 0.5


@pytest.mark.parametrize(("words", "most"), [(("--budget", "12"), 12), (("--synapses", "8"), 8 + 2)])
def test_a_patch_within_a_budget(tmp_path, capsys, words, most):
    made = several_labels("sigmoid", tmp_path, samples=500)
    found, shown = fitted(capsys, made.model, made.data, "-t", "1", "-t", "4", *words)
    assert 0 < found["tweak"]["parameters"] <= most
    before, after = (
        f1_score(made.labels, each, average=None)[[1, 4]].mean() for each in (made.shown(made.model), shown())
    )
    assert after > before + 0.1


def test_a_budget_that_allows_nothing_keeps_the_base(tmp_path, capsys):
    made = several_labels("sigmoid", tmp_path, samples=300)
    found, _ = fitted(capsys, made.model, made.data, "--budget", "2")
    assert found["verdict"]["answer"] == "base"
    assert any("2 numbers allow no threshold for each of 6 labels" in note for note in found["notes"])


@pytest.mark.parametrize("head", ["samples", "positions"])
def test_samples_without_labels_keep_their_decisions(tmp_path, capsys, head):
    """Of samples unlike those with labels: one value of the input is another there."""
    if head == "samples":
        made = several_labels("sigmoid", tmp_path, samples=500)
    else:
        made = labels_at_positions("tokens", tmp_path, samples=120)
    unlike = made.x[:200] + np.float32(2) * np.eye(made.x.shape[-1], dtype=np.float32)[0]
    np.savez(tmp_path / "keep.npz", x=unlike)
    base = _shown(made.model, unlike)
    changed = []
    for words in ((), ("--keep", str(tmp_path / "keep.npz"))):
        found, shown = fitted(capsys, made.model, made.data, *words)
        changed.append(float((shown(unlike) != base).any(axis=-1).mean()))
    assert changed[1] < 0.9 * changed[0]
    told = found["listed"]["keep"]
    if head == "samples":
        assert told["broken"] / told["right"] == pytest.approx(changed[1])
    assert found["after"]["overall"] > found["before"]["overall"] + 0.02


def test_a_slice_does_better_by_the_f1_of_its_decisions(tmp_path, capsys):
    """One site reads the first weak label another way: it gains, and what is said is what the file shows."""
    made = several_labels("sigmoid", tmp_path, samples=900)
    site = np.where(np.arange(len(made.x)) % 5 == 0, "b", "a")
    x = made.x.copy()
    x[site == "b", 0] += 1.0  # a site of its own kind, a fifth of the samples
    data, test = tmp_path / "sites.npz", np.arange(len(x)) % 3 == 0
    np.savez(data, x=x[~test], y=made.labels[~test], site=site[~test])
    np.savez(tmp_path / "test.npz", x=x[test], y=made.labels[test], site=site[test])
    words = ("--slice", "site=b", "--test", str(tmp_path / "test.npz"))
    found, shown = fitted(capsys, made.model, data, *words)
    own = test & (site == "b")
    before, after = (
        f1_score(made.labels[own].ravel(), each.ravel())
        for each in (_shown(made.model, x[own]), shown(x[own]))
    )
    (group,) = [one for one in found["verdict"]["groups"] if one["name"] == "b"]
    assert (group["before"], group["after"]) == pytest.approx((before, after))
    assert after > before and any("counting 20 times" in note for note in found["notes"])
    _, shown = fitted(capsys, made.model, data, "--test", str(tmp_path / "test.npz"))
    assert after >= f1_score(made.labels[own].ravel(), shown(x[own]).ravel())
