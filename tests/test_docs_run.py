"""The commands on the pages work: those whose model lies in `models/` are carried out, page by page."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
from pathlib import Path

import pytest

from onnxtweak.cli.main import main

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Commands that need no model of the reader's.
FREE = {"demo", "doctor", "completion"}


def commands(page: Path) -> list[list[str]]:
    """Every `onnxtweak` line of the page's shell blocks, as words."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in re.findall(r"^onnxtweak (.+)$", block, re.MULTILINE)]
    return [shlex.split(re.sub(r"\s#\s.*", "", line)) for line in lines]


def can_run(words: list[str]) -> bool:
    """Whether everything that the command reads is there, from `models/` or from a command above it."""
    if words[0] in FREE:
        return True
    read = [word for word in words[1:2] if not word.startswith("-")]
    read += [words[k + 1] for k, word in enumerate(words) if word in ("-d", "--data", "--test", "--base")]
    return bool(read) and all(Path(word.partition("#")[0]).exists() for word in read)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_on_the_pages_work(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "models", tmp_path / "models")
    for words in commands(page):
        if not can_run(words):
            continue
        words, into = (
            (words[: words.index(">")], words[words.index(">") + 1]) if ">" in words else (words, None)
        )
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(words)
        assert code == 0, f"onnxtweak {shlex.join(words)}\n{err.getvalue()}"
        if into is not None:
            Path(into).write_text(out.getvalue(), encoding="utf-8")


def test_the_pages_show_commands_that_can_be_tried():
    tried = {
        page.name
        for page in PAGES
        if any(word.startswith("models/digits") for words in commands(page) for word in words)
    }
    assert {"quickstart.md", "ci.md", "deployed-model.md", "per-customer.md"} <= tried


def test_the_python_on_the_quickstart_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "models", tmp_path / "models")
    text = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(block, "quickstart.md", "exec"), {})
    before, after = re.fullmatch(r"([0-9.]+) -> ([0-9.]+)\n", capsys.readouterr().out).groups()
    assert float(after) > float(before)
