"""Metrics through whole commands."""

from __future__ import annotations

import functools
import json

import numpy as np
import onnx
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

import onnxtweak
from onnxtweak import commands
from onnxtweak.cli.main import main
from onnxtweak.errors import DataError, ModelError, OutputError, UsageError
from onnxtweak.report import schema
from tests.support import detectors
from tests.support.plain_session import plain_session
from tests.support.weak_class import run


def test_evaluate_measures_what_is_asked_for(mlp, capsys, tmp_path):
    model, data = mlp
    with np.load(data) as held:
        x, y = held["x"], held["y"]
    predicted = run(onnx.load(model), x).argmax(axis=1)
    found = onnxtweak.evaluate(model, data=data, metric=["balanced", "f1", "worst"])
    values = {one.name: one for one in found.readings}
    assert values["balanced"].value == pytest.approx(balanced_accuracy_score(y, predicted))
    assert values["f1"].value == pytest.approx(f1_score(y, predicted, average="macro"))
    assert values["worst"].value == pytest.approx(found.metrics.per_class.min())
    for one in found.readings:
        low, high = one.interval
        assert low < one.value < high and high - low < 0.2
    costs = tmp_path / "costs.csv"
    classes = found.metrics.confusion.shape[0]
    np.savetxt(costs, 1 - np.eye(classes), delimiter=",")
    assert main(["evaluate", str(model), "-d", str(data), "--metric", f"cost:{costs}", "-f", "json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["readings"]
    assert told["value"] == pytest.approx(1 - found.metrics.overall) and told["sign"] == -1
    assert main(["evaluate", str(model), "-d", str(data), "--metric", "balanced"]) == 0
    assert f"{values['balanced'].value * 100:.1f}" in capsys.readouterr().out


def test_evaluate_refuses_what_the_model_does_not_have(mlp):
    model, data = map(str, mlp)
    with pytest.raises(ModelError, match="this model has"):
        onnxtweak.evaluate(model, data=data, metric="recall@fpr=0.1")
    with pytest.raises(UsageError, match="unknown metric"):
        commands.evaluate(model="nowhere.onnx", data=None, metrics=("acc",))


QUICK = {"hidden": 0, "threads": 1}


@pytest.mark.parametrize("tail", detectors.TAILS)
def test_the_cut_is_in_the_written_file_whatever_it_shows(tail, tmp_path):
    """Recall at the limit goes up, read off the file by plain ONNX Runtime on samples of its own."""
    model, data = detectors.detector(tmp_path, tail)
    out = tmp_path / "out.onnx"
    made = onnxtweak.fit(model, data=data, metric="recall@fpr=0.05", output=out, **QUICK)
    x, y = detectors.samples(20_000, 1)
    before, after = (detectors.decided(run_all(path, x), tail) for path in (model, out))
    assert (before[y == 0] == 1).mean() > 0.2
    assert (after[y == 0] == 1).mean() < 0.055
    assert (after[y == 1] == 1).mean() > 0.6  # the base's own score allows 0.43 at this rate
    assert made.verdict.answer == "fit" and made.metric.after.at_cut.kept
    assert {"limit", "metric", "bias"} <= {promise.name for promise in made.verdict.promises}
    gain = made.metric.after.value - made.metric.before.value
    assert made.metric.gain == pytest.approx(100 * gain) and gain > 0.1
    low, high = made.metric.interval
    assert low < made.metric.gain < high


@pytest.mark.parametrize("tail", ["p", "softmax", "logits", "label"])
def test_the_threshold_that_is_named_does_what_the_file_does(tail, tmp_path):
    model, data = detectors.detector(tmp_path, tail, telling=1)  # of which the model reads all there is
    out = tmp_path / "out.onnx"
    made = onnxtweak.fit(model, data=data, metric="recall@fpr=0.05", output=out, folds=5, **QUICK)
    assert made.verdict.answer == "bias" and [p.name for p in made.verdict.promises] == ["limit"]
    (note,) = [note for note in made.notes if note.startswith("threshold: ")]
    cut = float(note.split("had to exceed ")[1].split(" ")[0])
    x, _ = detectors.samples(5000, 1, telling=1)
    old = run_all(model, x)
    if tail == "p":
        score = old[:, 0]
    elif tail == "softmax":
        score = old[:, 1]
    elif tail == "logits":
        score = old[:, 1] - old[:, 0]
    else:  # which shows no score
        assert "its score for class 1" in note and cut > 0
        return
    assert f"for class 1, instead of {0 if tail == 'logits' else 0.5}" in note
    new = detectors.decided(run_all(out, x), tail)
    assert ((score > cut).astype(int) != new).mean() < 0.003


def test_a_single_probability_keeps_the_cut_that_its_users_have(tmp_path):
    """--threshold 0.3: the limit is kept by whoever cuts the new file's probability at 0.3."""
    model, data = detectors.detector(tmp_path, "p")
    out = tmp_path / "out.onnx"
    made = onnxtweak.fit(model, data=data, metric="recall@fpr=0.05", threshold=0.3, output=out, **QUICK)
    x, y = detectors.samples(20_000, 1)
    flagged = run_all(out, x)[:, 0] > 0.3
    assert flagged[y == 0].mean() < 0.055 and flagged[y == 1].mean() > 0.6
    assert made.metric.after.at_cut.kept


@pytest.mark.parametrize(
    ("tail", "said"),
    [
        ("label", "shows the class itself"),
        ("logit", "shows a score that is no probability"),
        ("softmax", "shows scores of several classes"),
    ],
)
def test_a_threshold_that_nothing_is_cut_at_is_refused(tail, said, tmp_path):
    model, data = detectors.detector(tmp_path, tail, 200)
    with pytest.raises(UsageError, match=said) as caught:
        onnxtweak.evaluate(model, data=data, threshold=0.3)
    assert caught.value.where == "--threshold" and "fit --metric" in caught.value.hint


def seen(monkeypatch, command):
    """What a command returns to the command line from now on, which tells it as it is."""
    found, real = [], getattr(commands, command)
    monkeypatch.setattr(commands, command, lambda **given: found.append(real(**given)) or found[-1])
    return found


def test_a_metric_of_many_classes_goes_up_in_the_written_file(mlp, tmp_path, capsys, monkeypatch):
    model, data = mlp
    out = tmp_path / "out.onnx"
    asked = ["fit", str(model), "-d", str(data), "-o", str(out), "--hidden", "0", "--metric", "worst"]
    found = seen(monkeypatch, "fit")
    assert main(asked) == 0
    assert "accuracy of the worst class (worst), per 100 samples" in capsys.readouterr().out
    told = json.loads(schema.dumps(schema.document("fit", found[0])))
    metric = told["metric"]
    assert set(metric) == {
        "before", "after", "bias", "gain", "interval", "over_bias", "over_bias_interval", "promise", "limit",
        "at_most",
    }  # fmt: skip
    assert metric["after"]["value"] > metric["before"]["value"] + 0.05
    assert metric["after"]["value"] == min(told["after"]["per_class"])
    first = {promise["name"]: promise for promise in told["verdict"]["promises"]}
    assert first["metric"]["change"] == pytest.approx(metric["gain"])
    assert {"overall", "classes"} <= set(first)


def test_costs_go_down(mlp, tmp_path):
    model, data = mlp
    classes = onnxtweak.evaluate(model, data=data).metrics.confusion.shape[0]
    costs = 1 - np.eye(classes)
    costs[2] *= 10  # the weak class is dear
    path = tmp_path / "costs.csv"
    np.savetxt(path, costs, delimiter=",")
    made = onnxtweak.fit(
        model, data=data, metric=f"cost:{path}", max_overall_drop=100, hidden=0, max_class_drop="none"
    )
    assert made.metric.after.value < 0.8 * made.metric.before.value and made.metric.gain > 0
    assert "mean cost down" in {promise.asked for promise in made.verdict.promises}
    with pytest.raises(OutputError, match="would replace"):
        onnxtweak.fit(model, data=data, metric=f"cost:{path}", output=path, force=True)


def test_metrics_that_cannot_be_had_are_refused_before_anything_is_learnt(mlp, tmp_path):
    model, data = mlp
    fit = functools.partial(onnxtweak.fit, model, data=data)
    with pytest.raises(ModelError, match="this model has"):
        fit(metric="recall@fpr=0.01")
    with pytest.raises(UsageError, match="unknown metric 'balancd'"):
        fit(metric="balancd")
    for other in ({"target": 2}, {"worst": 1}, {"budget": 10}, {"certify": 0.1}):
        with pytest.raises(UsageError, match=f"--metric excludes --{next(iter(other))}"):
            fit(metric="f1", **other)
    two, few = detectors.detector(tmp_path, "p", 400)
    with pytest.raises(DataError, match=r"learning samples of class 0 are too few .* it takes 20,000"):
        onnxtweak.fit(two, data=few, metric="recall@fpr=0.0001")
    with pytest.raises(UsageError, match="has a limit of its own"):
        onnxtweak.fit(two, data=few, metric="recall@fpr=0.1", max_overall_drop=1)
    with pytest.raises(DataError, match=r"a false-positive rate at most 0\.01 %: it takes 10,000"):
        onnxtweak.evaluate(two, data=few, metric="recall@fpr=0.0001")


def test_a_precision_that_no_cut_reaches_leaves_the_base_and_says_so(tmp_path):
    model, data = detectors.detector(tmp_path, "p", 2000)
    with np.load(data) as held:
        x, y = held["x"], held["y"]
    flipped = np.random.default_rng(0).random(len(y)) < 0.12
    np.savez(tmp_path / "noisy.npz", x=x, y=np.where(flipped, 1 - y, y))
    made = onnxtweak.fit(model, data=tmp_path / "noisy.npz", metric="recall@precision=0.95", **QUICK)
    assert made.verdict.answer == "base"
    assert any("no cut is sure to keep a precision at least 95 %" in note for note in made.notes)
    assert any("within its limits on samples held out: the base is kept" in note for note in made.notes)


def test_a_goal_is_one_metric(mlp, capsys):
    model, data = map(str, mlp)
    for command in ("fit", "compare"):
        assert main([command, model, "-d", data, "--metric", "f1", "--metric", "balanced"]) == 2
        assert "more than one metric to improve" in capsys.readouterr().err


def test_a_note_says_that_must_samples_may_move_the_cut(tmp_path):
    model, data = detectors.detector(tmp_path, "p", 2000)
    with np.load(data) as held:
        x, y = held["x"], held["y"]
    low = np.flatnonzero(y == 0)[:20]
    np.savez(tmp_path / "must.npz", x=x[low], y=np.ones(20, np.int64))
    asked = {"data": data, "metric": "recall@fpr=0.05", "must": tmp_path / "must.npz", **QUICK}
    made = onnxtweak.fit(model, output=tmp_path / "out.onnx", **asked)
    assert any("after the cut of the metric was set" in note for note in made.notes)


def test_compare_reads_every_method_by_the_metric(tmp_path, capsys, monkeypatch):
    model, data = map(str, detectors.detector(tmp_path, "p", 2000))
    asked = ["compare", model, "-d", data, "--metric", "recall@fpr=0.05", "--hidden", "0"]
    few = [word for name in ("fit", "cRT", "SR-1") for word in ("--method", name)]
    compared = seen(monkeypatch, "compare")
    assert main([*asked, *few]) == 0
    told = json.loads(schema.dumps(schema.document("compare", compared[0])))
    found = {one["method"]: one["metric"] for one in told["standings"]}
    assert set(found) == {"bias", "fit", "cRT", "SR-1"}
    assert found["bias"]["value"][0] == pytest.approx(told["metric"]["value"])  # biases change no order
    assert found["fit"]["over_bias"][0] > 0.1 and found["fit"]["recall"][0] > found["bias"]["recall"][0] + 0.1
    assert all(one["rate"][0] < 0.1 for one in found.values())
    shown = capsys.readouterr()
    assert "recall of class 1 on test, per 100 samples" in shown.out and "kept in" in shown.out
    assert "best recall@fpr=0.05:" in shown.err


def test_a_recipe_has_metrics_costs_and_gates(tmp_path, monkeypatch):
    detectors.detector(tmp_path / "recipe", "p")
    costs = tmp_path / "recipe" / "costs.csv"
    costs.write_text(",0,1\n0,0,1\n1,5,0\n")
    recipe = tmp_path / "recipe" / "onnxtweak.toml"
    recipe.write_text(
        '[model]\npath = "model.onnx"\n[data]\ndata = ["data.npz"]\n'
        "[gates]\nmin-metric-gain = 1\nmax-limit-excess = 0\nmax-not-kept = 5\nrefuse-copy = false\n"
        '[[tweak]]\nname = "found"\nmethod = "fit"\nmetric = "recall@fpr=0.05"\nhidden = 0\n'
        '[[tweak]]\nname = "cheap"\nmethod = "fit"\nmetric = "cost:costs.csv"\nhidden = 0\n'
        'max-overall-drop = 100\nmax-class-drop = "none"\n'
    )
    monkeypatch.chdir(tmp_path)
    made = onnxtweak.run(recipe, keep=True)
    gates = {name: {gate["name"]: gate for gate in one["gates"]} for name, one in made.results.items()}
    assert gates["found"]["min-metric-gain"]["passed"] and gates["found"]["max-limit-excess"]["passed"]
    assert gates["cheap"]["max-limit-excess"]["measured"] is None  # costs have no limit
    flat = json.loads((tmp_path / "recipe" / "build" / "metrics.json").read_text())
    assert flat["found.metric.after"] > flat["found.metric.before"] and flat["found.metric.rate"] < 0.05
    assert set(onnxtweak.run(recipe, keep=True).cached) == {"found", "cheap"}
    costs.write_text(",0,1\n0,0,1\n1,9,0\n")
    planned = commands.plan(recipe=str(recipe)).tweaks
    assert {one["name"]: one["cached"] for one in planned} == {"found": True, "cheap": False}
    page = (tmp_path / "recipe" / "build" / "found.html").read_text(encoding="utf-8")
    assert "Recall of class 1" in page and "recall at its own cut" in page


def test_a_detector_of_something_rare_is_not_taken_for_a_guess(tmp_path):
    """Its cut is so high that hardly anything is found: a limit on false alarms is what it needs."""
    model, data = detectors.detector(tmp_path, "logit")
    net = onnx.load(model)
    for tensor in net.graph.initializer:
        if tensor.dims == [1]:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array([-9], np.float32), tensor.name))
    onnx.save(net, model)
    found = onnxtweak.evaluate(model, data=data, metric="recall@fpr=0.05")
    assert found.readings[0].value > 0.35 and found.readings[0].at_cut.recall == 0
    assert any("though its scores tell the two classes apart" in note for note in found.notes)
    made = onnxtweak.fit(model, data=data, metric="recall@fpr=0.05", **QUICK)
    assert made.metric.after.at_cut.recall > 0.5


@pytest.mark.parametrize("command", ["fit", "compare"])
def test_a_dry_run_refuses_what_is_no_metric(command, mlp, capsys, tmp_path):
    asked = [command, str(mlp[0]), "-d", str(mlp[1]), "--dry-run", "--metric", "balancd"]
    asked += ["-o", str(tmp_path / "out.onnx")] if command == "fit" else []
    assert main(asked) == 2
    assert "did you mean balanced?" in capsys.readouterr().err


def run_all(model, x: np.ndarray) -> np.ndarray:
    """The model's only output for all of x, by plain ONNX Runtime."""
    session = plain_session(str(model))
    return session.run(None, {"input": x})[0]
