"""Decisions of the base that stay where no label says what is right: learnt from, limited, counted."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from onnxtweak import commands
from onnxtweak.cli.main import program
from onnxtweak.report import schema
from onnxtweak.settings import DataSettings, EngineSettings, FitSettings, OutputSettings, TargetSettings
from tests.support.nets import mlp
from tests.support.plain_session import plain_session
from tests.support.weak_class import run

NAMED = 3  # classes that labels name, the first of the model's
SPLIT = 1500


@pytest.fixture(scope="module")
def partly(tmp_path_factory):
    """A model; labelled samples of its first classes, some of which it takes for others; inputs of all."""
    folder = tmp_path_factory.mktemp("kept")
    proto = mlp(inputs=16, hidden=(32,))
    onnx.save(proto, folder / "model.onnx")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8000, 16)).astype(np.float32)
    Z = run(proto, x)
    shown = Z.argmax(axis=1)
    # Samples of named classes are what the model shows, but for what a patch can learn; and some are what
    # it takes for others: whoever learns from those calls all of them so.
    truth = (Z[:, :NAMED] + 0.5 * Z.std() * np.stack([x[:, 3], -x[:, 3], 0 * x[:, 3]], axis=1)).argmax(axis=1)
    labelled = np.flatnonzero((shown < NAMED) | (rng.random(len(x)) < 0.05))[:SPLIT]
    others = np.setdiff1d(np.flatnonzero(shown >= NAMED), labelled)
    side = np.where(x[labelled, 2] > 0, "l", "r")
    np.savez(folder / "data.npz", x=x[labelled], y=truth[labelled], side=side)
    np.savez(folder / "keep.npz", x=x[others[:600]])
    np.save(folder / "unseen.npy", x[others[600:]])
    return folder


def fit(folder, written=None, /, keep=(), **changes):
    data = DataSettings((str(folder / "data.npz"),), keep=keep, by=changes.pop("by", ()))
    return commands.fit(
        model=str(folder / "model.onnx"),
        data=data,
        engine=EngineSettings(backend="numpy"),
        settings=changes.pop("settings", FitSettings(hidden=0)),
        output=OutputSettings(None if written is None else str(written), force=True),
        **changes,
    )


def changed(folder, path):
    """The share of unseen samples of the other classes that the file decides otherwise."""
    x = np.load(folder / "unseen.npy")

    def shown(file):
        session = plain_session(str(file))
        return session.run(None, {session.get_inputs()[0].name: x})[0].argmax(axis=1)

    return np.mean(shown(path) != shown(folder / "model.onnx"))


def test_what_no_label_names_is_not_unlearnt(partly, tmp_path):
    spared = fit(partly, tmp_path / "spared.onnx")
    lost = fit(partly, tmp_path / "lost.onnx", keep=("none",))
    assert changed(partly, tmp_path / "lost.onnx") > 0.3
    assert changed(partly, tmp_path / "spared.onnx") < 0.05
    assert any(f"labels name {NAMED} of" in note for note in spared.notes)
    assert not any("labels name" in note for note in lost.notes)
    assert spared.listed.keep.right == spared.samples["keep"] > 0 and lost.listed is None
    assert spared.listed.keep.broken <= 0.05 * spared.listed.keep.right


def test_samples_of_a_target_keep_their_labels(partly):
    """Whoever names a class wants what is taken for another to change, and has shown what it is."""
    found, every = fit(partly, targets=TargetSettings(("0",))), fit(partly)
    with np.load(partly / "data.npz") as file:
        shown = run(onnx.load(partly / "model.onnx"), file["x"]).argmax(axis=1)
        own = np.count_nonzero((shown >= NAMED) & (file["y"] == 0))
        other = np.count_nonzero((shown >= NAMED) & (file["y"] != 0))
    assert own > 5
    assert 0 < found.samples["keep"] <= other and every.samples["keep"] > found.samples["keep"]
    assert any("that are of no target stands in for a label" in note for note in found.notes)
    assert not any("of no target" in note for note in every.notes)


def test_listed_inputs_without_labels_are_learnt_from(partly, tmp_path):
    made = fit(partly, tmp_path / "out.onnx", keep=(str(partly / "keep.npz"),))
    assert changed(partly, tmp_path / "out.onnx") < 0.1
    keep = made.listed.keep
    assert (keep.samples, keep.right) == (600, 600) and keep.broken <= 30
    assert made.listed.form == "" and made.listed.bias is None
    promise = next(promise for promise in made.verdict.promises if promise.name == "keep")
    assert promise.state == "kept" and promise.limit == -5 and f"{keep.broken:,} of 600" in promise.detail
    assert ("keep", 600) in made.run.passes
    document = json.loads(schema.dumps(schema.document("fit", made)))
    assert document["listed"]["keep"]["broken"] == keep.broken


def test_beside_a_target_a_slice_groups_and_a_budget(partly, tmp_path):
    keep = (str(partly / "keep.npz"),)
    for number, changes in enumerate(
        (
            {"targets": TargetSettings(("1",)), "by": ("side",)},
            {"settings": FitSettings(hidden=0, slice="side=l")},
            {"settings": FitSettings(hidden=0, slice="side")},
            {"settings": FitSettings(budget=12, hidden=0), "targets": TargetSettings(("1",))},
        )
    ):
        made = fit(partly, tmp_path / f"{number}.onnx", keep=keep, **changes)
        assert made.listed.keep.broken <= 40, changes
        assert all(group.name in ("l", "r") for group in made.verdict.groups)


def test_without_a_limit_for_classes_any_number_may_change(partly):
    made = fit(partly, keep=("none",), settings=FitSettings(hidden=0, max_class_drop=None))
    assert made.listed is None
    keep = (str(partly / "keep.npz"),)
    made = fit(partly, keep=keep, settings=FitSettings(hidden=0, max_class_drop=None, max_overall_drop=50))
    states = {promise.name: promise.state for promise in made.verdict.promises}
    assert states.get("keep", "kept") == "kept"


def test_the_command_line_says_what_is_kept(partly, tmp_path):
    model, data = str(partly / "model.onnx"), str(partly / "data.npz")
    words = ["fit", model, "-d", data, "--hidden", "0", "-o", str(tmp_path / "out.onnx")]
    done = CliRunner().invoke(program, [*words, "--keep", str(partly / "keep.npz")])
    assert "of kept decisions change" in done.stdout and "of 600 changed" in done.stdout
    done = CliRunner().invoke(program, [*words, "--keep", "none", "--force"])
    assert done.exit_code in (0, 1) and "kept decisions" not in done.stdout
