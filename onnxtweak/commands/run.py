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
from onnxtweak.disk_space import writing
from onnxtweak.errors import UsageError
from onnxtweak.model.file.model_file import read_model
from onnxtweak.model.file.output_paths import check_distinct
from onnxtweak.plans import PlannedPass, RunPlan
from onnxtweak.recipe import ComparePlan, Recipe, TweakPlan, read_recipe
from onnxtweak.recipe.gates import judged
from onnxtweak.registry import METHODS
from onnxtweak.report import artefacts, schema
from onnxtweak.report.text import comparison, layout, runs
from onnxtweak.results import RunResult
from onnxtweak.settings import DataSettings, EngineSettings, FitSettings, OutputSettings
from onnxtweak.stages.check_paths import costs_named, files_named
from onnxtweak.stages.choose_goal import with_slice_read
from onnxtweak.stages.open_for_tables import open_for_tables
from onnxtweak.stages.open_job import Job, cache_key, file_ref
from onnxtweak.stages.preprocessing_check import require_sound_base
from onnxtweak.stages.report_page import draw
from onnxtweak.stages.run_files import (
    SUMS,
    check_directory,
    deliver_files,
    fetch,
    file_names,
    files_in,
    hidden_folder,
    is_whole,
    keep_for_later,
    models_in,
)
from onnxtweak.types import FileRef, Progress, silent

# The files of a tweak in the cache, beside external weights of its base.
_DOCUMENT, _OWN_FILES = "result.json", ("tweak.onnx", "tweak.safetensors")


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
    target, used = Path(read.directory), _files_read(read)
    check_directory(target, file_names(read), used, force)
    check_distinct([read.cache, read.directory])
    with hidden_folder(target.absolute().parent) as staging:
        results, cached = {}, []
        for tweak in read.tweaks:
            results[tweak.name], reused = _tweak(read, tweak, staging, progress)
            cached += [tweak.name] if reused else []
        if read.compare is not None and _comparison(read, read.compare, staging, progress):
            cached.append("compare")
        result = RunResult(file_ref(recipe), read.directory, results, tuple(cached), True, (), {})
        shipped = keep or not result.failed
        with writing(target, "what the run made"):
            files = _write(read, replace(result, shipped=shipped), staging)
        deliver_files(staging, target, [*(file.path for file in files), SUMS], used, force)
    notes = () if shipped else ("a gate failed: no model was delivered; --keep delivers the models anyway",)
    seconds = {"all": time.perf_counter() - begin}
    return replace(result, shipped=shipped, files=files, seconds=seconds, notes=notes)


def _tweak(
    recipe: Recipe, tweak: TweakPlan, staging: Path, progress: Progress
) -> tuple[dict[str, Any], bool]:
    """The JSON document of one tweak, and whether an earlier run made it. Its models go to `staging`."""
    data = _samples_of(recipe, tweak)
    job = open_job(tweak.method, recipe.model, data, recipe.engine, tweak.taps, progress)
    mark = _fingerprint(recipe, tweak, job)
    folder = Path(recipe.cache) / f"tweak-{mark}"
    with hidden_folder(folder.parent) as own, writing(folder.parent, "the cache"):
        reused = fetch(folder, own)
        if reused:
            progress.reuse(tweak.name)
        else:
            if folder.exists():
                progress.remake(tweak.name)
            _make(recipe, tweak, own, folder, progress)
        document = json.loads((own / _DOCUMENT).read_text(encoding="utf-8"))
        for name in models_in(own):
            ending = name.removeprefix("tweak.") if name in _OWN_FILES else ""
            copy = staging / (f"{tweak.name}.{ending}" if ending else name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(own / name, copy)
        if not reused:
            keep_for_later(own, folder)
    path = Path(recipe.directory) / f"{tweak.name}.onnx"
    output = {"path": str(path), "sha256": document["output"]["sha256"]}
    origin = {"path": recipe.path, "sha256": recipe.sha256, "tweak": tweak.name, "fingerprint": mark}
    document |= {"output": output, "gates": judged(recipe.gates, document), "recipe": origin}
    return document, reused


def _samples_of(recipe: Recipe, tweak: TweakPlan) -> DataSettings:
    """The recipe's samples, with the column that the tweak's slice is by: another one makes another tweak."""
    settings = tweak.options["settings"]
    if not isinstance(settings, FitSettings):
        return recipe.data
    return with_slice_read(recipe.data, settings, tweak.targets)


def _make(recipe: Recipe, tweak: TweakPlan, own: Path, folder: Path, progress: Progress) -> None:
    """Make a tweak in a folder of this process, as it will lie in `folder` of the cache."""
    targets = {"targets": tweak.targets} if METHODS[tweak.method].targeted else {}
    method = getattr(module_of(tweak.method), tweak.method)
    output = OutputSettings(
        str(own / "tweak.onnx"), str(own / "tweak.safetensors"), evidence=True, recipe=tweak.sha256
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
    text = schema.dumps(schema.document(tweak.method, result))
    _put(own / _DOCUMENT, text.replace(own.name, folder.name))


def _fingerprint(recipe: Recipe, tweak: TweakPlan, job: Job) -> str:
    """`fingerprint` of a tweak."""
    return fingerprint(recipe, tweak.sha256, job, [read_model(path).sha256 for path in tweak.files])


def fingerprint(recipe: Recipe, settings: str, job: Job, others: Sequence[str] = ()) -> str:
    """32 hex digits that change with all that a result depends on: version, base, samples, settings, device,
    and with what a result says.

    settings : their sha256. others : that of other models which are read.
    """
    return cache_key(
        {
            "onnxtweak": __version__,
            "base": job.opened.model.base_sha256,
            "samples": job.splits.digest,
            "names": list(job.names),
            "settings": settings,
            **({"others": list(others)} if others else {}),
            "device": [recipe.engine.device, recipe.engine.backend],
            "result": list(schema.RESULT_KEYS),
        }
    )


def _comparison(recipe: Recipe, plan: ComparePlan, staging: Path, progress: Progress) -> bool:
    """Write compare.json and compare.md into `staging`; whether an earlier run made them."""
    job = open_for_tables(recipe.model, recipe.data, recipe.engine, plan.taps, progress)
    folder = Path(recipe.cache) / f"compare-{fingerprint(recipe, plan.sha256, job)}"
    with hidden_folder(folder.parent) as own, writing(folder.parent, "the cache"):
        reused = fetch(folder, own)
        if reused:
            progress.reuse("compare")
        else:
            if folder.exists():
                progress.remake("compare")
            result = compare(
                model=recipe.model,
                data=recipe.data,
                engine=_resuming(recipe),
                taps=plan.taps,
                targets=plan.targets,
                settings=FitSettings(metric=plan.metric),
                repeats=plan.repeats,
                methods=plan.methods,
                progress=progress,
            )
            _put(own / "compare.md", layout.markdown(comparison.comparison(result)))
            _put(own / "compare.json", schema.dumps(schema.document("compare", result)))
        for name in files_in(own):
            shutil.copyfile(own / name, staging / name)
        if not reused:
            keep_for_later(own, folder)
    return reused


def _files_read(recipe: Recipe) -> list[str | Path]:
    """What a run reads, and must never replace."""
    models = [recipe.model, *(path for tweak in recipe.tweaks for path in tweak.files)]
    files = [file for path in models for file in read_model(path).files]
    asked = [getattr(tweak.options["settings"], "metric", None) for tweak in recipe.tweaks]
    asked += [] if recipe.compare is None else [recipe.compare.metric]
    costs = [path for metric in asked for path in costs_named(metric)]
    return [recipe.path, *files, *files_named(recipe.data, recipe.engine), *costs]


def _resuming(recipe: Recipe) -> EngineSettings:
    """The recipe's engine settings, with scores and tables in the cache."""
    return replace(recipe.engine, work_dir=recipe.cache, resume=True)


def _write(recipe: Recipe, result: RunResult, staging: Path) -> tuple[FileRef, ...]:
    """Write all files of the run into `staging`; their names and digests."""
    if not result.shipped:
        for name in models_in(staging):
            (staging / name).unlink()
        for document in result.results.values():
            document["output"] = None
    for name, document in result.results.items():
        _put(staging / f"{name}.json", schema.dumps(document))
        (staging / f"{name}.html").write_bytes(draw([(name, document)]))
    _put(staging / "metrics.json", artefacts.metrics(result.results))
    own = {"summary.md", "junit.xml", "provenance.json", SUMS}  # still to be written
    listed = tuple(FileRef(name, "") for name in sorted({*files_in(staging), *own}))
    _put(staging / "summary.md", layout.markdown(runs.ran(replace(result, files=listed))))
    _put(staging / "junit.xml", artefacts.junit(result.results))
    _put(staging / "provenance.json", _provenance(recipe, result, staging))
    files = tuple(FileRef(name, file_ref(staging / name).sha256) for name in files_in(staging))
    _put(staging / SUMS, artefacts.sums([(file.path, file.sha256) for file in files]))
    return files


def _put(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="replace", newline="\n")


def _provenance(recipe: Recipe, result: RunResult, staging: Path) -> str:
    models = [(name, file_ref(staging / name).sha256) for name in models_in(staging)]
    first = next(iter(result.results.values()))
    materials = {
        Path(recipe.model).name: first["model"]["sha256"],
        **{Path(path).name: file_ref(path).sha256 for tweak in recipe.tweaks for path in tweak.files},
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
    check_directory(Path(read.directory), file_names(read), _files_read(read), force=True)
    tweaks = []
    for tweak in read.tweaks:
        data = _samples_of(read, tweak)
        job = open_job(tweak.method, read.model, data, _resuming(read), tweak.taps, progress)
        tweaks.append(_planned(read, tweak, job))
    job = require_sound_base(job)  # of all tweaks alike
    return RunPlan(
        recipe=file_ref(recipe),
        model=job.model,
        samples=job.samples,
        classes=job.subject.classes,
        tweaks=tuple(tweaks),
        gates=read.gates.limits,
        directory=read.directory,
        files=file_names(read),
        notes=tuple(job.splits.notes),
    )


def _planned(recipe: Recipe, tweak: TweakPlan, job: Job) -> dict[str, Any]:
    """What a run would do for one tweak."""
    folder = Path(recipe.cache) / f"tweak-{_fingerprint(recipe, tweak, job)}"
    cached = is_whole(folder)
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
