"""Is the accuracy that is reported that of the answer the file shows, before and after, whatever its tail?

Tails are drawn at random from what models of strangers end in; each is either measured rightly or refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxtweak import commands
from onnxtweak.commands.verify import verify
from onnxtweak.errors import ModelError, UsageError
from onnxtweak.model.edit.revert import revert
from onnxtweak.settings import (
    DataSettings,
    EngineSettings,
    FitSettings,
    JoinSettings,
    OutputSettings,
    TapSettings,
    TargetSettings,
)
from tests.support.nets import NetBuilder
from tests.support.plain_session import plain_session
from tests.support.tail_chains import add_chain
from tests.support.tails import NUMBER_TAILS, SINGLE_TAILS, TAILS, Shown, add_random_tail, is_single
from tests.support.tweaks import run

FLOAT = TensorProto.FLOAT
SAMPLES, INPUTS, HIDDEN, CLASSES = 600, 6, 16, 5
CHAIN = "chain"
ENGINE = EngineSettings(backend="numpy", threads=1)


def make(
    folder: Path, tail: str, seed: int, batch: int | str = "N"
) -> tuple[Path, Path, Shown, np.ndarray, np.ndarray]:
    """A trained net with a random tail and samples in the classes that it shows, of which one is weak."""
    rng = np.random.default_rng(seed)
    single = is_single(tail)
    classes = 2 if single else CLASSES
    centres = rng.normal(0, 1.2, (classes, INPUTS))
    samples = 900 if tail == CHAIN else SAMPLES
    truth = rng.integers(0, classes, samples)
    x = (centres[truth] + rng.normal(0, 1, (samples, INPUTS))).astype(np.float32)
    first = rng.normal(0, 1, (INPUTS, HIDDEN)).astype(np.float32)
    hidden = np.maximum(x @ first, 0)
    wanted = (2 * truth[:300, None] - 1) if single else 4 * np.eye(classes)[truth[:300]] - 1
    gram = hidden[:300].T @ hidden[:300] + 5 * np.eye(HIDDEN)
    last = np.linalg.solve(gram, hidden[:300].T @ wanted).astype(np.float32)
    bias = np.zeros(last.shape[1])
    bias[-1] -= 0.5 * (hidden @ last).std()
    net = NetBuilder()
    h = net.op("Relu", net.op("MatMul", "input", net.const(first)), name="hidden")
    net.op("Gemm", h, net.const(last), net.const(bias), name="logits")
    if tail == CHAIN:
        shown, _ = add_chain(net, "logits", classes, rng)
    else:
        shown = add_random_tail(net, "logits", tail, classes, rng)
    path = folder / "model.onnx"
    outputs = {
        name: (declared[0], (batch, *declared[1][1:])) if isinstance(declared, tuple) else declared
        for name, declared in shown.outputs.items()
    }
    path.write_bytes(net.model({"input": (FLOAT, (batch, INPUTS))}, outputs).SerializeToString())
    kept = np.isin(truth, list(shown.number))
    labels = np.array([shown.number[c] for c in truth[kept].tolist()])
    data = folder / "data.npz"
    np.savez(data, x=x[kept], y=labels)
    return path, data, shown, x[kept], labels


def own_accuracy(path: Path, shown: Shown, x: np.ndarray, y: np.ndarray) -> float:
    """What the file's own output is right on, by ONNX Runtime alone."""
    return float((shown.decide(run(path, {"input": x}, [shown.output])[0]) == y).mean())


ALL_TAILS = [*TAILS, *SINGLE_TAILS]


@pytest.mark.parametrize("tail", ALL_TAILS)
def test_what_is_reported_is_what_the_file_shows_or_it_is_refused(tail, tmp_path):
    """Of each tail with random numbers twice; one of them is patched, by `join` and `fit` in turns.

    Of the files of each method, each second is verified and reverted, the others are made again.
    """
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        model, data, shown, x, y = make(tmp_path / str(seed), tail, seed)
        source = DataSettings(data=(f"{data}#[300:]",), anyway=True)
        x, y = x[300:], y[300:]
        if seed == ALL_TAILS.index(tail) % 2:
            verified = ALL_TAILS.index(tail) // 2 % 2 == 0
            patched(("join", "fit")[seed], tmp_path, model, source, shown, x, y, verified)
            continue
        with refused_if_it_may_be(shown) as refusals:
            evaluated = commands.evaluate(model=str(model), data=source, engine=ENGINE)
        if not refusals:
            own = own_accuracy(model, shown, x, y)
            assert evaluated.metrics.overall == pytest.approx(own, abs=1e-12)


@contextmanager
def refused_if_it_may_be(shown: Shown) -> Iterator[list[ModelError]]:
    """What is refused within it names the operator; and what must be refused is."""
    refusals: list[ModelError] = []
    try:
        yield refusals
    except ModelError as refusal:
        assert shown.may_be_refused, refusal
        assert refusal.where and refusal.hint
        assert any(op in refusal.where for op in shown.operators), refusal.where
        refusals.append(refusal)
    else:
        assert not shown.must_be_refused


def patched(
    method: str,
    tmp_path: Path,
    model: Path,
    source: DataSettings,
    shown: Shown,
    x: np.ndarray,
    y: np.ndarray,
    verified: bool,
) -> None:
    """What is reported of a patched file is what it shows; it is proved and reverted, or made again."""
    out = tmp_path / f"{method}.onnx"
    settings = JoinSettings(max_overall_drop=2.0) if method == "join" else FitSettings(folds=3, hidden=0)
    with refused_if_it_may_be(shown) as refusals:
        result = getattr(commands, method)(
            model=str(model),
            data=DataSettings(data=source.data, test=source.data, anyway=True),
            engine=ENGINE,
            taps=TapSettings(taps=("activations",)),
            targets=TargetSettings(worst=1) if method == "join" else TargetSettings(),
            settings=settings,
            output=OutputSettings(str(out), tweak=str(tmp_path / f"{method}.safetensors")),
        )
    if refusals:
        return
    assert result.before.overall == pytest.approx(own_accuracy(model, shown, x, y), abs=1e-12)
    assert result.after.overall == pytest.approx(own_accuracy(out, shown, x, y), abs=1e-12)
    if result.tweak["parameters"] and verified:
        checked = verify(tweaked=str(out), base=str(model), data=source, engine=ENGINE)
        assert all(check.passed for check in checked.checks), checked.checks
        assert checked.after.overall == result.after.overall
        assert revert(out.read_bytes()) == model.read_bytes()
    elif result.tweak["parameters"]:
        again = OutputSettings(str(tmp_path / "again.onnx"), force=True)
        tweak = str(tmp_path / f"{method}.safetensors")
        commands.apply(model=str(model), tweak=tweak, output=again, engine=ENGINE)
        assert (tmp_path / "again.onnx").read_bytes() == out.read_bytes()
    if shown.normalised:
        values = run(out, {"input": x}, [shown.output])[0]
        assert values.min() >= 0
        np.testing.assert_allclose(values.sum(axis=1), shown.normalised, rtol=1e-3)


# Of the first sixteen, those that between them have every step and every end that these have.
@pytest.mark.parametrize("seed", (0, 1, 2, 5, 10, 13, 14, 15))
def test_what_is_reported_behind_a_chain_of_operators_is_what_the_file_shows(seed, tmp_path):
    model, data, shown, x, y = make(tmp_path, CHAIN, seed)
    source = DataSettings(data=(str(data),), anyway=True)
    out = tmp_path / "fit.onnx"
    try:
        made = commands.fit(
            model=str(model),
            data=replace(source, test=source.data),
            engine=ENGINE,
            settings=FitSettings(folds=3, hidden=0),
            output=OutputSettings(str(out)),
        )
    except ModelError as refusal:
        assert refusal.where and refusal.hint
        return
    assert made.before.overall == own_accuracy(model, shown, x, y)
    assert made.after.overall == own_accuracy(out, shown, x, y)
    if made.tweak["parameters"]:
        assert verify(tweaked=str(out), data=source, engine=ENGINE).after.overall == made.after.overall


@pytest.mark.parametrize("tail", ["average", "average-percent"])
def test_probabilities_stay_such_in_a_model_that_takes_one_sample_at_a_time(tail, tmp_path):
    model, data, shown, x, y = make(tmp_path, tail, 0, batch=1)
    out = tmp_path / "fit.onnx"
    result = commands.fit(
        model=str(model),
        data=DataSettings(data=(f"{data}#[450:]",), test=(f"{data}#[450:]",), anyway=True),
        engine=ENGINE,
        taps=TapSettings(taps=("activations",)),
        settings=FitSettings(folds=3, hidden=0),
        output=OutputSettings(str(out)),
    )
    session = plain_session(str(out))
    rows = np.concatenate([session.run([shown.output], {"input": row[None]})[0] for row in x[450:]])
    assert result.tweak["parameters"]
    assert result.after.overall == (shown.decide(rows) == y[450:]).mean()
    np.testing.assert_allclose(rows.sum(axis=1), shown.normalised, rtol=1e-3)


def test_a_tweaked_file_whose_probabilities_saturate_is_verified(tmp_path):
    model, data, *_ = make(tmp_path, "sigmoids", 0)
    source = DataSettings(data=(str(data),), anyway=True)
    made = commands.fit(
        model=str(model),
        data=source,
        engine=ENGINE,
        targets=TargetSettings(worst=1),
        settings=FitSettings(hidden=0),
        output=OutputSettings(str(tmp_path / "fit.onnx"), tweak=str(tmp_path / "fit.safetensors")),
    )
    assert made.tweak["parameters"]
    louder = OutputSettings(str(tmp_path / "louder.onnx"))
    commands.apply(
        model=str(model), tweak=str(tmp_path / "fit.safetensors"), output=louder, scale=300.0, engine=ENGINE
    )
    found = verify(tweaked=str(louder.path), data=source, engine=ENGINE)
    assert {check.name for check in found.checks} >= {"neutral", "digests", "answer"}


@pytest.mark.parametrize("shown", ["label", "scores"])
def test_one_sample_needs_no_axis(shown, tmp_path):
    model, data, _, x, y = make(tmp_path, "temperature", 0, batch=1)
    proto = onnx.load(model)
    last = proto.graph.node[-1]
    if shown == "label":
        proto.graph.node.append(helper.make_node("ArgMax", [last.output[0]], ["best"], axis=1))
        proto.graph.node.append(helper.make_node("Squeeze", ["best"], ["answer"]))
        proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("answer", TensorProto.INT64, ()))
    else:
        proto.graph.node.append(helper.make_node("Squeeze", [last.output[0]], ["answer"]))
        proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("answer", FLOAT, (CLASSES,)))
    onnx.save(proto, model)
    out = tmp_path / "fit.onnx"
    made = commands.fit(
        model=str(model),
        data=DataSettings(data=(f"{data}#[450:]",), test=(f"{data}#[450:]",), anyway=True),
        engine=ENGINE,
        settings=FitSettings(folds=3, hidden=0),
        output=OutputSettings(str(out)),
    )
    x, y = x[450:], y[450:]
    for path, said in ((model, made.before), (out, made.after)):
        session = plain_session(str(path))
        found = [session.run(None, {"input": row[None]})[0] for row in x]
        right = [
            (row if shown == "label" else row.argmax()) == wanted
            for row, wanted in zip(found, y, strict=True)
        ]
        assert said.overall == np.mean(right)


@pytest.mark.parametrize("bound", ["threshold", "temperature"])
def test_an_input_of_one_number_may_decide_too(bound, tmp_path):
    model, data, _, x, y = make(tmp_path, "p" if bound == "threshold" else "temperature", 0)
    proto = onnx.load(model)
    del proto.graph.node[-2 if bound == "temperature" else -1 :]
    proto.graph.input.append(
        helper.make_tensor_value_info("bound", FLOAT, () if bound == "threshold" else (1,))
    )
    if bound == "threshold":
        proto.graph.node.append(helper.make_node("Greater", ["logits", "bound"], ["more"]))
        proto.graph.node.append(helper.make_node("Cast", ["more"], ["out"], to=TensorProto.INT64))
        proto.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    else:
        proto.graph.node.append(helper.make_node("Div", ["logits", "bound"], ["soft"]))
        proto.graph.node.append(helper.make_node("Softmax", ["soft"], ["out"], axis=1))
    onnx.save(proto, model)
    value = np.array(0.4 if bound == "threshold" else [0.4], np.float32)
    out = tmp_path / "fit.onnx"
    made = commands.fit(
        model=str(model),
        data=DataSettings(data=(str(data),), test=(str(data),), inputs=(("bound", 0.4),), anyway=True),
        engine=ENGINE,
        settings=FitSettings(folds=3, hidden=0),
        output=OutputSettings(str(out)),
    )
    for path, said in ((model, made.before), (out, made.after)):
        shown = run(path, {"input": x, "bound": value})[0]
        decided = shown[:, 0] if bound == "threshold" else shown.argmax(axis=1)
        assert said.overall == (decided == y).mean()


@pytest.mark.parametrize("tail", NUMBER_TAILS)
def test_a_number_that_may_be_cut_anywhere_needs_a_threshold(tail, tmp_path):
    model, data, shown, x, y = make(tmp_path, tail, 0)
    threshold = {"p-percent": 50.0, "odds": 1.0}[tail]
    source = DataSettings(data=(str(data),), anyway=True)
    with pytest.raises(UsageError, match="above which it means class 1 is not known") as caught:
        commands.evaluate(model=str(model), data=source, engine=ENGINE)
    assert caught.value.where == "--threshold"
    if tail == "p-percent":
        with pytest.raises(UsageError, match="never exceeds 100"):
            commands.evaluate(model=str(model), data=source, engine=ENGINE, taps=TapSettings(threshold=100.0))
    out = tmp_path / "fit.onnx"
    made = commands.fit(
        model=str(model),
        data=replace(source, test=source.data),
        engine=ENGINE,
        taps=TapSettings(taps=("activations",), threshold=threshold),
        settings=FitSettings(folds=3, hidden=0),
        output=OutputSettings(str(out)),
    )
    assert made.tweak["parameters"]
    assert made.before.overall == own_accuracy(model, shown, x, y)
    after = own_accuracy(out, shown, x, y)
    assert made.after.overall == after
    # The file says where it is cut.
    assert commands.evaluate(model=str(out), data=source, engine=ENGINE).metrics.overall == after
    assert verify(tweaked=str(out), data=source, engine=ENGINE).after.overall == after


@pytest.mark.parametrize("tail", ["tanh", "p"])
def test_where_a_number_is_cut_does_not_depend_on_the_samples(tail, tmp_path):
    """Samples of one class alone may all be shown as numbers between 0 and 1."""
    model, data, shown, x, y = make(tmp_path, tail, 0)
    above = run(model, {"input": x}, [shown.output])[0][:, 0] > 0
    np.savez(data, x=x[above], y=y[above])
    source = DataSettings(data=(str(data),), anyway=True)
    found = commands.evaluate(model=str(model), data=source, engine=ENGINE)
    assert found.metrics.overall == own_accuracy(model, shown, x[above], y[above])


@pytest.mark.parametrize("label", ["int64", "float"])
def test_no_output_that_shows_the_class_is_left_as_it_was(label, tmp_path):
    """Scores and their class, both coarse: a patch of the scores alone would leave the class behind."""
    model, data, _, x, y = make(tmp_path, "temperature", 0)
    proto = onnx.load(model)
    kind = TensorProto.INT64 if label == "int64" else FLOAT
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(8), "eight"))
    proto.graph.node.extend(
        [
            helper.make_node("Div", ["logits", "eight"], ["small"]),
            helper.make_node("Sigmoid", ["small"], ["fine"]),
            helper.make_node("Cast", ["fine"], ["half"], to=TensorProto.FLOAT16),
            helper.make_node("Cast", ["half"], ["coarse"], to=FLOAT),
            helper.make_node("Identity", ["coarse"], ["scores"]),
            helper.make_node("ArgMax", ["coarse"], ["best"], axis=1, keepdims=0),
            helper.make_node("Cast", ["best"], ["label"], to=kind),
        ]
    )
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_value_info("scores", FLOAT, ("N", CLASSES)))
    proto.graph.output.append(helper.make_tensor_value_info("label", kind, ("N",)))
    onnx.save(proto, model)
    source, out = DataSettings(data=(str(data),), test=(str(data),), anyway=True), tmp_path / "fit.onnx"
    asked = {"settings": FitSettings(folds=3, hidden=0), "engine": ENGINE}
    try:
        made = commands.fit(model=str(model), data=source, output=OutputSettings(str(out)), **asked)
    except ModelError as refusal:
        assert "Sigmoid" in refusal.where
        return
    for path, said in ((model, made.before), (out, made.after)):
        scores, best = run(path, {"input": x})
        assert said.overall == (best == y).mean() == (scores.argmax(axis=1) == y).mean()
