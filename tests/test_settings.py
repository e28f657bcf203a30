"""Settings: the command line, recipes and Python refuse the same numbers, in the same words."""

from __future__ import annotations

import math

import pytest

import onnxtweak
from onnxtweak import settings
from onnxtweak.api.options import RENAMED
from onnxtweak.bounded import ranges_of
from onnxtweak.cli.main import main, program
from onnxtweak.errors import UsageError
from onnxtweak.recipe.plan import ComparePlan, Gates
from onnxtweak.recipe.values import key_of, settings_from

KINDS = {
    settings.Preprocess: "join",
    settings.DataSettings: "join",
    settings.EngineSettings: "join",
    settings.TapSettings: "join",
    settings.TargetSettings: "join",
    settings.JoinSettings: "join",
    settings.RetrainSettings: "retrain",
    settings.AugmentSettings: "augment",
    settings.FitSettings: "fit",
}
# How many times smaller than any sensible one, or no number at all.
WORDS = ("less than", "greater than", "not a finite number", "not less than")


def _outside():
    """Values just out of each declared range, by settings class and field; sizes in pixels are text."""
    for kind, command in KINDS.items():
        for field, limits in ranges_of(kind).items():
            if field in ("resize", "crop"):
                continue
            wrong = [
                *([] if limits.least is None else [limits.least - 1, -(10**6)]),
                *([] if limits.above is None else [limits.above, limits.above - 1]),
                *([] if limits.most is None else [limits.most + 1]),
                *([] if limits.below is None else [limits.below]),
            ]
            for value in wrong:
                yield pytest.param(kind, command, field, value, id=f"{kind.__name__}-{field}-{value}")


OUTSIDE = list(_outside())


def test_every_number_has_a_range():
    for kind in (*KINDS, Gates, ComparePlan):
        for field, declared in kind.__annotations__.items():
            number = any(word in declared for word in ("int", "float")) and "str" not in declared
            assert not number or field in ranges_of(kind), f"{kind.__name__}.{field}"


@pytest.mark.parametrize(("kind", "command", "field", "value"), OUTSIDE)
def test_the_same_numbers_are_refused_in_the_same_words(kind, command, field, value, tmp_path, capsys):
    said = _said_by_settings(kind, field, value)
    assert any(word in said for word in WORDS)
    with pytest.raises(UsageError) as caught:  # a recipe
        settings_from(kind, {"data": "x.npz", key_of(field): value}, "tweak.toml [table]")
    assert (caught.value.what, caught.value.where) == (said, f"tweak.toml [table] {key_of(field)}")
    word = RENAMED.get((kind, field), field)
    with pytest.raises(UsageError) as caught:  # Python
        getattr(onnxtweak, command)("m.onnx", data="x.npz", **{word: value})
    assert caught.value.what == said
    option = f"--{word.replace('_', '-')}"
    if not any(option in parameter.opts for parameter in program.commands[command].params):
        return  # what only recipes and Python can ask for
    target = [] if command == "augment" or field == "worst" else ["-t", "0"]
    asked = ["m.onnx", "-d", "x.npz", *target, f"{option}={value}", "-o", str(tmp_path / "o.onnx")]
    assert main([command, *asked]) == 2
    if option != "--memory":  # read as a size
        assert f"error: {said} ({option})" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(("kind", "field"), [(k, f) for k in KINDS for f in ranges_of(k)])
def test_no_setting_is_without_bounds(kind, field):
    several = "tuple" in kind.__annotations__[field]
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(UsageError, match=r"finite"):
            _made(kind, field, (value,) if several else value)
    if several:
        with pytest.raises(UsageError, match="the list is empty"):
            _made(kind, field, ())


def test_defaults_are_in_range():
    for kind in KINDS:
        assert kind(data=("x",)) if kind is settings.DataSettings else kind()


def test_threads_and_processes_stay_within_the_machine(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    asked = settings.EngineSettings(threads=100_000, workers=99_999)
    assert (asked.cores, asked.processes) == (3, 3)
    assert asked.notes[0] == "--threads 100,000: this machine has 3 cores, 3 are used"
    assert "--workers 99,999" in asked.notes[1]
    assert settings.EngineSettings(threads=3).notes == ()
    assert settings.EngineSettings(threads=2, workers=2).processes == 2


def _made(kind, field, value):
    return kind(**{"data": ("x",)} if kind is settings.DataSettings else {}, **{field: value})


def _said_by_settings(kind, field, value):
    several = "tuple" in kind.__annotations__[field]
    with pytest.raises(UsageError) as caught:
        _made(kind, field, (value,) if several else value)
    return caught.value.what
