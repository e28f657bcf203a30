"""Do the commands in the documentation work? All are run, page by page, in a reader's folder.

What they write has to be there, and be what it is called: models that run, checks that pass, the base again.

The first pages learn as a reader does, the others with three folds and hidden layers trained for a moment.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from onnxtweak.cli.main import main
from tests.support.coarse_searches import coarse_searches
from tests.support.docs_files import write_docs_files
from tests.support.few_folds import three_folds
from tests.support.plain_session import plain_session
from tests.support.short_trainings import short_trainings

ROOT = Path(__file__).resolve().parents[1]
FIRST = ("README.md", "quickstart.md")
# A gate may fail on the samples at hand: the command still did its work.
GATE_FAILED = 1
# What commands on the models that the repository ships say, whoever runs them: figures of their card.
SHOWN = {
    "evaluate models/digits_cnn3.onnx": r"^overall +500 +92\.4",
    "inspect models/digits_cnn3.onnx": r"^input +image +float32 ",
}


def commands(page: Path) -> list[list[str]]:
    """Every `onnxtweak` line of the page's shell blocks, as words."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in re.findall(r"^onnxtweak (.+)$", block, re.MULTILINE)]
    # Of a comparison that is to be repeated, two repeats show what five do.
    lines = [line.replace("--repeats 5", "--repeats 2") for line in lines]
    return [shlex.split(re.sub(r"\s#\s.*", "", line)) for line in lines]


PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if commands(page)]


@pytest.fixture(scope="module")
def furnished(tmp_path_factory) -> Path:
    """A reader's folder: `models/`, of whose samples half are learnt from, and the reader's own files."""
    pytest.importorskip("pyarrow", reason="a page reads Parquet; install the extra `parquet`")
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(ROOT / "models", folder / "models")
    with np.load(ROOT / "models" / "digits.npz") as digits:
        learnt = {name: digits[name][:300] for name in ("x_fit", "y_fit")}
        np.savez(folder / "models" / "digits.npz", **{**digits, **learnt})
    write_docs_files(folder)
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_on_the_pages_work(page, furnished, tmp_path, monkeypatch):
    folder = tmp_path / "reader"
    shutil.copytree(furnished, folder)
    monkeypatch.chdir(folder)
    bases: dict[str, bytes] = {}  # of the models that were written
    for words in commands(page):
        words, into = (
            (words[: words.index(">")], words[words.index(">") + 1]) if ">" in words else (words, None)
        )
        given = list(words)
        written = [words[k + 1] for k, word in enumerate(words) if word in ("-o", "--tweak", "--report")]
        before = {name for name in written if Path(name).exists()}
        if before:
            given.append("--force")  # another page, or another section of this one, wrote it before
        out, err = io.StringIO(), io.StringIO()
        with contextlib.ExitStack() as run:
            if page.name not in FIRST:
                run.enter_context(three_folds())
                run.enter_context(short_trainings())
                run.enter_context(coarse_searches())
            run.enter_context(contextlib.redirect_stdout(out))
            run.enter_context(contextlib.redirect_stderr(err))
            code = main(given)
        told = f"onnxtweak {shlex.join(words)}\n{out.getvalue()}{err.getvalue()}"
        expected = GATE_FAILED if words[0] == "run" else 0
        assert code in (0, expected), told
        if into is not None:
            Path(into).write_text(out.getvalue(), encoding="utf-8")
            assert json.loads(out.getvalue()), told
        if "--dry-run" in words:
            assert not [name for name in written if name not in before and Path(name).exists()], told
        else:
            look_at(words, [Path(name) for name in written], out.getvalue(), bases, told)


def look_at(words: list[str], written: list[Path], out: str, bases: dict[str, bytes], told: str) -> None:
    """Assert that a command did what it is there for. bases : by the name of what was made of each."""
    assert out.strip() or written or words[0] in ("demo", "run"), told
    for path in written:
        assert any(path.iterdir()) if path.is_dir() else path.stat().st_size > 0, told
        if path.suffix == ".onnx":
            plain_session(path)
            bases[path.name] = Path(words[1]).read_bytes()
    if words[0] == "verify":
        checks = re.findall(r"^check \w+ +(.*)$", out, re.MULTILINE)
        # Without labels at hand accuracy is none that could be checked.
        assert len(checks) > 1 and all(re.match("passed|not made|no ", line) for line in checks), told
    if words[0] == "revert":
        assert written[0].read_bytes() == bases[Path(words[1]).name], told
    for command, line in SHOWN.items():
        if shlex.join(words).startswith(command):
            assert re.search(line, out, re.MULTILINE), told


def test_the_pages_show_commands_that_can_be_tried():
    tried = {
        page.name
        for page in PAGES
        if any(word.startswith("models/digits") for words in commands(page) for word in words)
    }
    assert {"quickstart.md", "ci.md", "deployed-model.md", "per-customer.md"} <= tried


@pytest.mark.parametrize("name", ["README.md", "docs/howto/python.md"])
def test_the_python_on_the_pages_runs(name, furnished, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "reader"
    shutil.copytree(furnished, folder)
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)
    for block in blocks:
        exec(compile(block, name, "exec"), names)
    assert Path("better.onnx").is_file() and names["made"].after.target > names["made"].before.target
    if len(blocks) > 1:
        assert capsys.readouterr().out.splitlines()[-3:-1] == ["True", "600 samples but 599 labels"]


def test_the_python_on_the_quickstart_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "models", tmp_path / "models")
    text = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(block, "quickstart.md", "exec"), {})
    before, after = re.fullmatch(r"([0-9.]+) -> ([0-9.]+)\n", capsys.readouterr().out).groups()
    assert float(after) > float(before)
