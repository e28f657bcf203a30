"""Several labels at once: measured, fitted, written, verified and taken out, label by label."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

import onnxtweak
from onnxtweak import commands
from onnxtweak.cli.main import main
from onnxtweak.commands.dump import dump
from onnxtweak.errors import DataError, ModelError, UsageError
from onnxtweak.settings import DataSettings, OutputSettings, TargetSettings
from onnxtweak.stages import gather
from onnxtweak.theta.reference import outcome, signed_theta
from tests.support.nets import NetBuilder
from tests.support.plain_session import plain_session
from tests.support.several_labels import KINDS, LABELS, WEAK, several_labels

SAMPLES = 500
fit = partial(onnxtweak.fit, hidden=0)  # a hidden layer takes most of the time


@pytest.fixture(scope="module", params=KINDS)
def made(request, tmp_path_factory):
    return several_labels(request.param, tmp_path_factory.mktemp(request.param), SAMPLES)


def test_labels_are_measured_at_the_thresholds_of_the_file(made):
    found = onnxtweak.evaluate(made.model, data=made.data, target=list(WEAK))
    shown, metrics = made.shown(made.model), found.metrics
    assert metrics.per_class == pytest.approx(f1_score(made.labels, shown, average=None))
    assert metrics.precision == pytest.approx(precision_score(made.labels, shown, average=None))
    assert metrics.recall == pytest.approx(recall_score(made.labels, shown, average=None))
    assert metrics.overall == pytest.approx(f1_score(made.labels, shown, average="macro"))
    assert metrics.target == pytest.approx(metrics.per_class[list(WEAK)].mean())
    assert metrics.support.tolist() == made.labels.sum(axis=0).tolist()
    f1, mean_precision, micro = found.readings
    assert (f1.name, f1.value) == ("f1", pytest.approx(metrics.overall))
    assert mean_precision.value == pytest.approx(metrics.mean_average_precision)
    assert micro.value == pytest.approx(f1_score(made.labels, shown, average="micro"))
    assert f1.interval[0] < f1.value < f1.interval[1]
    assert found.unit == "labels"
    assert f": macro F1 {metrics.overall:.1%} on {len(made.labels):,} samples>" in repr(found)


def test_what_is_not_known_does_not_count(tmp_path):
    made = several_labels("sigmoid", tmp_path, SAMPLES, unknown=0.3)
    found = onnxtweak.evaluate(made.model, data=made.data)
    shown = made.shown(made.model)
    for c in range(LABELS):
        known = made.labels[:, c] >= 0
        assert found.metrics.per_class[c] == pytest.approx(f1_score(made.labels[known, c], shown[known, c]))
    assert "labels are not known and do not count" in " ".join(found.notes)
    (nan,) = (np.where(made.labels < 0, np.nan, made.labels),)
    again = onnxtweak.evaluate(made.model, data=(made.x, nan))
    assert np.array_equal(again.metrics.confusion, found.metrics.confusion)


def test_average_precision_is_that_of_scikit_learn(tmp_path):
    made = several_labels("logits", tmp_path, SAMPLES)
    found = onnxtweak.evaluate(made.model, data=made.data).metrics
    scores = np.asarray(_values(made))
    expected = [average_precision_score(made.labels[:, c], scores[:, c]) for c in range(LABELS)]
    assert found.average_precision == pytest.approx(expected)


def _values(made):

    session = plain_session(str(made.model))
    return session.run([made.output], {"x": made.x})[0]


def test_inspect_says_which_labels_are_wanted(made):
    found = onnxtweak.inspect(made.model)
    if found.kind == "several labels":
        assert f"Labels of shape (N, {LABELS}), 1, 0 and -1 for unknown" in " ".join(found.notes)
    assert (found.kind == "several labels") == (made.output != "answer" or made.cut == 0.5)


def test_the_worst_labels_are_those_of_the_lowest_f1(tmp_path):
    made = several_labels("sigmoid", tmp_path, SAMPLES)
    assert onnxtweak.evaluate(made.model, data=made.data, worst=2).targets == tuple(map(str, WEAK))


def test_one_label_each_is_still_one_label(tmp_path):
    made = several_labels("sigmoid", tmp_path, SAMPLES)
    one = made.labels.argmax(axis=1)
    found = onnxtweak.evaluate(made.model, data=(made.x, one))
    assert found.unit == "samples" and found.metrics.confusion.shape == (LABELS, LABELS)
    hot = onnxtweak.evaluate(made.model, data=(made.x, np.eye(LABELS, dtype=np.int8)[one]))
    assert np.array_equal(hot.metrics.confusion, found.metrics.confusion)


@pytest.mark.parametrize("tail", ["Softmax", "Hardmax"])
def test_a_model_that_shows_one_class_is_refused(tmp_path, tail):
    net = NetBuilder()
    net.op(tail, net.gemm("x", 8, LABELS), axis=1, name="answer")
    model, x = tmp_path / "m.onnx", np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    declared = {"x": (TensorProto.FLOAT, ["N", 8])}, {"answer": (TensorProto.FLOAT, ["N", LABELS])}
    model.write_bytes(net.model(*declared).SerializeToString())
    labels = (np.random.default_rng(1).random((40, LABELS)) < 0.4).astype(np.int8)
    with pytest.raises(ModelError, match="the model does not show each class for itself"):
        onnxtweak.evaluate(model, data=(x, labels))


@pytest.mark.parametrize(
    ("change", "error", "what"),
    [
        (lambda y: y[:, :4], DataError, "marks for 4 labels a sample, and the model has 6"),
        (lambda y: np.zeros_like(y), DataError, "no sample has any label"),
        (
            lambda y: y * 2,
            DataError,
            r"neither class numbers nor one-hot: row \d+ has 2 .*\n.*a mark for each",
        ),
        (
            lambda y: y / 2,
            DataError,
            r"labels are probabilities, such as 0.5 in row \d+ .*\n.*labels >= 0.5",
        ),
        (lambda y: y - 1, DataError, "no sample has any label"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, change, error, what):
    made = several_labels("sigmoid", tmp_path, SAMPLES)
    with pytest.raises(error, match=what):
        onnxtweak.evaluate(made.model, data=(made.x, change(made.labels)))


def test_labels_of_two_kinds_are_refused(tmp_path):
    made = several_labels("sigmoid", tmp_path, SAMPLES)
    one = made.labels.argmax(axis=1)
    with pytest.raises(DataError, match="these labels are a class for each sample"):
        fit(made.model, data=(made.x, made.labels), test=(made.x, one), target=1)


@pytest.mark.parametrize(
    ("asked", "error", "what"),
    [
        ({"metric": "balanced"}, UsageError, "is about one label a sample"),
        ({"threshold": 0.4}, UsageError, "several labels have a threshold each"),
    ],
)
def test_what_does_not_work_says_so(tmp_path, asked, error, what):
    made = several_labels("sigmoid", tmp_path, SAMPLES)
    np.savez(made.data, x=made.x, y=made.labels, site=np.arange(len(made.x)) % 3)
    with pytest.raises(error, match=what):
        onnxtweak.evaluate(made.model, data=made.data, **asked)


def fitted(made, folder, **asked):
    new, tweak = folder / "new.onnx", folder / "new.safetensors"
    return fit(made.model, data=made.data, output=new, tweak=tweak, **asked), new, tweak


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """A model with its samples, and a result with its file, tweak and page, which nothing here changes."""
    folder = tmp_path_factory.mktemp("learnt")
    made, page = several_labels("sigmoid", folder, SAMPLES), folder / "page.html"
    return made, *fitted(made, folder, report=page), page


def test_weak_labels_are_learnt_and_the_file_shows_them(made, tmp_path):
    hidden = 96 if made.model.stem == "sigmoid" else 0
    found, new, tweak = fitted(made, tmp_path, hidden=hidden)
    assert all(check.passed for check in found.checks) and found.verdict.unit == "labels"
    assert {"simulation", "answer", "neutral", "reload"} <= {check.name for check in found.checks}
    promises = {promise.name: promise.state for promise in found.verdict.promises}
    assert promises["targets"] == promises["bias"] == "kept"
    was, now = (f1_score(made.labels, made.shown(path), average=None) for path in (made.model, new))
    assert now.mean() > was.mean() + 0.1 and (now > was - 0.01).all()
    assert (now[list(WEAK)] > was[list(WEAK)] + 0.25).all()
    assert found.after.overall > found.bias_control.overall + 0.05 > found.before.overall + 0.05
    again, back = tmp_path / "again.onnx", tmp_path / "back.onnx"
    onnxtweak.apply(made.model, tweak, again)
    assert again.read_bytes() == new.read_bytes()
    onnxtweak.revert(new, back)
    assert back.read_bytes() == made.model.read_bytes()
    verified = commands.verify(tweaked=str(new), base=str(made.model), data=DataSettings((str(made.data),)))
    assert all(check.passed for check in verified.checks)
    assert verified.after.overall == pytest.approx(now.mean())


def test_labels_that_are_no_target_keep_their_scores(tmp_path):
    made = several_labels("sigmoid", tmp_path, SAMPLES)
    found, new, _ = fitted(made, tmp_path, target=WEAK[0])
    was, now = (_values(made), _of_file(new, made))
    others = [c for c in range(LABELS) if c != WEAK[0]]
    assert np.array_equal(was[:, others], now[:, others])
    assert not np.array_equal(was[:, WEAK[0]], now[:, WEAK[0]])
    states = {promise.name: promise.state for promise in found.verdict.promises}
    assert states["classes"] == states["overall"] == "kept" and found.targets == (str(WEAK[0]),)


def _of_file(path, made):

    session = plain_session(str(path))
    return session.run([made.output], {"x": made.x})[0]


def test_what_is_not_known_is_not_learnt(tmp_path):
    """Marks that are -1 may be anything: hidden ones that are wrong change nothing."""
    made = several_labels("sigmoid", tmp_path, SAMPLES, unknown=0.3)
    one, _, _ = fitted(made, tmp_path)
    assert one.after.overall > one.before.overall + 0.1
    # As if nothing were known of half of the samples, which are only in the way then.
    half = made.labels.copy()
    half[::2] = -1
    fit(made.model, data=(made.x, half), output=tmp_path / "half.onnx", test=(made.x, made.labels))
    wrong = f1_score(made.labels == 1, made.shown(tmp_path / "half.onnx"), average="macro")
    assert wrong > 0.7


def test_the_worst_labels_can_be_asked_for(tmp_path):
    made = several_labels("sigmoid", tmp_path, SAMPLES)
    assert fitted(made, tmp_path, worst=2)[0].targets == tuple(map(str, WEAK))


def test_mean_average_precision_can_be_the_goal(tmp_path):
    made = several_labels("sigmoid", tmp_path, SAMPLES)
    found, _, _ = fitted(made, tmp_path, metric="map")
    assert found.metric.before.value == pytest.approx(found.before.mean_average_precision)
    assert found.metric.gain > 5 and {p.name for p in found.verdict.promises} >= {"metric", "bias"}


def test_thresholds_alone_where_neurons_know_no_more(tmp_path, monkeypatch):
    """Marks that follow from the scores, cut elsewhere: a threshold each is all there is to learn."""
    made = several_labels("logits", tmp_path, SAMPLES)
    marks = (_values(made) > np.array([0, -1.5, 0, 0, 1, 0])).astype(np.int8)
    monkeypatch.setattr(gather, "_OF_MARKS", 10**6)
    found = fit(made.model, data=(made.x, marks), taps="gemm_3", output=tmp_path / "b.onnx", memory="300MB")
    (held,) = (note for note in found.notes if "learning 6 labels of a sample holds arrays of" in note)
    assert "--memory 286 MiB will be exceeded" in held
    assert found.verdict.answer in ("bias", "fit")
    assert (found.after.per_class > found.before.per_class - 0.01).all()
    assert found.after.per_class[1] > found.before.per_class[1] + 0.1


def test_nothing_to_gain_is_a_copy(tmp_path):
    made = several_labels("sigmoid", tmp_path, SAMPLES)
    shown = made.shown(made.model).astype(np.int8)
    fit(made.model, data=(made.x, shown), output=tmp_path / "copy.onnx")
    assert (tmp_path / "copy.onnx").read_bytes() == made.model.read_bytes()


def test_groups_stay_together(tmp_path):
    made = several_labels("sigmoid", tmp_path, SAMPLES)
    np.savez(made.data, x=made.x, y=made.labels, site=np.arange(len(made.x)) // 5)
    found, _, _ = fitted(made, tmp_path, group="site")
    assert any("groups" in caution for caution in found.verdict.cautions)
    assert found.after.overall > found.before.overall


@pytest.mark.parametrize(
    ("command", "made"),
    [("join", "sigmoid"), ("join", "thresholds"), ("retrain", "flags"), ("augment", "logits")],
    indirect=["made"],
)
def test_a_method_of_the_thesis_learns_labels(made, tmp_path, command):
    new, back = tmp_path / "new.onnx", tmp_path / "back.onnx"
    asked = {} if command == "augment" else {"target": [str(c) for c in WEAK]}
    found = getattr(onnxtweak, command)(made.model, data=made.data, output=new, device="cpu", **asked)
    assert {check.name for check in found.checks if check.passed} >= {"simulation", "neutral", "reload"}
    was, now = (f1_score(made.labels, made.shown(path), average=None) for path in (made.model, new))
    assert (now[list(WEAK)] > was[list(WEAK)] + 0.2).all() and (now > was - 0.02).all()
    assert found.after.target > found.bias_control.target and found.verdict.unit == "labels"
    onnxtweak.revert(new, back)
    assert back.read_bytes() == made.model.read_bytes()


@pytest.mark.parametrize(("backend", "unknown"), [("numpy", 0.3), ("numba", 0)])
def test_theta_of_a_label_is_that_of_two_classes(tmp_path, backend, unknown):
    """Each label against its cut, as the slow reference has it of two classes; no known decision breaks."""
    made, folder = several_labels("logits", tmp_path, SAMPLES, unknown=unknown), tmp_path / "dump"
    dump(model=str(made.model), data=DataSettings((str(made.data),)), directory=str(folder))
    V, Z, L = (np.concatenate([np.load(part) for part in sorted(folder.glob(f"{name}-*"))]) for name in "VZL")
    assert np.array_equal(L, made.labels)
    asked = {"target": ["1", "4", "0"], "device": "cpu", "backend": backend}
    found = onnxtweak.score(made.model, data=made.data, **asked)
    assert found.top == onnxtweak.score(made.model, data=folder, **asked).top
    for row in found.top:
        label = int(row["target"])
        known = L[:, label] >= 0
        two, own = np.column_stack([np.zeros(len(Z), np.float32), Z[:, label]])[known], L[known, label]
        limits = signed_theta(V[known, row["index"]], two, own, 1)
        up = row["weight"] > 0
        assert row["count"] == (limits.count_hi if up else limits.count_lo)
        assert abs(row["weight"]) == pytest.approx(1 / (limits.hi if up else limits.lo), rel=1e-4)
        fixed, broken, _ = outcome(V[known, row["index"]], two, own, 1, row["weight"])
        assert broken == 0 and fixed == row["count"]


def test_the_scale_of_a_label_is_exact_where_that_is_asked_for(tmp_path):
    made = several_labels("sigmoid", tmp_path, SAMPLES)
    reached = {}
    for exact in (False, True):
        asked = {"target": "1", "exact_scale": exact, "criterion": "net-gain", "device": "cpu"}
        reached[exact] = onnxtweak.join(made.model, data=made.data, **asked).choice.curve[-1].target
    assert reached[True] >= reached[False] > 0.7


@pytest.mark.parametrize("alone", [False, True])
def test_listed_samples_have_all_their_labels_right(tmp_path, alone):
    """Counted as the written file shows them, on the labels that are known."""
    made, new = several_labels("sigmoid", tmp_path, SAMPLES, unknown=0.2), tmp_path / "new.onnx"
    of, known = {"must": slice(0, 12), "lock": slice(12, 90)}, made.labels >= 0
    for role, rows in of.items():
        np.savez(tmp_path / f"{role}.npz", x=made.x[rows], y=made.labels[rows])
    lists = {role: tmp_path / f"{role}.npz" for role in of}
    data = {} if alone else {"data": (made.x[90:], made.labels[90:])}
    found = fit(made.model, output=new, device="cpu", **lists, **data).listed
    was, now = (((made.shown(path) == (made.labels == 1)) | ~known).all(axis=1) for path in (made.model, new))
    must, lock = found.must, found.lock
    assert (must.samples, must.already_right) == (12, was[:12].sum()) and must.already_right < 10
    assert must.right == now[:12].sum() and must.infeasible == (~now[:12]).sum() <= 1
    assert lock.right == was[12:90].sum() and lock.broken == (was & ~now)[12:90].sum() <= 1
    listed = DataSettings(must=(str(lists["must"]),), lock=(str(lists["lock"]),))
    checks = {
        one.name: one for one in commands.verify(tweaked=str(new), base=str(made.model), data=listed).checks
    }
    assert checks["must"].passed == (must.infeasible == 0) and checks["lock"].passed == (lock.broken == 0)
    assert "make 12 listed samples right" in fit(made.model, device="cpu", **lists, **data).verdict.goal


def test_marks_of_one_sample_that_contradict_each_other_are_named(tmp_path):
    made = several_labels("sigmoid", tmp_path, SAMPLES)
    labels = np.concatenate([made.labels[:3], made.labels[:3]])
    labels[3, 0], labels[4, 2] = -1, 1 - labels[4, 2]
    np.savez(tmp_path / "must.npz", x=np.concatenate([made.x[:3], made.x[:3]]), y=labels)
    with pytest.raises(DataError, match=r"two must-samples are identical but for their labels.*row 1.*row 4"):
        fit(made.model, must=tmp_path / "must.npz")


def test_groups_are_measured_decision_by_decision(tmp_path):
    made = several_labels("sigmoid", tmp_path, SAMPLES, unknown=0.2)
    site = np.arange(len(made.x)) % 3
    np.savez(made.data, x=made.x, y=made.labels, site=site)
    new, known = tmp_path / "new.onnx", made.labels >= 0
    asked = {"output": new, "by": "site", "target": [str(c) for c in WEAK]}
    fitted_groups = fit(made.model, data=made.data, **asked, device="cpu").verdict.groups
    assert {group.name for group in fitted_groups} == {"0", "1", "2"}
    verified = commands.verify(
        tweaked=str(new), base=str(made.model), data=DataSettings((str(made.data),), by=("site",))
    )
    was, now = ((made.shown(path) == (made.labels == 1)) for path in (made.model, new))
    for group in verified.groups:
        own = known & (site == int(group.name))[:, None]
        assert group.samples == own.sum()
        assert (group.before, group.after) == pytest.approx((was[own].mean(), now[own].mean()))
    for group in onnxtweak.evaluate(new, data=made.data, by="site").groups:
        assert group.accuracy == pytest.approx(now[known & (site == int(group.name))[:, None]].mean())


def test_a_certificate_counts_decisions_of_samples(tmp_path):
    made = several_labels("sigmoid", tmp_path, SAMPLES)
    found = fitted(made, tmp_path, certify=0.05)[0]
    note = next(note for note in found.notes if note.startswith("certified"))
    assert "5.00% of labels like these" in note and "100 validation samples" in note
    none = fitted(made, tmp_path, certify=0.001, force=True)[0]
    assert any("100 validation samples cannot certify 0.10%" in note for note in none.notes)


@pytest.mark.parametrize("made", ["sigmoid", "thresholds"], indirect=True)
def test_a_slot_takes_a_tweak_of_labels(made, tmp_path):
    _, new, tweak = fitted(made, tmp_path, hidden=0)
    commands.slot(model=str(made.model), tweaks=[str(tweak)], output=OutputSettings(str(tmp_path / "s.onnx")))
    session = plain_session(str(tmp_path / "s.onnx"))
    adapter, options = ort.LoraAdapter(), ort.RunOptions()
    adapter.Load(str(tmp_path / "new.onnx_adapter"))
    options.add_active_adapter(adapter)
    filled = session.run([made.output], {"x": made.x}, options)[0] > made.cut
    assert (filled == made.shown(new)).mean() > 0.999 and not np.array_equal(filled, made.shown(made.model))
    assert np.array_equal(made.shown(tmp_path / "s.onnx"), made.shown(made.model))


def test_methods_are_compared_by_the_f1_of_their_labels(tmp_path):
    made, new = several_labels("sigmoid", tmp_path, SAMPLES), tmp_path / "new.onnx"
    asked = {"targets": TargetSettings(("1",)), "write": "SR-1", "output": OutputSettings(str(new))}
    found = commands.compare(model=str(made.model), data=DataSettings((str(made.data),)), **asked)
    standing = {one.method: one for one in found.standings}
    assert standing["fit"].metric.value[0] > standing["bias"].metric.value[0] + 0.1 > found.metric.value + 0.1
    assert np.isnan(standing["cRT"].overall[0]) and "each is decided by itself" in standing["cRT"].note
    was, now = (f1_score(made.labels, made.shown(path), average=None) for path in (made.model, new))
    assert now[1] > was[1] + 0.2 and np.array_equal(np.delete(now, 1), np.delete(was, 1))


def test_a_recipe_makes_a_file_that_decides_alike(learnt, tmp_path):
    _, _, new, *_ = learnt
    made = several_labels("sigmoid", tmp_path, SAMPLES)
    (tmp_path / "recipe.toml").write_text(
        '[model]\npath = "sigmoid.onnx"\n[data]\ndata = ["sigmoid.npz"]\n[goal]\n'
        '[[tweak]]\nname = "t"\nmethod = "fit"\nhidden = 0\n'
        '[gates]\nmin-target-gain = 10.0\nmax-class-drop = 1.0\n[output]\ndirectory = "build"\n'
    )
    assert main(["run", str(tmp_path / "recipe.toml")]) == 0
    summary = (tmp_path / "build" / "summary.md").read_text(encoding="utf-8")
    assert "### F1 on the test samples, in percent" in summary and "Accuracy" not in summary
    assert np.array_equal(_of_file(tmp_path / "build" / "t.onnx", made), _of_file(new, made))


@pytest.mark.parametrize(
    ("asked", "error", "what"),
    [
        ({"mirror": "on"}, ModelError, "--mirror on does not work with several labels"),
        ({"metric": "balanced"}, UsageError, "is about one label a sample"),
    ],
)
def test_what_fit_cannot_do_yet_it_says(tmp_path, asked, error, what):
    made = several_labels("sigmoid", tmp_path, SAMPLES)
    with pytest.raises(error, match=what):
        fit(made.model, data=made.data, **asked)


def test_too_many_neurons_are_screened_by_their_own_labels(tmp_path):
    made = several_labels("sigmoid", tmp_path, SAMPLES)
    found, _, _ = fitted(made, tmp_path, neurons=12)
    assert found.choice.neurons == 30 and found.after.overall > found.before.overall + 0.05


def test_frames_have_a_row_for_each_label(learnt):
    pytest.importorskip("pandas")
    made, found, *_ = learnt
    frame = found.to_frame()
    assert list(frame.columns[:4]) == ["samples", "base", "tweaked", "change"]
    assert {"average_precision_base", "average_precision"} <= {*frame.columns}
    measured = onnxtweak.evaluate(made.model, data=made.data).to_frame()
    assert list(measured.columns) == ["samples", "average_precision", "precision", "recall", "F1"]


@pytest.mark.parametrize("labelled", [True, False])
def test_a_rewritten_file_is_compared_label_by_label(learnt, tmp_path, labelled):
    made, _, new, *_ = learnt
    eight_bits, data = tmp_path / "eight.onnx", made.data
    quantize_dynamic(new, eight_bits, weight_type=QuantType.QInt8)
    if not labelled:
        data = tmp_path / "bare.npz"
        np.savez(data, x=made.x)
    found = {}
    for name, path in (("same", new), ("eight", eight_bits), ("base", made.model)):
        found[name] = commands.verify(tweaked=str(path), same_as=str(new), data=DataSettings((str(data),)))
    shown = {"same": made.shown(new), "eight": made.shown(eight_bits), "base": made.shown(made.model)}
    for name, one in found.items():
        # What is quantised as it runs depends a little on the samples of a batch.
        assert one.rewritten.same == pytest.approx((shown[name] == shown["same"]).mean(), abs=0.01)
        assert one.rewritten.changed == (shown["base"] != shown["same"]).sum()
    assert all(check.passed for check in found["same"].checks)
    assert not all(check.passed for check in found["base"].checks)
    assert (found["eight"].rewritten.accuracy is None) == (not labelled)
    if labelled:
        right = (shown["eight"] == made.labels).mean()
        assert found["eight"].rewritten.accuracy["rewritten"] == pytest.approx(right, abs=0.01)


def test_one_column_on_a_tagger_says_what_it_is_taken_for(tmp_path):
    made = several_labels("sigmoid", tmp_path, SAMPLES)
    one = made.labels.argmax(axis=1)[:, None]
    found = onnxtweak.evaluate(made.model, data=(made.x, one))
    assert f"which of {LABELS} labels are there" in " ".join(found.notes)
    with pytest.raises(DataError, match="not a mark for each sample and label"):
        onnxtweak.evaluate(made.model, data=(made.x, one), head="labels")


def test_rows_with_one_label_each_may_be_marks_all_the_same(tmp_path):
    made = several_labels("sigmoid", tmp_path, SAMPLES)
    once = np.eye(LABELS, dtype=np.int8)[made.labels.argmax(axis=1)]
    assert onnxtweak.evaluate(made.model, data=(made.x, once)).unit == "samples"
    assert onnxtweak.evaluate(made.model, data=(made.x, once), head="labels").unit == "labels"


def test_a_shadow_leaves_the_old_answer(learnt, tmp_path):
    made, _, _, tweak, _ = learnt
    shadow = str(tmp_path / "shadow.onnx")
    commands.apply(model=str(made.model), tweak=str(tweak), output=OutputSettings(shadow), shadow=True)
    assert np.array_equal(_of_file(shadow, made), _values(made))
    verified = commands.verify(tweaked=shadow, data=DataSettings((str(made.data),)))
    assert all(check.passed for check in verified.checks)


def test_the_page_has_a_table_of_labels(learnt):
    page = learnt[-1].read_text()
    assert "average precision, base" in page and "F1 in percent" in page and "Overall F1" in page


def test_labels_are_named(tmp_path):
    made = several_labels("sigmoid", tmp_path, SAMPLES)
    names = np.array(["ant", "bee", "cat", "dog", "eel", "fox"])
    np.savez(made.data, x=made.x, y=made.labels, classes=names)
    found, _, _ = fitted(made, tmp_path, target="bee")
    assert found.targets == ("bee",) and found.classes == tuple(names)
    with pytest.raises(UsageError, match="the model has no class 'bea'"):
        fit(made.model, data=made.data, target="bea")


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_models_of_other_precision(tmp_path, dtype):
    made = several_labels("sigmoid", tmp_path, SAMPLES, dtype=dtype)
    found, new, _ = fitted(made, tmp_path)
    assert all(check.passed for check in found.checks)
    was, now = (f1_score(made.labels, made.shown(path), average="macro") for path in (made.model, new))
    assert now > was + 0.1


def test_what_was_measured_is_drawn_and_made_a_card(tmp_path, monkeypatch, capsys):
    made = several_labels("sigmoid", tmp_path, SAMPLES)
    monkeypatch.chdir(tmp_path)
    for command in ("evaluate", "fit"):
        capsys.readouterr()
        assert main([command, str(made.model), "-d", str(made.data), "-f", "json"]) == 0
        (tmp_path / f"{command}.json").write_text(capsys.readouterr().out)
        assert main(["report", f"{command}.json", "-o", f"{command}.html"]) == 0
    page = (tmp_path / "evaluate.html").read_text()
    assert "macro F1" in page and "average precision" in page and "accuracy" not in page.lower()
    assert main(["report", "fit.json", "-o", "card.md"]) == 0
    card = (tmp_path / "card.md").read_text()
    assert "type: f1" in card and "F1 on the test samples" in card and "ccuracy" not in card


def test_results_of_the_other_kind_of_labels_are_not_compared(learnt, tmp_path):
    made, _, new, *_ = learnt
    np.savez(tmp_path / "one.npz", x=made.x, y=made.labels.argmax(axis=1))
    verified = commands.verify(tweaked=str(new), data=DataSettings((str(tmp_path / "one.npz"),)))
    (left_out,) = (check for check in verified.unchecked if check.name == "accuracy")
    assert "learnt from samples with several labels" in left_out.reason


def test_marks_that_cannot_tell_raise_no_doubt_and_wrong_ones_do(tmp_path):
    made = several_labels("sigmoid", tmp_path, SAMPLES)
    for rows, marks in ((slice(None), np.ones_like(made.labels)), (slice(6), made.labels)):
        data = (made.x[rows], marks[rows])
        fit(made.model, data=data, output=tmp_path / "out.onnx", force=True, threads=1, test=data)
    shuffled = np.random.default_rng(0).permutation(made.labels)
    with pytest.raises(DataError, match="the scores of no label tell"):
        fit(made.model, data=(made.x, shuffled), output=tmp_path / "never.onnx", threads=1)
    assert not (tmp_path / "never.onnx").exists()
