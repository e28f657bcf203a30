"""What does a recipe's file say? Its tables become settings; what overrides them comes first."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from onnxtweak.errors import UsageError
from onnxtweak.in_memory import SampleSource
from onnxtweak.input_files import MOST_TEXT, read_text, require_regular, within_reach
from onnxtweak.recipe.goal_table import GOAL, with_goal
from onnxtweak.recipe.overrides import override
from onnxtweak.recipe.plan import GATES, ComparePlan, Gates, Recipe, TweakPlan
from onnxtweak.recipe.values import check_keys, did_you_mean, keys_of, settings_from
from onnxtweak.registry import METHODS
from onnxtweak.settings import (
    LISTED,
    NOTHING,
    DataSettings,
    EngineSettings,
    Preprocess,
    TapSettings,
    TargetSettings,
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Files of a run that belong to no single tweak: names that no tweak may have.
_TAKEN = {"metrics", "provenance", "summary", "junit", "compare"}

# `run` keeps its work under [output] cache, and always continues from there.
_OF_RUNS = {"work-dir", "resume", "shard"}
_DATA = [key for key in keys_of(DataSettings) if key not in ("preprocess", "by", "unlabelled", "boxes")]
_MODEL = ("logits", "threshold", "class-axis")
_TABLES = {
    "model": ["path", *_MODEL],
    "data": _DATA,
    "goal": list(GOAL),
    "preprocess": list(keys_of(Preprocess)),
    "engine": [key for key in keys_of(EngineSettings) if key not in _OF_RUNS],
    "gates": list(GATES),
    "output": ["directory", "cache"],
    "compare": ["taps", "pool", "target", "worst", "methods", "metric", "repeats"],
}


def read_recipe(
    path: str,
    *,
    changes: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    directory: str | None = None,
    device: str | None = None,
) -> Recipe:
    """The recipe in a file, with its overrides.

    changes : `key=value`, such as `engine.device=cpu`, `gates.max-E=1` or `tweak.NAME.count=[1, 10]`.
    environment : variables such as ONNXTWEAK_ENGINE_DEVICE. directory, device : options, which win.
    Raises UsageError, naming table and key, for whatever is missing, unknown or of the wrong type.
    """
    document = _parsed(path)
    _check_tables(document, path)
    override(document, _TABLES, environment or {}, changes)
    if device is not None:
        document.setdefault("engine", {})["device"] = device
    _check_tables(document, path)
    for table, known in _TABLES.items():
        check_keys(document.get(table, {}), known, _at(path, table))
    document = with_goal(document, _at(path, "goal"))
    folder = Path(path).parent
    data = _data(document, path, folder)
    tweaks = _tweaks(document, path)
    output = document.get("output", {})
    return Recipe(
        path=path,
        sha256=_sha256({**_shared(document), "tweak": document["tweak"], "gates": document.get("gates", {})}),
        model=str(folder / _required(document, "model", "path", path)),
        data=data,
        engine=settings_from(EngineSettings, document.get("engine", {}), _at(path, "engine")),
        tweaks=tweaks,
        gates=_gates(document, path),
        directory=directory if directory is not None else str(folder / str(output.get("directory", "build"))),
        cache=str(folder / str(output.get("cache", ".onnxtweak"))),
        compare=_compare(document, path),
    )


def _parsed(path: str) -> dict[str, Any]:
    with within_reach(UsageError):
        if Path(path).exists():
            require_regular(path, UsageError, MOST_TEXT)
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        hint = "`onnxtweak init MODEL -d DATA` writes one"
        raise UsageError(f"cannot read the recipe: {error.strerror}", where=path, hint=hint) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"invalid TOML: {error}", where=path, hint="fix that line") from error


def _check_tables(document: dict[str, Any], path: str) -> None:
    check_keys(document, [*_TABLES, "tweak"], path)
    for table in _TABLES:
        if not isinstance(document.get(table, {}), dict):
            raise UsageError(f"`{table}` is not a table", where=path, hint=f"write [{table}] on its own line")


def _at(path: str, table: str) -> str:
    return f"{path} [{table}]"


def _required(document: dict[str, Any], table: str, key: str, path: str) -> str:
    value = document.get(table, {}).get(key)
    if not isinstance(value, str) or not value:
        hint = f'write {key} = "..." under [{table}]'
        raise UsageError(f"`{key}` is missing or not text", where=_at(path, table), hint=hint)
    return value


def _data(document: dict[str, Any], path: str, folder: Path) -> DataSettings:
    where, table = _at(path, "data"), document.get("data", {})
    preprocess = settings_from(Preprocess, document.get("preprocess", {}), _at(path, "preprocess"))
    data = settings_from(DataSettings, table, where, preprocess=preprocess)
    if not data.data and not data.must:
        what = "`data` is empty" if "data" in table else "`data` is missing"
        raise UsageError(what, where=where, hint='write data = ["samples.npz"] under [data]')

    def placed(sources: tuple[SampleSource, ...]) -> tuple[str, ...]:
        return tuple(str(folder / str(source)) for source in sources)

    files = (str(folder / file) if isinstance(file, str) else file for file in (data.names, data.alphabet))
    return replace(
        data,
        data=placed(data.data),
        val=placed(data.val),
        test=placed(data.test),
        must=placed(data.must),
        lock=placed(data.lock),
        keep=placed(data.keep) if data.sources("keep") else data.keep,
        names=next(files),
        alphabet=next(files),
    )


def _tweaks(document: dict[str, Any], path: str) -> tuple[TweakPlan, ...]:
    tables = document.get("tweak", [])
    if not isinstance(tables, list) or not tables or not all(isinstance(t, dict) for t in tables):
        hint = 'write [[tweak]] with name = "..." and target = ["..."]'
        raise UsageError("missing [[tweak]]", where=path, hint=hint)
    model, shared = _model(document), _shared(document)
    _check_listed(document, tables, path)
    tweaks = tuple(_tweak(table, path, number, model, shared) for number, table in enumerate(tables, 1))
    names = [tweak.name.lower() for tweak in tweaks]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two tweaks are named `{name}`", where=path, hint="give each its own name")
    return tweaks


def _model(document: dict[str, Any]) -> dict[str, Any]:
    """What [model] says about how the model is read."""
    table = document.get("model", {})
    return {key: table[key] for key in _MODEL if key in table}


def _tweak(
    table: dict[str, Any], path: str, number: int, model: dict[str, Any], shared: dict[str, Any]
) -> TweakPlan:
    name = table.get("name")
    where = f"{path} [[tweak]] {name if isinstance(name, str) else number}"
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.lower() in _TAKEN:
        hint = 'write name = "cats": letters, digits, dots, dashes and underscores'
        raise UsageError("a tweak needs a name that its files can be named after", where=where, hint=hint)
    method = table.get("method", "join")
    if method not in METHODS:
        hint = did_you_mean(str(method), tuple(METHODS)) or f"known: {', '.join(METHODS)}"
        raise UsageError(f"unknown method {method!r}", where=where, hint=hint)
    others = dict(METHODS[method].settings)
    own = others.pop("settings")
    target_keys = list(keys_of(TargetSettings)) if METHODS[method].targeted else []
    check_keys(table, ["name", "method", "taps", "pool", *target_keys, *keys_of(own), *others], where)
    placed, costs = _placed_costs(table, Path(path).parent)
    placed = _files_placed(placed, METHODS[method].files, where, Path(path).parent)
    options: dict[str, Any] = {"settings": settings_from(own, placed, where)}
    for key, kind in others.items():
        inner, there = table.get(key, {}), f"{where} [tweak.{key}]"
        if not isinstance(inner, dict):
            raise UsageError(
                f"`{key}` is not a table", where=where, hint=f"write [tweak.{key}] on its own line"
            )
        check_keys(inner, keys_of(kind), there)
        options[key] = settings_from(kind, inner, there)
    taps = settings_from(TapSettings, {"taps": list(METHODS[method].taps), **table, **model}, where)
    unsaid = ("name", *METHODS[method].files)  # files count by their contents
    shaping = {**shared, "tweak": {key: value for key, value in table.items() if key not in unsaid}} | costs
    targets = settings_from(TargetSettings, table, where) if target_keys else TargetSettings()
    plan = TweakPlan(name, _sha256(shaping), method, taps, targets, options)
    _check_targets(plan, where)
    return plan


def _placed_costs(table: dict[str, Any], folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The table with the costs of its metric beside the recipe, and what these hold, for the digest."""
    word, sign, name = str(table.get("metric", "")).partition("cost:")
    if word or not sign or not name:
        return table, {}
    costs = str(folder / name)
    return {**table, "metric": f"cost:{costs}"}, {"costs": read_text(costs, UsageError)}


def _files_placed(table: dict[str, Any], files: tuple[str, ...], where: str, folder: Path) -> dict[str, Any]:
    """The table with the files that a method reads, relative to the recipe's folder."""
    for key in files:
        if not isinstance(table.get(key), str) or not table[key]:
            hint = f'write {key} = "FILE.onnx"'
            raise UsageError(f"`{key}` is missing or not text", where=where, hint=hint)
    return {**table, **{key: str(folder / table[key]) for key in files}}


def _check_targets(plan: TweakPlan, where: str) -> None:
    _check_one_of_two(plan.targets, where)
    method = METHODS[plan.method]
    scheduled = getattr(plan.options["settings"], "schedule", None) is not None
    if method.targeted and not method.for_all and plan.targets == TargetSettings() and not scheduled:
        hint = 'write target = ["..."], or worst = 3'
        raise UsageError("no target class", where=where, hint=hint)


def _check_listed(document: dict[str, Any], tables: list[dict[str, Any]], path: str) -> None:
    """Raise UsageError for listed samples beside a method that would not heed them."""
    data = document.get("data", {})
    given = [key for key in LISTED if data.get(key) and data[key] not in (*NOTHING, [*NOTHING])]
    others = [str(table.get("method", "join")) for table in tables if table.get("method") != "fit"]
    others += ["compare"] if "compare" in document and not data.get("data") else []
    if given and others:
        where = f"{_at(path, 'data')} {given[0]}"
        hint = "only `fit` does: give other methods their own recipe"
        raise UsageError(f"`{others[0]}` takes no listed samples", where=where, hint=hint)


def _check_one_of_two(targets: TargetSettings, where: str) -> None:
    if targets.targets and targets.worst is not None:
        raise UsageError("`target` and `worst` exclude each other", where=where, hint="keep one of the two")


def _compare(document: dict[str, Any], path: str) -> ComparePlan | None:
    if "compare" not in document:
        return None
    table, where = document["compare"], _at(path, "compare")
    targets = settings_from(TargetSettings, table, where)
    _check_one_of_two(targets, where)
    taps = settings_from(TapSettings, {"taps": [], **table, **_model(document)}, where)
    placed, costs = _placed_costs(table, Path(path).parent)
    sha256 = _sha256({**_shared(document), "compare": table} | costs)
    return settings_from(ComparePlan, placed, where, sha256=sha256, taps=taps, targets=targets)


def _gates(document: dict[str, Any], path: str) -> Gates:
    gates = settings_from(Gates, document.get("gates", {}), _at(path, "gates"))
    data = document.get("data", {})
    on_any_split = replace(gates, refuse_copy=Gates.refuse_copy, max_not_kept=Gates.max_not_kept)
    if on_any_split != Gates() and data.get("val") and not data.get("test"):
        raise UsageError(
            "gates are judged on test samples, but there are none",
            where=_at(path, "gates"),
            hint="give `test` under [data], or leave out `val` so that both are split off",
        )
    return gates


def _shared(document: dict[str, Any]) -> dict[str, Any]:
    """What shapes every tweak. Files count by their contents, which are hashed elsewhere."""
    data = document.get("data", {})
    return {
        "logits": document.get("model", {}).get("logits"),
        **{key: value for key, value in _model(document).items() if key != "logits"},
        "seed": document.get("data", {}).get("seed"),
        **({"inputs": inputs} if (inputs := document.get("data", {}).get("inputs")) else {}),
        **{key: data[key] for key in ("group", "head", "ignore-index", "counted") if key in data},
        "preprocess": document.get("preprocess", {}),
        # What was learnt anyway is not reused by a recipe that forbids it.
        **({"anyway": True} if data.get("anyway") else {}),
    }


def _sha256(shaping: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(shaping, sort_keys=True, default=str).encode()).hexdigest()
