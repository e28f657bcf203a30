"""What does `run` do? It carries out a recipe: tweaks made or reused, gates judged, files delivered together.

Where a gate fails, the evidence is delivered and the models are not.
"""

from __future__ import annotations

import hashlib
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
from onnxtweak.stages.open_job import Job, file_ref, open_for_tables
from onnxtweak.stages.report_page import draw
from onnxtweak.stages.run_files import (
    SUMS,
    check_directory,
    file_names,
    fresh,
    hand_over,
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
    although a gate failed. force : replace files in the directory that no run wrote.
    Raises InputError for what cannot be used, VerificationError when a proof fails; nothing is written then.
    """
    begin = time.perf_counter()
    asked = read_recipe(recipe, changes=changes, environment=environment, directory=directory, device=device)
    target = Path(asked.directory)
    check_directory(target, asked, force)
    staging = staging_for(target)
    try:
        fresh(staging)
        results, cached = {}, []
        for one in asked.tweaks:
            results[one.name], known = _make(asked, one, staging, progress)
            cached += [one.name] if known else []
        if asked.compare is not None:
            cached += ["compare"] if _compared(asked, asked.compare, staging, progress) else []
        ran = RunResult(file_ref(recipe), asked.directory, results, tuple(cached), True, (), {})
        shipped = keep or not ran.failed
        files = _write(asked, replace(ran, shipped=shipped), staging)
        hand_over(staging, target, files)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    notes = () if shipped else ("a gate failed: no model was delivered; --keep delivers it all the same",)
    seconds = {"all": time.perf_counter() - begin}
    return replace(ran, shipped=shipped, files=files, seconds=seconds, notes=notes)


# --------------------------------------------------------------------------------------- one tweak


def _make(asked: Recipe, plan: TweakPlan, staging: Path, progress: Progress) -> tuple[dict[str, Any], bool]:
    """The JSON document of one tweak, and whether it was reused from an earlier run."""
    job = _opened(asked, plan, progress)
    mark = fingerprint(asked, plan.sha256, job)
    kept = Path(asked.cache) / f"tweak-{mark}"
    found = _kept(kept)
    if found is not None:
        progress.reuse(plan.name)
    document = _made(asked, plan, kept, progress) if found is None else found
    for file in models_in(kept):
        shutil.copyfile(file, staging / file.name.replace("tweak.", f"{plan.name}.", 1))
    output = Path(asked.directory) / f"{plan.name}.onnx"
    document["output"] = {"path": str(output), "sha256": document["output"]["sha256"]}
    document["gates"] = judged(asked.gates, document)
    document["recipe"] = {"path": asked.path, "sha256": asked.sha256, "tweak": plan.name, "fingerprint": mark}
    return document, found is not None


def _made(asked: Recipe, plan: TweakPlan, kept: Path, progress: Progress) -> dict[str, Any]:
    """Make a tweak, and keep it for later runs: model and tweak file first, the document last."""
    fresh(kept)
    targeted = {"targets": plan.targets} if METHODS[plan.method].targeted else {}
    job = getattr(module_of(plan.method), plan.method)
    result = job(
        model=asked.model,
        data=asked.data,
        engine=replace(asked.engine, work_dir=asked.cache, resume=True),
        taps=plan.taps,
        **targeted,
        **plan.options,
        output=OutputSettings(
            str(kept / "tweak.onnx"), str(kept / "tweak.safetensors"), evidence=True, recipe=plan.sha256
        ),
        progress=progress,
    )
    document: dict[str, Any] = json.loads(schema.dumps(schema.document(plan.method, result)))
    (kept / "result.json").write_text(schema.dumps(document), encoding="utf-8")
    return document


def _kept(folder: Path) -> dict[str, Any] | None:
    """The document of a tweak that an earlier run made, if its model is unchanged."""
    try:
        document: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        whole = file_ref(folder / "tweak.onnx").sha256 == document["output"]["sha256"]
        return document if whole and (folder / "tweak.safetensors").is_file() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def fingerprint(asked: Recipe, shaping: str, job: Job) -> str:
    """32 hex digits that change whenever a result could: with version, base, samples, settings, device.

    shaping : sha256 of the settings.
    """
    asking = {
        "onnxtweak": __version__,
        "base": job.opened.model.base_sha256,
        "samples": job.splits.digest,
        "names": list(job.names),
        "settings": shaping,
        "device": [asked.engine.device, asked.engine.backend],
    }
    return hashlib.sha256(json.dumps(asking, sort_keys=True).encode()).hexdigest()[:32]


def _compared(asked: Recipe, plan: ComparePlan, staging: Path, progress: Progress) -> bool:
    """Write compare.json and compare.md into `staging`; whether they were reused from an earlier run."""
    job = open_for_tables(asked.model, asked.data, asked.engine, plan.taps, progress)
    kept = Path(asked.cache) / f"compare-{fingerprint(asked, plan.sha256, job)}"
    known = (kept / "compare.json").is_file()
    if known:
        progress.reuse("compare")
    else:
        made = compare(
            model=asked.model,
            data=asked.data,
            engine=replace(asked.engine, work_dir=asked.cache, resume=True),
            taps=plan.taps,
            targets=plan.targets,
            repeats=plan.repeats,
            methods=plan.methods,
            progress=progress,
        )
        fresh(kept)
        _put(kept / "compare.md", layout.markdown(comparison.comparison(made)))
        _put(kept / "compare.json", schema.dumps(schema.document("compare", made)))
    for file in kept.iterdir():
        shutil.copyfile(file, staging / file.name)
    return known


def _opened(asked: Recipe, plan: TweakPlan, progress: Progress, engine: EngineSettings | None = None) -> Job:
    return open_job(plan.method, asked.model, asked.data, engine or asked.engine, plan.taps, progress)


# ----------------------------------------------------------------------------------------- writing


def _write(asked: Recipe, ran: RunResult, staging: Path) -> tuple[FileRef, ...]:
    """Write all files of the run into `staging`; their names and digests."""
    if not ran.shipped:
        for file in models_in(staging):
            file.unlink()
        for document in ran.results.values():
            document["output"] = None
    for name, document in ran.results.items():
        _put(staging / f"{name}.json", schema.dumps(document))
        (staging / f"{name}.html").write_bytes(draw(document, name))
    _put(staging / "metrics.json", artefacts.metrics(ran.results))
    _put(staging / "summary.md", layout.markdown(runs.ran(replace(ran, files=()))))
    _put(staging / "junit.xml", artefacts.junit(ran.results))
    _put(staging / "provenance.json", _provenance(asked, ran, staging))
    files = tuple(FileRef(path.name, file_ref(path).sha256) for path in sorted(staging.iterdir()))
    _put(staging / SUMS, artefacts.sums([(file.path, file.sha256) for file in files]))
    return files


def _put(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="replace", newline="\n")


def _provenance(asked: Recipe, ran: RunResult, staging: Path) -> str:
    made = [(path.name, file_ref(path).sha256) for path in sorted(models_in(staging))]
    first = next(iter(ran.results.values()))
    materials = {
        Path(asked.model).name: first["model"]["sha256"],
        "samples": first["evidence"]["provenance"]["data_sha256"],
        Path(asked.path).name: ran.recipe.sha256,
        "recipe, as it was understood": asked.sha256,
    }
    wanted = {
        "tweaks": [_plan_document(plan) for plan in asked.tweaks],
        "gates": {name: limit for name, limit in asdict(asked.gates).items() if limit is not None},
        "seed": asked.data.seed,
    }
    return artefacts.provenance(made, materials, schema.plain(wanted), __version__)


def _plan_document(plan: TweakPlan) -> dict[str, Any]:
    """A plan with its method's own settings under the name of the method, which is what readers know."""
    options = {
        plan.method if keyword == "settings" else keyword: asdict(settings)
        for keyword, settings in plan.options.items()
    }
    return {**asdict(plan), "options": options}


# ------------------------------------------------------------------------------------------ dry run


def plan(
    *,
    recipe: str,
    changes: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    directory: str | None = None,
    device: str | None = None,
    progress: Progress = silent,
) -> RunPlan:
    """What `run` would do: model and samples are opened and matched to each other; nothing is written.

    The passes of each tweak are planned as `forecast` plans those of its command.
    """
    asked = read_recipe(recipe, changes=changes, environment=environment, directory=directory, device=device)
    check_directory(Path(asked.directory), asked, force=True)
    tweaks = []
    for one in asked.tweaks:
        job = _opened(asked, one, progress, replace(asked.engine, work_dir=asked.cache, resume=True))
        kept = Path(asked.cache) / f"tweak-{fingerprint(asked, one.sha256, job)}"
        cached = _kept(kept) is not None
        steps, targets = _steps(job, one, cached)
        tweaks.append(
            {
                "name": one.name,
                "method": one.method,
                "targets": targets,
                "neurons": sum(tap.neurons for tap in job.taps),
                "state_bytes": max((step.state_bytes for step in steps), default=0),
                "passes": sum(step.passes for step in steps),
                "seconds": sum(step.seconds for step in steps),
                "steps": steps,
                "cached": cached,
            }
        )
    return RunPlan(
        recipe=file_ref(recipe),
        model=job.model,
        samples={role: 0 if view is None else len(view) for role, view in _roles(job).items()},
        classes=job.subject.classes,
        tweaks=tuple(tweaks),
        gates={k.replace("_", "-"): v for k, v in asdict(asked.gates).items() if v is not None},
        directory=asked.directory,
        files=file_names(asked),
        notes=tuple(job.splits.notes),
    )


def _roles(job: Job) -> dict[str, Any]:
    return {"fit": job.splits.fit, "validation": job.splits.validation, "test": job.splits.test}


def _steps(job: Job, plan: TweakPlan, cached: bool) -> tuple[tuple[PlannedPass, ...], str]:
    """The passes of a tweak, none where an earlier run made it, and its targets in words."""
    try:
        if cached:
            return (), targets_of(job, plan.targets)[0]
        planner, targets = plan_command(plan.method, job, plan.targets, plan.taps, plan.options)
    except UsageError as error:
        raise UsageError(error.what, where=f"tweak {plan.name}", hint=error.hint) from error
    return tuple(planner.steps), targets
