"""The public functions: the command line's words, and doctests that run."""

from __future__ import annotations

import doctest
import inspect as python
import subprocess
import sys
from dataclasses import MISSING, fields
from importlib import import_module
from types import NoneType
from typing import get_args, get_type_hints

import numpy as np
import pytest

import onnxtweak
from onnxtweak import api, commands
from onnxtweak.api import options
from onnxtweak.cli.main import program
from onnxtweak.demo_files import demo_files
from onnxtweak.errors import UsageError
from onnxtweak.recipe.values import choices_of
from onnxtweak.registry import METHODS
from onnxtweak.settings import LISTED, Preprocess
from tests.support.few_folds import three_folds
from tests.support.short_trainings import short_trainings
from tests.support.weak_class import TARGET, weak_mlp


@pytest.mark.skipif(sys.version_info < (3, 11, 5), reason="doctest took a note for the exception's message")
@pytest.mark.parametrize("module", [api, api.goal, api.outcomes, api.samples])
def test_examples_in_the_docstrings_run(module):
    with three_folds(), short_trainings():
        found = doctest.testmod(module, optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    assert found.attempted >= 4 and found.failed == 0


@pytest.mark.parametrize("name", [name for name in onnxtweak.__all__ if name != "Goal"])
def test_every_name_is_a_command_and_explained(name):
    assert name in program.commands or name == "open"  # a path needs no opening
    function = getattr(onnxtweak, name)
    assert function.__module__ == "onnxtweak.api" and python.getdoc(function)


def test_the_package_itself_is_light(root):
    code = (
        f"import sys; sys.path.insert(0, {str(root)!r})\n"
        "import onnxtweak; dir(onnxtweak); print('numpy' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
    with pytest.raises(AttributeError, match="no attribute 'jion'"):
        onnxtweak.jion  # noqa: B018


def test_from_join_to_revert(tmp_path):
    model, data = weak_mlp(tmp_path)
    output, tweak, page = (tmp_path / name for name in ("o.onnx", "t.safetensors", "r.html"))
    files = {"output": output, "tweak": tweak, "report": page}
    made = onnxtweak.join(model, data=data, target=TARGET, count=5, max_overall_drop="1/2", **files)
    assert made.choice.n == (5,) and page.is_file()
    assert repr(made).startswith("<Result of join on test: targets ") and len(repr(made)) < 120
    assert onnxtweak.diff(model, output).checks
    assert onnxtweak.apply(model, tweak, tmp_path / "again.onnx").output.sha256 == made.output.sha256
    onnxtweak.revert(output, tmp_path / "base.onnx")
    assert (tmp_path / "base.onnx").read_bytes() == model.read_bytes()


def test_only_what_is_public_is_shown():
    assert set(dir(onnxtweak)) == {*onnxtweak.__all__, "__version__", "errors"}


def expected(kinds, nested):
    """Setting and type of each option that a function should have, by its name."""
    found = {}
    for kind in kinds:
        types = get_type_hints(kind)
        for field in fields(kind):
            if field.name == "preprocess":
                found |= expected([Preprocess], ())
            elif (kind, field.name) not in options.HIDDEN:
                word = {"targets": "target"}.get(field.name, field.name)
                word = options.RENAMED.get((kind, field.name), word)
                assert word not in found, f"two settings share the option {word}"
                found[word] = field.default, types[field.name]
    return found | dict.fromkeys(nested, (None, None))


# Values that have a name in Python and on the command line, and are a number among the settings.
NAMED = {"class_axis": ("none",)}
# Arguments of a function that are no settings of its command.
BESIDE = {"compare": ("repeats", "methods", "metric"), "evaluate": ("metric",)}


@pytest.mark.parametrize("name", options.SETTINGS)
def test_options_are_what_the_settings_say(name):
    function = getattr(api, name)
    nested = METHODS[name].settings.keys() - {"settings"} if name in METHODS else set()
    kinds = [kind for keyword, kind in options.SETTINGS[name].items() if keyword not in nested]
    wanted = expected(kinds, nested)
    if name != "fit":  # which alone takes listed samples, and can do without others
        wanted = {word: one for word, one in wanted.items() if word not in LISTED}
        wanted["data"] = MISSING, wanted["data"][1]
    shown = {
        word: one
        for word, one in python.signature(function).parameters.items()
        if word not in ("model", "progress", "goal", *BESIDE.get(name, ()))
    }
    (typed,) = get_args(get_type_hints(function)["options"])
    assert set(shown) == set(wanted) == set(get_type_hints(typed)) - {"goal"}
    assert ("goal" in get_type_hints(typed)) == (name != "inspect")
    for word, (default, declared) in wanted.items():
        default = python.Parameter.empty if default is MISSING else default
        if word == "data" and name in options._OPTIONAL_DATA:
            default = None
        if word == "taps":
            default = options._TAPS.get(name, default)
        assert shown[word].default == default, word
        if word not in nested:
            took = get_type_hints(typed)[word]
            assert choices_of(took) == NAMED.get(word, choices_of(declared)), word
            assert (NoneType in get_args(took)) == (NoneType in get_args(declared)), word
    for kind in options.SETTINGS[name].values():
        if kind not in (METHODS[name].settings[keyword] for keyword in nested):
            assert python.getdoc(kind) in python.getdoc(function)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_a_command_everywhere(name):
    assert name in program.commands and name in onnxtweak.__all__ and name in commands.__all__
    module = import_module(f"onnxtweak.commands.{name}")
    taken = get_type_hints(getattr(module, name))
    assert {keyword: taken[keyword] for keyword in METHODS[name].settings} == dict(METHODS[name].settings)
    assert ("targets" in taken) == METHODS[name].targeted
    assert python.signature(getattr(module, name)).parameters["taps"].default.taps == METHODS[name].taps
    assert list(python.signature(module.passes).parameters) == ["request"]


def test_the_options_of_a_join_before_retraining_are_strict_too():
    asked = {"data": "d.npz", "target": 1}
    with pytest.raises(UsageError, match="unknown option `conut`") as raised:
        onnxtweak.retrain("m.onnx", **asked, join={"conut": 5})
    assert raised.value.hint == "did you mean `count`?" and "join" in raised.value.where
    with pytest.raises(UsageError, match="`join` is not a mapping"):
        onnxtweak.retrain("m.onnx", **asked, join=5)


def test_a_minibatch_is_not_a_batch():
    made = options.settings_of("augment", {"data": "d.npz", "batch": 8, "minibatch": 64})
    assert made["engine"].batch == 8 and made["settings"].batch == 64


@pytest.mark.parametrize(
    ("options", "what", "hint"),
    [
        ({"max_overal_drop": 1}, "unknown option `max_overal_drop`", "`max_overall_drop`"),
        ({"count": "many"}, "'many' is not a whole number", ""),
        ({"data": None}, "`data` is missing", ""),
        ({"penalty": 2}, "unknown option `penalty`", "known"),
    ],
)
def test_options_are_strict(options, what, hint):
    with pytest.raises(UsageError) as raised:
        onnxtweak.join("m.onnx", **{"data": "d.npz", "target": 1, **options})
    assert what in raised.value.what and hint in raised.value.hint


def test_a_traceback_shows_the_hint():
    with pytest.raises(UsageError) as raised:
        onnxtweak.join("m.onnx", data="d.npz", target=1, scael=5)
    assert raised.value.__notes__ == [f"hint: {raised.value.hint}"]


def test_numbers_may_be_numpys(tmp_path):
    model, data = weak_mlp(tmp_path)
    plain = onnxtweak.join(model, data=data, target=TARGET, count=[1, 5], max_overall_drop=0.5)
    numpys = onnxtweak.join(
        model, data=data, target=np.int64(TARGET), count=np.array([1, 5]), max_overall_drop=np.float32(0.5)
    )
    assert (numpys.choice, numpys.tweak) == (plain.choice, plain.tweak)
    assert onnxtweak.evaluate(model, data=data, target=np.array([TARGET])).targets == (str(TARGET),)


def test_resuming_needs_a_folder(tmp_path):
    model, data = weak_mlp(tmp_path)
    with pytest.raises(UsageError, match="`resume` needs `work_dir`"):
        onnxtweak.join(model, data=data, target=TARGET, resume=True)
    folder = tmp_path / "work"
    made = [onnxtweak.join(model, data=data, target=TARGET, work_dir=folder, resume=r) for r in (False, True)]
    assert made[0].choice == made[1].choice


def test_listed_samples_are_for_fit_alone(tmp_path):
    model, data = weak_mlp(tmp_path)
    made = onnxtweak.fit(model, must=f"{data}#[0:4]", lock=f"{data}#[4:300]")
    assert made.listed.must.samples == 4 and made.listed.must.infeasible == 0
    with pytest.raises(UsageError, match="unknown option `must`"):
        onnxtweak.join(model, data=data, target=TARGET, must=data)
    with pytest.raises(UsageError, match="`data` is missing"):
        onnxtweak.join(model, target=TARGET)
    with pytest.raises(UsageError, match="no samples to learn from"):
        onnxtweak.fit(model)


def test_a_goal_says_what_options_say(tmp_path):
    model, data = demo_files().model, f"{demo_files().data}#fit"
    goal = onnxtweak.Goal(target=8, max_class_drop=2)
    linear = {"data": data, "hidden": 0, "mirror": "off"}
    with three_folds():
        one = onnxtweak.fit(model, goal=goal, output=tmp_path / "one.onnx", **linear)
        same = onnxtweak.fit(model, target=8, max_class_drop=2, output=tmp_path / "same.onnx", **linear)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "same.onnx").read_bytes()
    asked = "raise 8; keep overall accuracy; lose at most 2 points in any class"
    assert one.verdict.goal == same.verdict.goal == asked
    assert onnxtweak.evaluate(model, data=data, goal=goal).targets == ("8",)
    assert repr(goal) == "Goal(target=8, max_class_drop=2)"


def test_a_goal_says_which_metric_is_measured_and_compared(tmp_path):
    model, data = demo_files().model, f"{demo_files().data}#test"
    (found,) = onnxtweak.evaluate(model, data=data, goal=onnxtweak.Goal(metric="worst")).readings
    assert found.value == pytest.approx(0.66)
    model, data = weak_mlp(tmp_path, n=300)
    asked = {"data": data, "methods": ["cRT"]}
    of_goal = onnxtweak.compare(model, goal=onnxtweak.Goal(metric="worst"), **asked)
    assert of_goal.metric == onnxtweak.compare(model, metric="worst", **asked).metric is not None
    with pytest.raises(UsageError, match="`metric` is given beside the goal"):
        onnxtweak.evaluate(model, data=data, metric="f1", goal=onnxtweak.Goal(metric="worst"))


def test_a_value_that_is_no_path_is_named_by_its_type():
    model = demo_files().model
    with pytest.raises(UsageError) as caught:
        onnxtweak.match(model, reference=b"\0" * 999, data=f"{demo_files().data}#test")
    assert caught.value.what == "a value of type bytes is not text; put it in quotes"


def test_an_unknown_word_is_answered_with_those_of_the_function_itself():
    with pytest.raises(UsageError) as caught:
        onnxtweak.compare("m.onnx", data="x.npz", method="bias")
    assert caught.value.hint == "did you mean `methods`?"


def test_limits_of_a_goal_reach_the_join_of_a_retraining():
    found = options.settings_of("retrain", {"data": "x.npz", "goal": api.Goal(target=1, max_class_drop=3)})
    assert found["join"].max_class_drop == 3 and found["targets"].targets == ("1",)


@pytest.mark.parametrize(
    ("name", "given", "what"),
    [
        ("join", {"goal": api.Goal(slice="sex")}, "`slice` of the goal is not heeded"),
        ("augment", {"goal": api.Goal(target=1)}, "`target` of the goal is not heeded"),
        ("fit", {"goal": api.Goal(target=1), "target": 2}, "`target` is given beside the goal"),
        ("fit", {"goal": {"target": 1}}, "`goal` is no Goal"),
        ("inspect", {"goal": api.Goal(target=1)}, "unknown option `goal`"),
    ],
)
def test_a_goal_that_cannot_be_heeded_is_refused(name, given, what):
    with pytest.raises(UsageError, match=what):
        options.settings_of(name, {"data": "x.npz", **given})
