"""Is every command's output accepted by every command that takes it? All pairs, on four kinds of model.

Each pair works, with the accuracy that the file's own output has by plain ONNX Runtime, or it is refused with
one error whose hint works. Where three things meet, a kind of model and two commands, each two of them do:
each command is given every file, of one kind of model, and files of every kind.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from onnx import ModelProto, numpy_helper

from onnxtweak.cli.main import main
from onnxtweak.engine import environment
from onnxtweak.model.edit.tweak_file import load
from onnxtweak.patch import form_of
from tests.support.nets import cnn3, mlp
from tests.support.plain_session import plain_session
from tests.support.tweaks import run

SMALL = {"hidden": (16, 12)}
KINDS = {
    "dense": lambda: mlp(classes=4, **SMALL),
    "maps": lambda: cnn3(classes=4, size=16, channels=(4, 4, 8)),
    "one logit": lambda: mlp(classes=1, tail="sigmoid", **SMALL),
    "half": lambda: mlp(classes=4, dtype=np.float16, **SMALL),
}
TARGET, NOISE, LACK = "1", 0.8, 0.5
# Each makes a model and a tweak file.
MAKERS = {
    "join": ["join", "-t", TARGET],
    "retrain": ["retrain", "-t", TARGET],
    "augment": ["augment", "--hidden", "16", "--iterations", "300"],
    "linear": ["fit", "--hidden", "0"],
    "mlp": ["fit", "--hidden", "8", "-t", TARGET, "--max-overall-drop", "2"],
    "budget": ["fit", "--budget", "30", "--margin", "0", "--max-class-drop", "none"],
    "bias": ["fit", "-t", TARGET, "--budget", "1", "--max-overall-drop", "20"],
    "pooled": ["join", "-t", TARGET, "--pool", "mean", "--max-overall-drop", "5"],
    "nothing": ["join", "-t", TARGET, "--scale", "0"],
}
# Each makes a model of the tweak of `linear`, or without one.
FURTHER = {
    "compare": ["compare", "-t", TARGET, "--method", "fit", "--write", "fit", "--hidden", "0"],
    "half strength": ["apply", "--scale", "0.5"],
    "shadow": ["apply", "--shadow"],
    "slot": ["apply", "--slot"],
}
FILES = [*MAKERS, *FURTHER]
LEARNERS = ("join", "fit", "retrain", "augment")


def dealt(names: Sequence[str], turn: int) -> pytest.MarkDecorator:
    """Each name to one kind of model, which `turn` shifts, so that each test gives it to another.

    What pools goes to maps, whatever the turn, and what does nothing to all other kinds.
    """
    rest = [name for name in names if name not in ("pooled", "nothing")]
    rounds = [[rest[(first + k + turn) % len(rest)] for k in range(4)] for first in range(0, len(rest), 4)]
    rounds.append(["pooled" if kind == "maps" else "nothing" for kind in KINDS])
    return pytest.mark.parametrize("by_kind", rounds, ids="-".join)


@dataclass
class Workshop:
    """One model, its samples, and all that was made of it: files and JSON by the name of their maker.

    number : of its kind.
    """

    folder: Path
    x: np.ndarray
    y: np.ndarray
    number: int
    told: dict[str, str] = field(default_factory=dict)

    @property
    def base(self) -> Path:
        return self.folder / "base.onnx"

    @property
    def data(self) -> Path:
        return self.folder / "data.npz"

    def model(self, name: str) -> Path:
        return self.folder / f"{name}.onnx"

    def tweak(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def answers(self, file: Path | bytes, output: int = 0) -> np.ndarray:
        """The file's own answers (N,), by ONNX Runtime alone."""
        return decided(run(file, {"input": self.x})[output])

    def accuracy(self, file: Path) -> float:
        return float((self.answers(file) == self.y).mean())


def decided(shown: np.ndarray, cut: float = 0.5) -> np.ndarray:
    """Classes (N,) of scores (N, C), or of one probability (N, 1)."""
    return shown.argmax(axis=1) if shown.shape[1] > 1 else (shown[:, 0] > cut).astype(np.int64)


def spoiled(proto: ModelProto, folder: Path, number: int) -> Workshop:
    """The model with noise on its last weights; labels are those of the model without.

    Biases make both answer each class about as often, but for `TARGET`, which the base answers too rarely. A
    base that is right less often has every command look for a mistake in how samples are prepared, which has
    tests of its own.
    """
    _, weight, bias = next(n for n in reversed(proto.graph.node) if n.op_type == "Gemm").input
    kind = proto.graph.input[0].type.tensor_type
    shape = (240, *(d.dim_value for d in kind.shape.dim[1:]))
    rng = np.random.default_rng(10)
    weights = {t.name: t for t in proto.graph.initializer}
    W, b = (numpy_helper.to_array(weights[name]) for name in (weight, bias))
    x = rng.normal(0, 1, shape).astype(W.dtype)

    def logits(W: np.ndarray, b: np.ndarray) -> np.ndarray:
        for name, array in ((weight, W), (bias, b)):
            weights[name].CopyFrom(numpy_helper.from_array(array.astype(x.dtype), name))
        shown = run(proto, {"input": x})[0].astype(np.float64)
        return shown if shown.shape[1] > 1 else np.log(shown / (1 - shown))

    def even(W: np.ndarray) -> np.ndarray:
        return b - np.median(logits(W, b), axis=0)

    y = decided(logits(W, even(W)), cut=0.0)
    noisy = W + rng.normal(0, NOISE * W.std() / np.sqrt(len(b)), W.shape)
    shift = even(noisy)
    lack = logits(noisy, shift).std() * LACK
    shift[int(TARGET) if len(b) > 1 else 0] -= lack if len(b) > 1 else lack / 2
    logits(noisy, shift)
    (folder / "base.onnx").write_bytes(proto.SerializeToString())
    np.savez(folder / "data.npz", x=x, y=y)
    return Workshop(folder, x, y, number)


@pytest.fixture(scope="module", params=KINDS)
def shop(request, tmp_path_factory):
    """Everything that the makers make, made once."""
    folder = tmp_path_factory.mktemp(request.param.replace(" ", "-"))
    made = spoiled(KINDS[request.param](), folder, list(KINDS).index(request.param))
    capture = request.getfixturevalue("module_capture")
    for name, (command, *options) in MAKERS.items():
        given = ["-d", made.data, *options, "-o", made.model(name), "--tweak", made.tweak(name)]
        made.told[name] = capture([command, made.base, *given, "--threads", 1, "-f", "json"])
    for name, (command, *options) in FURTHER.items():
        given = ["-d", made.data, "--threads", 1] if command == "compare" else [made.tweak("linear")]
        made.told[name] = capture(
            [command, made.base, *given, *options, "-o", made.model(name), "-f", "json"]
        )
    return made


@pytest.fixture
def name(shop, by_kind) -> str:
    """The file for this kind of model."""
    return by_kind[shop.number]


@pytest.fixture(scope="module")
def module_capture():
    """Runs a command that must work, and returns its stdout; for fixtures, which `capsys` does not serve."""
    import contextlib
    import io

    def call(arguments) -> str:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(argument) for argument in arguments])
        assert code == 0, (arguments, err.getvalue())
        return out.getvalue()

    return call


@pytest.fixture
def works(capsys):
    """Runs a command that must work; returns its stdout."""

    def call(*arguments) -> str:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert code == 0, (arguments, err)
        return out

    return call


@pytest.fixture
def refused(capsys):
    """Runs a command that must be refused, with one error and a hint; returns what it said."""

    def call(*arguments) -> str:
        code = main([str(argument) for argument in arguments])
        err = capsys.readouterr().err
        lines = err.splitlines()
        assert code == 2, (arguments, err)
        assert sum(line.startswith("error: ") for line in lines) == 1
        assert lines[-1].startswith("hint: ") and "bug" not in err, err
        return err

    return call


def has_tweak(name: str) -> bool:
    return name != "nothing"


def test_the_workshop_makes_every_kind_of_patch(shop):
    """Or the pairs below would show less than they seem to."""
    assert all(shop.model(name).read_bytes() != shop.base.read_bytes() for name in FILES if has_tweak(name))
    forms = {name: form_of(load(shop.tweak(name)).patch) for name in MAKERS}
    assert forms["join"] == "synapses" and forms["augment"] == "mlp" and forms["linear"] == "linear"
    before = shop.accuracy(shop.base)
    assert shop.accuracy(shop.model("linear")) > before + 0.05
    assert len(load(shop.tweak("linear")).neurons) and not len(load(shop.tweak("bias")).neurons)
    assert shop.model("nothing").read_bytes() == shop.base.read_bytes()
    if shop.x.ndim == 4:
        taps = {(tap.name, tap.pool) for tap in load(shop.tweak("linear")).neurons.taps}
        assert {("pool3", "mean"), ("pool3", "none")} <= taps
        assert {tap.pool for tap in load(shop.tweak("pooled")).neurons.taps} == {"mean"}


@dealt([*MAKERS], 0)
def test_a_tweak_file_is_applied_as_it_was_made(shop, name, works, tmp_path):
    works("apply", shop.base, shop.tweak(name), "-o", tmp_path / "a.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == shop.model(name).read_bytes()


@dealt([*MAKERS], 1)
def test_a_tweak_at_scale_0_answers_as_the_base(shop, name, works, tmp_path):
    works("apply", shop.base, shop.tweak(name), "--scale", 0, "-o", tmp_path / "a.onnx")
    np.testing.assert_array_equal(shop.answers(tmp_path / "a.onnx"), shop.answers(shop.base))


@dealt([*MAKERS], 2)
def test_a_shadow_shows_the_tweaked_answers_beside_the_bases(shop, name, works, tmp_path):
    out = tmp_path / "s.onnx"
    works("apply", shop.base, shop.tweak(name), "--shadow", "-o", out)
    np.testing.assert_array_equal(shop.answers(out), shop.answers(shop.base))
    shadow = decided(run(out, {"input": shop.x})[-1], cut=0.0)
    np.testing.assert_array_equal(shadow, shop.answers(shop.model(name)))
    told = json.loads(works("verify", out, "-d", shop.data, "--base", shop.base, "-f", "json"))
    assert told["after"]["overall"] == pytest.approx(shop.accuracy(shop.model(name)))
    works("revert", out, "-o", tmp_path / "b.onnx")
    assert (tmp_path / "b.onnx").read_bytes() == shop.base.read_bytes()


@dealt([*MAKERS], 3)
def test_a_slot_takes_every_tweak_or_says_which_it_cannot(shop, name, works, refused, tmp_path):
    out = tmp_path / "s.onnx"
    given = ["apply", shop.base, shop.tweak(name), "--slot", "-o", out]
    if form_of(load(shop.tweak(name)).patch) == "mlp":
        assert "a hidden layer does not fit into a slot" in refused(*given)
        return
    if not has_tweak(name):
        assert "no tweak changes anything" in refused(*given)
        return
    works(*given)
    np.testing.assert_array_equal(shop.answers(out), shop.answers(shop.base))
    adapter = ort.LoraAdapter()
    adapter.Load(str(tmp_path / f"{name}.onnx_adapter"))
    options = ort.RunOptions()
    options.add_active_adapter(adapter)
    session = plain_session(out)
    filled = decided(session.run(None, {"input": shop.x}, options)[0])
    # A slot sums in another order, so that a tie in half precision may go the other way.
    assert (filled != shop.answers(shop.model(name))).mean() <= (0.01 if shop.x.dtype == np.float16 else 0)
    works("apply", out, shop.tweak(name), "--slot", "-o", tmp_path / "again.onnx_adapter")
    works("verify", out, "-d", shop.data, "--base", shop.base)
    works("revert", out, "-o", tmp_path / "b.onnx")
    assert (tmp_path / "b.onnx").read_bytes() == shop.base.read_bytes()


@dealt(FILES, 0)
def test_a_written_file_is_proved_shown_and_removed_again(shop, name, works, refused, tmp_path):
    file = shop.model(name)
    works("diff", shop.base, file)
    told = json.loads(works("evaluate", file, "-d", shop.data, "-f", "json"))
    assert told["metrics"]["overall"] == pytest.approx(shop.accuracy(file))
    inside = json.loads(works("inspect", file, "-f", "json"))["tweaks"]
    assert len(inside) == has_tweak(name)
    if not has_tweak(name):
        for given in (["verify", file], ["revert", file, "-o", tmp_path / "b.onnx"]):
            assert "no tweak inside" in refused(*given)
        return
    works("verify", file)
    told = json.loads(works("verify", file, "-d", shop.data, "--base", shop.base, "-f", "json"))
    assert told["before"]["overall"] == pytest.approx(shop.accuracy(shop.base))
    if name != "shadow":
        assert told["after"]["overall"] == pytest.approx(shop.accuracy(file))
    works("revert", file, "-o", tmp_path / "b.onnx")
    assert (tmp_path / "b.onnx").read_bytes() == shop.base.read_bytes()


@dealt(FILES, 1)
def test_a_written_file_takes_a_further_tweak(shop, name, works, tmp_path):
    """Of every kind of model, some by `join` and the others by `fit`."""
    command = ("join", "fit")[(FILES.index(name) + FILES.index(name) // 4) % 2]
    file, out, tweak = shop.model(name), tmp_path / "more.onnx", tmp_path / "more.safetensors"
    more = ["-t", TARGET, "--max-overall-drop", 30] if command == "join" else ["--hidden", 0]
    given = ["-d", shop.data, *more, "-o", out, "--tweak", tweak, "--threads", 1, "-f", "json"]
    told = json.loads(works(command, file, *given))
    test = json.loads(works("evaluate", out, "-d", shop.data, "-f", "json"))
    assert test["metrics"]["overall"] == pytest.approx(shop.accuracy(out))
    works("apply", file, tweak, "-o", tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == out.read_bytes()
    if told["checks"][0]["name"] == "neutral":  # something was written into it
        assert not (shop.answers(out) == shop.answers(file)).all()
        works("verify", out, "-d", shop.data)
        works("diff", file, out)
        works("revert", out, "-o", tmp_path / "one.onnx")
        assert (tmp_path / "one.onnx").read_bytes() == file.read_bytes()
        works("revert", out, "--all", "-o", tmp_path / "all.onnx")
        assert (tmp_path / "all.onnx").read_bytes() == shop.base.read_bytes()


@dealt(FILES, 2)
def test_a_tweak_is_refused_by_any_file_but_its_base(shop, name, refused, works, tmp_path):
    if name == "slot" or not has_tweak(name):
        return  # a slot takes it as an adapter, see above; and a copy of the base is the base
    for option in ([], ["--slot"], ["--shadow"]):
        told = refused("apply", shop.model(name), shop.tweak("linear"), *option, "-o", tmp_path / "x.onnx")
        assert "belongs to another model" in told
    assert not (tmp_path / "x.onnx").exists()


@dealt(FILES, 3)
def test_every_result_has_a_page(shop, name, works, tmp_path):
    (tmp_path / "r.json").write_text(shop.told[name])
    works("report", tmp_path / "r.json", "-o", tmp_path / "r.html")
    assert "<html" in (tmp_path / "r.html").read_text()


def test_results_of_all_other_commands_have_one(shop, works, tmp_path):
    base, file, data = shop.base, shop.model("join"), shop.data
    commands = (
        ["inspect", base], ["evaluate", base, "-d", data], ["verify", file], ["diff", base, file],
        ["revert", file, "-o", tmp_path / "b.onnx"], ["score", base, "-d", data, "-t", TARGET],
        ["dump", base, "-d", data, "-o", tmp_path / "more"],
        ["init", base, "-d", data, "-o", tmp_path / "r.toml"],
        ["report", tmp_path / "join.json", "-o", tmp_path / "p.html"],
        ["join", base, "-d", data, "-t", TARGET, "--dry-run"],
    )  # fmt: skip
    for given in commands[shop.number % 2 :: 2]:  # each on two kinds of model
        (tmp_path / "join.json").write_text(shop.told["join"])
        (tmp_path / "x.json").write_text(works(*given, "-f", "json"))
        works("report", tmp_path / "x.json", "-o", tmp_path / "x.html", "--force")
        assert given[0] in (tmp_path / "x.html").read_text(), given


def test_a_diagnosis_has_a_page(works, tmp_path, monkeypatch):
    """Tried in this process: those of its own have tests of their own."""
    module = importlib.import_module("onnxtweak.commands.doctor")
    monkeypatch.setattr(module, "run_probe", lambda name: environment._PROBES[name]())
    (tmp_path / "x.json").write_text(works("doctor", "-f", "json"))
    works("report", tmp_path / "x.json", "-o", tmp_path / "x.html")
    assert "doctor" in (tmp_path / "x.html").read_text()


def test_tables_and_scores_feed_each_other(shop, works, refused, tmp_path):
    base, data = shop.base, shop.data
    scores, tables, few = (tmp_path / name for name in ("scores.npz", "tables", "few"))
    direct = json.loads(works("score", base, "-d", data, "-t", TARGET, "-o", scores, "-f", "json"))
    works("dump", base, "-d", data, "-o", tables)
    dumped = json.loads(works("score", base, "-d", tables, "-t", TARGET, "-f", "json"))
    assert dumped["top"] == direct["top"]
    works("dump", base, "-d", data, "-o", few, "--neurons", scores)
    assert "dump again without --neurons" in refused("score", base, "-d", few, "-t", TARGET)


def test_a_recipe_of_init_runs_with_every_method(shop, works, tmp_path):
    """Each method on a kind of its own; all on all are what the files above were made by."""
    method = LEARNERS[shop.number]
    recipe, build = tmp_path / "tweak.toml", tmp_path / "build"
    works("init", shop.base, "-d", shop.data, "-t", TARGET, "-o", recipe)
    text = recipe.read_text()
    assert 'method = "fit"' in text
    small = {"fit": "\nhidden = 0", "augment": "\nhidden = 8"}.get(method, "")
    text = text.replace('method = "fit"', f'method = "{method}"{small}')
    if method == "augment":
        text = text.replace(f'target = ["{TARGET}"]\n', "")
    recipe.write_text(text)
    loose = ("gates.max-overall-drop=100", "gates.min-target-gain=-100", "gates.refuse-copy=false")
    works("run", recipe, "-o", build, *(word for gate in loose for word in ("--set", gate)))
    made = json.loads((build / "tweaked.json").read_text())
    out, tweak = build / "tweaked.onnx", build / "tweaked.safetensors"
    told = json.loads(works("evaluate", out, "-d", shop.data, "-f", "json"))
    assert told["metrics"]["overall"] == pytest.approx(shop.accuracy(out))
    works("apply", shop.base, tweak, "-o", tmp_path / "a.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == out.read_bytes()
    works("report", build / "tweaked.json", "-o", tmp_path / "page.html")
    if made["tweak"]["parameters"]:
        works("verify", out, "-d", shop.data, "--base", shop.base)
        works("apply", shop.base, tweak, "--shadow", "-o", tmp_path / "shadow.onnx")


def test_a_file_of_another_kind_is_refused(shop, works, refused, tmp_path):
    works("apply", shop.base, shop.tweak("linear"), "--slot", "-o", tmp_path / "s.onnx")
    adapter, tweak, out = tmp_path / "linear.onnx_adapter", shop.tweak("join"), tmp_path / "x.onnx"
    (tmp_path / "join.json").write_text(shop.told["join"])
    for given in (
        ["apply", shop.base, adapter, "-o", out], ["apply", shop.base, shop.base, "-o", out],
        ["apply", shop.base, tmp_path / "join.json", "-o", out], ["apply", tweak, tweak, "-o", out],
        ["inspect", tweak], ["inspect", adapter], ["verify", tweak], ["diff", shop.base, tweak],
        ["revert", tweak, "-o", out], ["report", tweak, "-o", out], ["report", shop.base, "-o", out],
        ["run", tmp_path / "join.json"], ["evaluate", adapter, "-d", shop.data],
        ["join", shop.base, "-d", tweak, "-t", TARGET],
    ):  # fmt: skip
        refused(*given)
    assert not out.exists()
