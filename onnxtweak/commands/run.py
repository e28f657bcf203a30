"""How is a recipe run? Its tweaks are made or reused, their gates judged, and all files delivered.

Where a gate fails, the evidence is delivered and the models are not.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from onnxtweak._version import __version__
from onnxtweak.commands.compare import compare
from onnxtweak.commands.dry_run import module_of, open_job, plan_command, targets_of
from onnxtweak.errors import UsageError
from onnxtweak.plans import PlannedPass, RunPlan
from onnxtweak.recipe import ComparePlan, Recipe, TweakPlan, read_recipe
from onnxtweak.recipe.gates import judged
from onnxtweak.registry import METHODS
from onnxtweak.report import artefacts, schema
from onnxtweak.report.text import comparison, layout, runs
from onnxtweak.results import RunResult
from onnxtweak.settings import EngineSettings, OutputSettings
from onnxtweak.stages.open_job import Job, cache_key, file_ref, open_for_tables
from onnxtweak.stages.preprocessing_check import require_sound_base
from onnxtweak.stages.report_page import draw
from onnxtweak.stages.run_files import (
    SUMS,
    check_directory,
    deliver_files,
    empty_folder,
    file_names,
    models_in,
    staging_for,
)
from onnxtweak.types import FileRef, Progress, silent


def run(
    *,
    recipe: str,
    changes: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    directory: str | None = None,
    device: str | None = None,
    keep: bool = False,
    force: bool = False,
    progress: Progress = silent,
) -> RunResult:
    """Make every tweak of a recipe. No model is delivered where `RunResult.failed` names a gate.

    changes, environment, directory, device : overrides, see `onnxtweak.recipe.reading`. keep : deliver models
    even if a gate failed. force : replace files in the directory that no run wrote.

    Raises InputError for what cannot be used, VerificationError when a check fails; nothing is written then.
    """
    begin = time.perf_counter()
    read = read_recipe(recipe, changes=changes, environment=environment, directory=directory, device=device)
    target = Path(read.directory)
    check_directory(target, read, force)
    staging = staging_for(target)
    try:
        empty_folder(staging)
        results, cached = {}, []
        for tweak in read.tweaks:
            results[tweak.name], reused = _tweak(read, tweak, staging, progress)
            cached += [tweak.name] if reused else []
        if read.compare is not None and _comparison(read, read.compare, staging, progress):
            cached.append("compare")
        result = RunResult(file_ref(recipe), read.directory, results, tuple(cached), True, (), {})
        shipped = keep or not result.failed
        files = _write(read, replace(result, shipped=shipped), staging)
        deliver_files(staging, target, files)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    notes = () if shipped else ("a gate failed: no model was delivered; --keep delivers the models anyway",)
    seconds = {"all": time.perf_counter() - begin}
    return replace(result, shipped=shipped, files=files, seconds=seconds, notes=notes)


def _tweak(
    recipe: Recipe, tweak: TweakPlan, staging: Path, progress: Progress
) -> tuple[dict[str, Any], bool]:
    """The JSON document of one tweak, and whether an earlier run made it. Its models go to `staging`."""
    job = open_job(tweak.method, recipe.model, recipe.data, recipe.engine, tweak.taps, progress)
    mark = fingerprint(recipe, tweak.sha256, job)
    folder = Path(recipe.cache) / f"tweak-{mark}"
    cached = _cached_document(folder)
    if cached is not None:
        progress.reuse(tweak.name)
    document = _make(recipe, tweak, folder, progress) if cached is None else cached
    for file in models_in(folder):
        shutil.copyfile(file, staging / file.name.replace("tweak.", f"{tweak.name}.", 1))
    path = Path(recipe.directory) / f"{tweak.name}.onnx"
    output = {"path": str(path), "sha256": document["output"]["sha256"]}
    origin = {"path": recipe.path, "sha256": recipe.sha256, "tweak": tweak.name, "fingerprint": mark}
    document |= {"output": output, "gates": judged(recipe.gates, document), "recipe": origin}
    return document, cached is not None


def _make(recipe: Recipe, tweak: TweakPlan, folder: Path, progress: Progress) -> dict[str, Any]:
    """Make a tweak in a folder of the cache: model and tweak file first, the document last."""
    empty_folder(folder)
    targets = {"targets": tweak.targets} if METHODS[tweak.method].targeted else {}
    method = getattr(module_of(tweak.method), tweak.method)
    output = OutputSettings(
        str(folder / "tweak.onnx"), str(folder / "tweak.safetensors"), evidence=True, recipe=tweak.sha256
    )
    result = method(
        model=recipe.model,
        data=recipe.data,
        engine=_resuming(recipe),
        taps=tweak.taps,
        **targets,
        **tweak.options,
        output=output,
        progress=progress,
    )
    document: dict[str, Any] = json.loads(schema.dumps(schema.document(tweak.method, result)))
    (folder / "result.json").write_text(schema.dumps(document), encoding="utf-8")
    return document


def _cached_document(folder: Path) -> dict[str, Any] | None:
    """The document of a tweak that an earlier run made, if its model is unchanged."""
    try:
        document: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        unchanged = file_ref(folder / "tweak.onnx").sha256 == document["output"]["sha256"]
        return document if unchanged and (folder / "tweak.safetensors").is_file() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def fingerprint(recipe: Recipe, settings: str, job: Job) -> str:
    """32 hex digits that change with all that a result depends on: version, base, samples, settings, device.

    settings : their sha256.
    """
    return cache_key(
        {
            "onnxtweak": __version__,
            "base": job.opened.model.base_sha256,
            "samples": job.splits.digest,
            "names": list(job.names),
            "settings": settings,
            "device": [recipe.engine.device, recipe.engine.backend],
        }
    )


def _comparison(recipe: Recipe, plan: ComparePlan, staging: Path, progress: Progress) -> bool:
    """Write compare.json and compare.md into `staging`; whether an earlier run made them."""
    job = open_for_tables(recipe.model, recipe.data, recipe.engine, plan.taps, progress)
    folder = Path(recipe.cache) / f"compare-{fingerprint(recipe, plan.sha256, job)}"
    cached = (folder / "compare.json").is_file()
    if cached:
        progress.reuse("compare")
    else:
        result = compare(
            model=recipe.model,
            data=recipe.data,
            engine=_resuming(recipe),
            taps=plan.taps,
            targets=plan.targets,
            repeats=plan.repeats,
            methods=plan.methods,
            progress=progress,
        )
        empty_folder(folder)
        _put(folder / "compare.md", layout.markdown(comparison.comparison(result)))
        _put(folder / "compare.json", schema.dumps(schema.document("compare", result)))
    for file in folder.iterdir():
        shutil.copyfile(file, staging / file.name)
    return cached


def _resuming(recipe: Recipe) -> EngineSettings:
    """The recipe's engine settings, with scores and tables in the cache."""
    return replace(recipe.engine, work_dir=recipe.cache, resume=True)


def _write(recipe: Recipe, result: RunResult, staging: Path) -> tuple[FileRef, ...]:
    """Write all files of the run into `staging`; their names and digests."""
    if not result.shipped:
        for file in models_in(staging):
            file.unlink()
        for document in result.results.values():
            document["output"] = None
    for name, document in result.results.items():
        _put(staging / f"{name}.json", schema.dumps(document))
        (staging / f"{name}.html").write_bytes(draw(document, name))
    _put(staging / "metrics.json", artefacts.metrics(result.results))
    own = {"summary.md", "junit.xml", "provenance.json", SUMS}  # still to be written
    listed = tuple(FileRef(name, "") for name in sorted({path.name for path in staging.iterdir()} | own))
    _put(staging / "summary.md", layout.markdown(runs.ran(replace(result, files=listed))))
    _put(staging / "junit.xml", artefacts.junit(result.results))
    _put(staging / "provenance.json", _provenance(recipe, result, staging))
    files = tuple(FileRef(path.name, file_ref(path).sha256) for path in sorted(staging.iterdir()))
    _put(staging / SUMS, artefacts.sums([(file.path, file.sha256) for file in files]))
    return files


def _put(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="replace", newline="\n")


def _provenance(recipe: Recipe, result: RunResult, staging: Path) -> str:
    models = [(path.name, file_ref(path).sha256) for path in sorted(models_in(staging))]
    first = next(iter(result.results.values()))
    materials = {
        Path(recipe.model).name: first["model"]["sha256"],
        "samples": first["evidence"]["provenance"]["data_sha256"],
        Path(recipe.path).name: result.recipe.sha256,
        "recipe, as it was understood": recipe.sha256,
    }
    parameters = {
        "tweaks": [_tweak_parameters(tweak) for tweak in recipe.tweaks],
        "gates": {name: limit for name, limit in asdict(recipe.gates).items() if limit is not None},
        "seed": recipe.data.seed,
    }
    return artefacts.provenance(models, materials, schema.plain(parameters), __version__)


def _tweak_parameters(tweak: TweakPlan) -> dict[str, Any]:
    """A tweak of the recipe, with the method's own settings under the method's name, as recipes have them."""
    options = {
        tweak.method if keyword == "settings" else keyword: asdict(settings)
        for keyword, settings in tweak.options.items()
    }
    return {**asdict(tweak), "options": options}


def plan(
    *,
    recipe: str,
    changes: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    directory: str | None = None,
    device: str | None = None,
    progress: Progress = silent,
) -> RunPlan:
    """What `run` would do: model and samples are opened, and nothing is written.

    The passes of each tweak are planned as `forecast` plans those of a command.
    """
    read = read_recipe(recipe, changes=changes, environment=environment, directory=directory, device=device)
    check_directory(Path(read.directory), read, force=True)
    tweaks = []
    for tweak in read.tweaks:
        job = open_job(tweak.method, read.model, read.data, _resuming(read), tweak.taps, progress)
        tweaks.append(_planned(read, tweak, job))
    job = require_sound_base(job)  # of all tweaks alike
    return RunPlan(
        recipe=file_ref(recipe),
        model=job.model,
        samples=job.samples,
        classes=job.subject.classes,
        tweaks=tuple(tweaks),
        gates={name.replace("_", "-"): v for name, v in asdict(read.gates).items() if v is not None},
        directory=read.directory,
        files=file_names(read),
        notes=tuple(job.splits.notes),
    )


def _planned(recipe: Recipe, tweak: TweakPlan, job: Job) -> dict[str, Any]:
    """What a run would do for one tweak."""
    folder = Path(recipe.cache) / f"tweak-{fingerprint(recipe, tweak.sha256, job)}"
    cached = _cached_document(folder) is not None
    steps, targets = _steps(job, tweak, cached)
    return {
        "name": tweak.name,
        "method": tweak.method,
        "targets": targets,
        "neurons": job.neurons,
        "state_bytes": max((step.state_bytes for step in steps), default=0),
        "passes": sum(step.passes for step in steps),
        "seconds": sum(step.seconds for step in steps),
        "steps": steps,
        "cached": cached,
    }


def _steps(job: Job, tweak: TweakPlan, cached: bool) -> tuple[tuple[PlannedPass, ...], str]:
    """The passes of a tweak, none where an earlier run made it, and its targets in words."""
    try:
        if cached:
            return (), targets_of(job, tweak.targets)[0]
        planner, targets = plan_command(tweak.method, job, tweak.targets, tweak.taps, tweak.options)
    except UsageError as error:
        raise UsageError(error.what, where=f"tweak {tweak.name}", hint=error.hint) from error
    return tuple(planner.steps), targets
