"""The documentation says what the program does. Run this file to write docs/cli.md anew."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from onnxtweak.cli.main import PROGRAM, program
from onnxtweak.cli.options.groups import SectionCommand

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "cli.md"
COMMANDS = list(program.commands.values())
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
BENCHMARKS = ROOT / "benchmarks"
# Where a path on a page begins.
BEGINNINGS = [ROOT, ROOT / "onnxtweak", BENCHMARKS]

INTRODUCTION = """\
# The command line

`onnxtweak`, `python -m onnxtweak` and, in a checkout, `python cli.py` are the same program. Results go to
stdout, narration and progress to stderr.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | a gate failed; no output was written |
| 2 | usage, model or data error |
| 3 | verification failed |
| 4 | environment: no runtime, no GPU where one was required |
| 70 | a bug |
| 129 | the terminal hung up (SIGHUP) |
| 130 | interrupted (Ctrl-C, SIGINT) |
| 141 | the reader of stdout went away |
| 143 | terminated (SIGTERM: a container that stops, a job that is cancelled) |

Where a signal ends a command, it cleans up, ends its workers and says so in one line. One that comes when
the work is done changes nothing.

An error is `error: WHAT (WHERE)` and, where there is something to do about it, `hint: WHAT TO DO`, one line
each; the traceback comes with `--traceback`.

This page is made from the program's own help texts by `make docs`. It has every option, as `--help-all` does;
`--help` shows those that most people need.
"""


def written() -> str:
    """docs/cli.md as it should be."""
    parts = [INTRODUCTION, f"## {PROGRAM}\n\n```text\n{help_text(program, PROGRAM)}\n```\n"]
    for command in COMMANDS:
        said = help_text(command, f"{PROGRAM} {command.name}")
        parts.append(f"## {command.name}\n\n```text\n{said}\n```\n")
    return "\n".join(parts)


def help_text(command: click.Command, name: str) -> str:
    # The context of a command outside its group: same text, with the width held fast.
    context = click.Context(command, info_name=name, terminal_width=100, **command.context_settings)
    context.help_option_names = ["-h", "--help"]
    whole = command.whole_help if isinstance(command, SectionCommand) else command.get_help
    return whole(context).rstrip()


def test_the_page_is_what_the_program_says():
    assert PAGE.read_text(encoding="utf-8") == written(), "run `make docs`"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_is_explained_and_has_an_example(command):
    said = help_text(command, f"{PROGRAM} {command.name}")
    assert f"Example:\n    onnxtweak {command.name}" in said
    for param in command.params:
        if isinstance(param, click.Option):
            assert param.help, f"{command.name} {param.opts[0]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_on_the_pages_exist(page):
    known = {command.name: command for command in COMMANDS}
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for block in re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL):
        for line in re.findall(r"^\s*(?:onnxtweak|python cli\.py)\s+(.+)$", block, re.MULTILINE):
            name, *rest = line.split()
            assert name in known, line
            options = {name for param in known[name].params for name in param.opts}
            options |= {"--help", "--help-all"}
            for word in rest:
                if word.startswith("-") and not re.fullmatch(r"-[0-9.]+", word):
                    assert word in options, line


@pytest.mark.parametrize(
    "page", [*PAGES, *BENCHMARKS.rglob("*.md")], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_links_between_the_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_map_leads_to_every_page():
    mapped = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert len(pages) > 15
    assert [page for page in pages if page != "README.md" and f"]({page}" not in mapped] == []


def test_a_link_into_a_page_leads_to_a_heading():
    for page in PAGES:
        for target, place in re.findall(r"\]\(([^)#]*\.md)?#([^)]+)\)", page.read_text(encoding="utf-8")):
            text = (page.parent / target if target else page).read_text(encoding="utf-8")
            headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            marks = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert place in marks, f"{page.name}: {target}#{place}"


def test_the_glossary_is_in_order():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    words = [word.lower() for word in re.findall(r"^\| ([^|]+?) \|", text, re.MULTILINE)][2:]
    assert len(words) > 25 and words == sorted(words)


SOURCES = sorted(
    path for folder in ("onnxtweak", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)
METHOD = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
SECTIONS = set(re.findall(r"^#+ (\d+(?:\.\d+)?)[. ]", METHOD, re.MULTILINE))
# "METHOD 7.2", "METHOD 1, 2, 11", "METHOD 1 to 4"; and the page that is not in the repository.
CITED = re.compile(r"METHOD (\d+(?:\.\d+)?(?:(?:, | to | and )\d+(?:\.\d+)?)*)")
OUTSIDE = re.compile(r"\bSPEC (?:section )?\d|\bMETHOD (?!\d)\w|\bPITFALLS \d")


def cites(text: str) -> list[str]:
    """What is cited in a file, and is not on the page."""
    wrong = []
    for cited in CITED.findall(text):
        missing = [number for number in re.findall(r"\d+(?:\.\d+)?", cited) if number not in SECTIONS]
        wrong += [f"METHOD {cited}: docs/method.md has no section {number}" for number in missing]
    for number in re.findall(r"\bEq\. (\d+\.\d+)", text):
        if f"Eq. {number}" not in METHOD:
            wrong.append(f"Eq. {number} is not on docs/method.md")
    if found := OUTSIDE.search(text):
        wrong.append(f"{found[0]!r}: say the thing, or name a page of docs/")
    return wrong


def test_what_the_code_cites_is_on_the_page():
    found = {path: cites(path.read_text(encoding="utf-8")) for path in SOURCES if path != Path(__file__)}
    assert not {path: wrong for path, wrong in found.items() if wrong}
    assert len(cites(f"METHOD 7.{99}, Eq. 77.{7}, METH" + "OD says")) == 3


def test_the_sections_that_are_cited_are_seen():
    assert {"0", "1", "7", "7.2", "12"} <= SECTIONS
    assert CITED.findall("(METHOD 1, 2, 11), METHOD 1 to 4.") == ["1, 2, 11", "1 to 4"]


@pytest.mark.parametrize(
    "page", [*PAGES, *BENCHMARKS.glob("*.md")], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_files_that_a_page_names_exist(page):
    for name in re.findall(r"[`( ]((?:[\w-]+/)+[\w-]+\.(?:py|cu))[`) ]", page.read_text(encoding="utf-8")):
        places = [*BEGINNINGS, page.parent]
        assert any((place / name).is_file() for place in places), f"{name} is not there any more"


def test_every_benchmark_is_listed():
    listed = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    folders = ("speed", "conformance", "science/fit", "gpu")
    scripts = [path for folder in folders for path in (BENCHMARKS / folder).glob("*.py")]
    assert len(scripts) > 15
    for script in scripts:
        name = script.relative_to(BENCHMARKS).as_posix()
        assert f"`{name}`" in listed, f"write {name} into benchmarks/README.md"


if __name__ == "__main__":
    PAGE.write_text(written(), encoding="utf-8")
