"""How does a recipe start? `init` writes a commented one, after opening model and data together."""

from __future__ import annotations

import os
from pathlib import Path

from onnxtweak.goal import find_targets
from onnxtweak.model.file.output_file import write_atomic
from onnxtweak.model.file.output_paths import check_output
from onnxtweak.recipe.template import template
from onnxtweak.results import RecipeWritten
from onnxtweak.settings import DataSettings, EngineSettings, OutputSettings, TapSettings, TargetSettings
from onnxtweak.stages.check_paths import check_paths, files_named
from onnxtweak.stages.open_for_tables import open_for_tables
from onnxtweak.stages.open_job import file_ref
from onnxtweak.stages.preprocessing_check import require_sound_base
from onnxtweak.types import Progress, silent


def init(
    *,
    model: str,
    data: DataSettings,
    targets: TargetSettings = TargetSettings(),
    output: OutputSettings = OutputSettings("tweak.toml"),
    progress: Progress = silent,
) -> RecipeWritten:
    """Write a recipe that `run` accepts as it is. Raises InputError for what cannot be used."""
    check_paths(output, model, data)
    job = open_for_tables(model, data, EngineSettings(device="cpu"), TapSettings(taps=()), progress)
    protect = [*job.opened.model.files, *job.files_read, *files_named(data)]
    check_output(output.path, force=output.force, protect=protect)
    job = require_sound_base(job)
    named: list[str] = []
    if targets.targets:
        found = find_targets(targets, job.names, job.splits.fit.labels, job.splits.validation.labels, None)
        named = [job.names[j] for j in found]
    folder = Path(output.path).absolute().parent
    text = template(
        model=_beside(model, folder),
        data={
            **{
                role: [_beside(str(source), folder) for source in sources]
                for role, sources in (("data", data.data), ("val", data.val), ("test", data.test))
            },
            "names": _beside(data.names, folder) if isinstance(data.names, str) else data.names,
            "seed": data.seed or None,
            "anyway": data.anyway or None,
            "inputs": dict(data.inputs) or None,
        },
        preprocess=job.origin.data.preprocess,
        targets=named,
        classes=job.names,
        samples=job.samples,
        taps=[(tap.name, tap.neurons) for tap in job.taps],
    )
    write_atomic(output.path, [text.encode("utf-8", "replace")], force=output.force, protect=protect)
    return RecipeWritten(
        file_ref(output.path), job.model, job.samples, job.subject.classes, tuple(job.splits.notes)
    )


def _beside(path: str, folder: Path) -> str:
    """A path, or a source such as `x.npz#train[:100]`, as seen from `folder`."""
    if os.path.isabs(path):
        return path
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return str(Path(path).absolute())
