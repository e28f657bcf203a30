"""Recipes: strict, relative to their file, overridable; every mistake is named with its remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnxtweak.errors import UsageError
from onnxtweak.recipe import read_recipe, reading
from onnxtweak.settings import AugmentSettings, JoinSettings, RetrainSettings, TargetSettings

WHOLE = """
[model]
path = "base.onnx"
[data]
data = "a.npz#fit[:10]"
test = ["t.npz", "/abs/u.npz"]
names = "names.txt"
seed = 3
[preprocess]
resize = [32, 48]
crop = "28x28"
pixel-scale = "1/255"
mean = [0.5, 0.4, 0.3]
std = 0.25
[engine]
memory = "500MB"
threads = 2
[[tweak]]
name = "cats"
target = ["cat", 3]
taps = "stages"
pool = "mean"
count = [1, 10]
scale = 5
max-overall-drop = "1/2"
[[tweak]]
name = "worst"
method = "retrain"
worst = 3
penalty = 1.5
[tweak.join]
count = 20
[[tweak]]
name = "all"
method = "augment"
hidden = 8
[[tweak]]
name = "best"
method = "fit"
target = "cat"
[gates]
max-E = 2
min-mcnemar = 0.95
[output]
directory = "out"
"""


def recipe(folder: Path, text: str = WHOLE) -> str:
    path = folder / "tweak.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def without(text: str, line: str) -> str:
    assert line in text
    return text.replace(line, "")


def test_names_may_stand_in_the_recipe(tmp_path):
    listed = WHOLE.replace('names = "names.txt"', 'names = ["cat", "dog"]')
    assert read_recipe(recipe(tmp_path, listed)).data.names == ("cat", "dog")
    with pytest.raises(UsageError, match="is not text"):
        read_recipe(recipe(tmp_path, WHOLE.replace('names = "names.txt"', "names = [1, 2]")))


def test_the_page_names_every_key():
    rows = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8").splitlines()
    for table, keys in reading._TABLES.items():
        if table != "gates":  # which have a table of their own
            (row,) = (row for row in rows if row.startswith(f"| `[{table}]` |"))
            assert [key for key in keys if f"`{key}`" not in row] == [], table


def test_no_axis_is_a_word_as_on_the_command_line(tmp_path):
    asked = read_recipe(recipe(tmp_path, WHOLE.replace("[data]", 'class-axis = "none"\n[data]')))
    assert {tweak.taps.class_axis for tweak in asked.tweaks} == {0}


def test_everything_lands_in_its_settings(tmp_path):
    asked = read_recipe(recipe(tmp_path))
    assert asked.model == str(tmp_path / "base.onnx")
    assert asked.data.data == (str(tmp_path / "a.npz#fit[:10]"),)
    assert asked.data.test == (str(tmp_path / "t.npz"), "/abs/u.npz")
    assert asked.data.names == str(tmp_path / "names.txt") and asked.data.seed == 3
    assert asked.data.preprocess.resize == (32, 48) and asked.data.preprocess.crop == (28, 28)
    assert asked.data.preprocess.pixel_scale == pytest.approx(1 / 255)
    assert asked.data.preprocess.std == (0.25,)
    assert asked.engine.memory == 500_000_000 and asked.engine.threads == 2
    cats, worst, everything, best = asked.tweaks
    assert (
        cats.targets.targets == ("cat", "3") and cats.taps.taps == ("stages",) and cats.taps.pool == ("mean",)
    )
    assert cats.options["settings"] == JoinSettings(count=(1, 10), scale=(5.0,), max_overall_drop=0.5)
    assert worst.options["settings"] == RetrainSettings(penalty=1.5)
    assert worst.options["join"] == JoinSettings(count=(20,))
    assert everything.options["settings"] == AugmentSettings(hidden=8)
    assert best.taps.taps == ()
    assert asked.gates.max_E == 2 and asked.gates.max_class_drop is None
    assert asked.directory == str(tmp_path / "out") and asked.cache == str(tmp_path / ".onnxtweak")


def test_later_wins(tmp_path):
    path = recipe(tmp_path)
    environment = {"ONNXTWEAK_ENGINE_DEVICE": "cuda", "ONNXTWEAK_GATES_MAX_E": "7", "ONNXTWEAK_HOME": "x"}
    asked = read_recipe(path, environment=environment)
    assert asked.engine.device == "cuda" and asked.gates.max_E == 7
    changes = [
        "engine.device=cuda:1",
        "tweak.cats.count=[2, 3]",
        "tweak.worst.join.theta=thesis",
        "gates.max-E=0.5",
    ]
    asked = read_recipe(path, environment=environment, changes=changes)
    assert asked.engine.device == "cuda:1" and asked.gates.max_E == 0.5
    assert asked.tweaks[0].options["settings"].count == (2, 3)
    assert asked.tweaks[1].options["join"].theta == "thesis"
    asked = read_recipe(path, changes=changes, device="cpu", directory="elsewhere")
    assert asked.engine.device == "cpu" and asked.directory == "elsewhere"


def test_digests_follow_what_shapes_a_tweak(tmp_path):
    asked = read_recipe(recipe(tmp_path))
    same = read_recipe(
        recipe(tmp_path, "# a comment\n" + WHOLE), changes=["engine.threads=1", "output.directory=o"]
    )
    assert same.sha256 == asked.sha256
    assert [t.sha256 for t in same.tweaks] == [t.sha256 for t in asked.tweaks]
    gated = read_recipe(recipe(tmp_path), changes=["gates.max-E=3"])
    assert gated.sha256 != asked.sha256
    assert gated.tweaks[0].sha256 == asked.tweaks[0].sha256
    other = read_recipe(recipe(tmp_path), changes=["tweak.cats.count=[5]"])
    assert other.tweaks[0].sha256 != asked.tweaks[0].sha256
    assert other.tweaks[1].sha256 == asked.tweaks[1].sha256
    grouped = read_recipe(recipe(tmp_path), changes=["data.group=patient"])
    assert grouped.data.group == "patient"
    assert grouped.tweaks[0].sha256 != asked.tweaks[0].sha256


def test_fit_and_compare_without_a_target_are_for_all_classes(tmp_path):
    text = without(WHOLE, 'target = "cat"\n').replace("[output]", "[compare]\n[output]")
    asked = read_recipe(recipe(tmp_path, text))
    assert asked.tweaks[3].targets == asked.compare.targets == TargetSettings()


@pytest.mark.parametrize(
    ("old", "new", "what", "hint"),
    [
        ("[engine]", "[engin]", "unknown key `engin`", "did you mean `engine`?"),
        ("threads = 2", "thread = 2", "unknown key `thread`", "did you mean `threads`?"),
        ("max-E = 2", "max-e = 2", "unknown key `max-e`", "did you mean `max-E`?"),
        ("pool = ", "pol = ", "unknown key `pol`", "did you mean `pool`?"),
        ("threads = 2", 'threads = "two"', "'two' is not a whole number", "docs/recipes.md"),
        ("threads = 2", "threads = true", "True is not a whole number", "docs"),
        ("seed = 3", "seed = 1.5", "1.5 is not a whole number", "docs"),
        ('memory = "500MB"', 'memory = "much"', "'much' is not a size", "docs"),
        ("resize = [32, 48]", "resize = [32]", "is not text", "docs"),
        ('pixel-scale = "1/255"', 'pixel-scale = "1/0"', "'1/0' is not a number", "docs"),
        ("scale = 5", "scale = nan", "'nan' is not a finite number", "docs"),
        ('pool = "mean"', 'pool = "maen"', "'maen' is not a known pool", "did you mean `mean`?"),
        ('method = "augment"', 'method = "argument"', "unknown method 'argument'", "did you mean `augment`?"),
        ('name = "cats"', 'name = "../cats"', "a tweak needs a name", "letters"),
        ('name = "cats"', 'name = "metrics"', "a tweak needs a name", "letters"),
        ('name = "cats"', 'name = "Worst"', "two tweaks are named `worst`", "its own name"),
        ('target = ["cat", 3]', "", "no target class", "worst = 3"),
        ("worst = 3", 'worst = 3\ntarget = "cat"', "exclude each other", "one of the two"),
        ("hidden = 8", 'hidden = 8\ntarget = "cat"', "unknown key `target`", "known here"),
        ('path = "base.onnx"', "", "`path` is missing", "[model]"),
        ('data = "a.npz#fit[:10]"', "", "`data` is missing", "[data]"),
        ('data = "a.npz#fit[:10]"', "data = []", "`data` is empty", "samples.npz"),
        ("min-mcnemar = 0.95", "min-mcnemar = 1.5", "1.5 is not less than 1", "less than 1"),
        ("[output]", "[output", "invalid TOML", "that line"),
        ("[tweak.join]\ncount = 20", "join = 3", "`join` is not a table", "[tweak.join]"),
        ("[output]", "[[output]]", "`output` is not a table", "[output]"),
        (
            "[output]",
            '[compare]\nworst = 1\ntarget = "cat"\n[output]',
            "exclude each other",
            "one of the two",
        ),
        ("[output]", "[compare]\nworst = 1\nmethod = 'fit'\n[output]", "unknown key `method`", "`methods`"),
        ("[output]", "[compare]\nworst = 1\nrepeats = 0\n[output]", "0 is less than 1", "at least 1"),
    ],
)
def test_a_mistake_is_named(tmp_path, old, new, what, hint):
    path = recipe(tmp_path, WHOLE.replace(old, new, 1))
    with pytest.raises(UsageError) as raised:
        read_recipe(path)
    assert what in raised.value.what
    assert hint in raised.value.hint
    assert path in raised.value.where


def test_gates_need_test_samples(tmp_path):
    text = WHOLE.replace('test = ["t.npz", "/abs/u.npz"]', 'val = "v.npz"')
    with pytest.raises(UsageError, match="gates are judged on test samples"):
        read_recipe(recipe(tmp_path, text))
    without_gates = text.replace("max-E = 2", "").replace("min-mcnemar = 0.95", "")
    assert read_recipe(recipe(tmp_path, without_gates)).data.test == ()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("engine.device", "is not an override"),
        ("device=cpu", "is not an override"),
        (".device=cpu", "is not an override"),
        ("tweak.dogs.count=1", "unknown tweak `dogs`"),
        ("tweak.cats=1", "does not name a key"),
        ("engine.devise=cpu", "unknown key `devise`"),
        ("model.path.deeper=1", "is not a table"),
    ],
)
def test_overrides_are_strict_too(tmp_path, change, what):
    with pytest.raises(UsageError, match=what):
        read_recipe(recipe(tmp_path), changes=[change])


def test_a_misspelt_variable_is_refused(tmp_path):
    with pytest.raises(UsageError, match="unknown key") as raised:
        read_recipe(recipe(tmp_path), environment={"ONNXTWEAK_ENGINE_DEVISE": "cpu"})
    assert "ONNXTWEAK_ENGINE_DEVISE" in raised.value.where


def test_no_file_and_no_tweak(tmp_path):
    with pytest.raises(UsageError, match="cannot read the recipe"):
        read_recipe(str(tmp_path / "none.toml"))
    with pytest.raises(UsageError, match=r"missing \[\[tweak\]\]"):
        read_recipe(recipe(tmp_path, '[model]\npath = "a"\n[data]\ndata = "b"\n'))


LISTED = """
[model]
path = "base.onnx"
[data]
must = "wrong.npz"
lock = ["right.npz", "/abs/more.npz"]
[[tweak]]
name = "repaired"
method = "fit"
[gates]
min-must-fixed = 1
max-lock-broken = 0.002
"""


def test_listed_samples_need_no_others(tmp_path):
    read = read_recipe(recipe(tmp_path, LISTED))
    assert read.data.must == (str(tmp_path / "wrong.npz"),) and not read.data.data
    assert read.data.lock == (str(tmp_path / "right.npz"), "/abs/more.npz")
    assert (read.gates.min_must_fixed, read.gates.max_lock_broken) == (1, 0.002)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('method = "fit"', 'target = ["cat"]', "`join` takes no listed samples"),
        ("[gates]", "[compare]\n[gates]", "`compare` takes no listed samples"),
        ('must = "wrong.npz"', "", "`data` is missing"),
    ],
)
def test_listed_samples_are_for_fit_alone(tmp_path, old, new, what):
    with pytest.raises(UsageError, match=what):
        read_recipe(recipe(tmp_path, LISTED.replace(old, new)))


GOAL = """
[model]
path = "base.onnx"
[data]
data = "a.npz"
[goal]
target = ["cat"]
max-overall-drop = 1
max-class-drop = 2
[[tweak]]
name = "joined"
[[tweak]]
name = "retrained"
method = "retrain"
[[tweak]]
name = "fitted"
method = "fit"
worst = 2
max-class-drop = "none"
[compare]
"""


def test_a_goal_is_of_every_tweak_and_a_tweak_wins(tmp_path):
    asked = read_recipe(recipe(tmp_path, GOAL))
    joined, retrained, fitted = asked.tweaks
    assert joined.targets == retrained.targets == asked.compare.targets == TargetSettings(targets=("cat",))
    limits = [joined.options["settings"], retrained.options["join"], fitted.options["settings"]]
    assert [limit.max_overall_drop for limit in limits] == [1, 1, 1]
    assert [limit.max_class_drop for limit in limits] == [2, 2, None]
    assert fitted.targets == TargetSettings(worst=2)
    written_out = without(GOAL, '[goal]\ntarget = ["cat"]\nmax-overall-drop = 1\nmax-class-drop = 2\n')
    own = 'target = ["cat"]\nmax-overall-drop = 1\nmax-class-drop = 2\n'
    plain = read_recipe(
        recipe(
            tmp_path,
            written_out.replace('name = "joined"\n', f'name = "joined"\n{own}', 1).replace(
                'name = "retrained"\n', 'name = "retrained"\ntarget = ["cat"]\n'
            ),
        )
    )
    assert plain.tweaks[0].sha256 == joined.sha256
    changed = read_recipe(recipe(tmp_path, GOAL), changes=["goal.target=dog"])
    assert changed.tweaks[0].targets.targets == ("dog",)


def test_an_override_of_what_should_be_better_replaces_the_recipes_own(tmp_path):
    """As `init` writes it, a recipe has `worst = 3` there."""
    text = GOAL.replace('target = ["cat"]', "worst = 3")
    text = text[: text.index("[[tweak]]")] + '[[tweak]]\nname = "fitted"\nmethod = "fit"\n'
    for changes, environment in ((["goal.metric=f1"], {}), ([], {"ONNXTWEAK_GOAL_METRIC": "f1"})):
        fitted = read_recipe(recipe(tmp_path, text), changes=changes, environment=environment).tweaks[0]
        assert fitted.targets == TargetSettings() and fitted.options["settings"].metric == "f1"
        assert fitted.options["settings"].max_class_drop == 2
    several = read_recipe(recipe(tmp_path, text), changes=["goal.target=cat", "goal.metric=f1"]).tweaks[0]
    assert several.targets.targets == ("cat",) and several.options["settings"].metric == "f1"
    own = read_recipe(recipe(tmp_path, GOAL), changes=["tweak.fitted.metric=f1"]).tweaks[2]
    assert own.targets == TargetSettings() and own.options["settings"].metric == "f1"


def test_a_tweak_with_a_metric_takes_no_targets_of_the_goal(tmp_path):
    text = GOAL.replace("worst = 2", 'metric = "f1"')
    assert text != GOAL
    fitted = read_recipe(recipe(tmp_path, text)).tweaks[2]
    assert fitted.targets == TargetSettings() and fitted.options["settings"].metric == "f1"


def test_listed_samples_of_a_goal_are_data(tmp_path):
    text = GOAL[: GOAL.index("[[tweak]]")] + '[[tweak]]\nname = "fitted"\nmethod = "fit"\n'
    text = without(text, 'target = ["cat"]\n').replace("[goal]", '[goal]\nmust = "wrong.npz"')
    assert read_recipe(recipe(tmp_path, text)).data.must == (str(tmp_path / "wrong.npz"),)
    twice = text.replace('data = "a.npz"', 'data = "a.npz"\nmust = "other.npz"')
    with pytest.raises(UsageError, match=r"`must` is given here and under \[data\]"):
        read_recipe(recipe(tmp_path, twice))


@pytest.mark.parametrize(
    ("new", "what"),
    [
        ('slice = "sex"', "`join` does not heed `slice`"),
        ('aim = "sex"', "unknown key `aim`"),
        ('max-overall-drop = "much"', "much"),
        ('metric = "balancd"', r"unknown metric 'balancd' \(.*\[goal\] metric\)"),
    ],
)
def test_a_goal_that_cannot_be_heeded_is_refused(tmp_path, new, what):
    with pytest.raises(UsageError, match=what):
        read_recipe(recipe(tmp_path, GOAL.replace("max-overall-drop = 1", new, 1)))


def test_nothing_kept_is_no_list(tmp_path):
    """`keep = "none"` asks nothing of a method that takes no lists."""
    for said in ('"none"', '["none"]'):
        text = GOAL.replace("max-overall-drop = 1", f"keep = {said}\nmax-overall-drop = 1", 1)
        assert read_recipe(recipe(tmp_path, text)).data.keep == ("none",)
    with pytest.raises(UsageError, match="`join` takes no listed samples"):
        read_recipe(recipe(tmp_path, GOAL.replace("[goal]", '[goal]\nkeep = "more.npz"')))
