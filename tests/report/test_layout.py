"""Blocks as terminal text and as Markdown."""

from __future__ import annotations

from onnxtweak.report.text.layout import Facts, Heading, Note, TextTable, markdown, terminal

TABLE = TextTable(("class", "samples"), (("ant", "4"), ("a|b", "1,200")), marked=frozenset({1}))


def test_columns_line_up_and_marked_rows_stand_out():
    assert terminal([TABLE]).splitlines() == [
        "  class  samples",
        "  ant          4",
        "> a|b      1,200",
    ]


def test_bold_is_asked_for():
    plain, bold = terminal([Heading("Now"), TABLE]), terminal([Heading("Now"), TABLE], bold=True)
    assert "\x1b" not in plain
    assert bold.splitlines()[0] == "\x1b[1mNow\x1b[0m"
    assert bold.splitlines()[-1] == "\x1b[1ma|b      1,200\x1b[0m"


def test_long_names_give_way_to_the_width():
    table = TextTable(("tensor", "neurons"), (("features/" + "x" * 100 + "/relu", "12"),))
    lines = terminal([table], width=40).splitlines()
    assert max(map(len, lines)) == 40
    assert lines[1].startswith("features/xx")
    assert "…" in lines[1]
    assert lines[1].endswith("/relu       12")


def test_facts_wrap_under_themselves_and_keep_words_whole():
    text = terminal([Facts((("written", "a/very/long-path/that-is/one-word and more words"),))], width=30)
    assert text.splitlines() == [
        "written  a/very/long-path/that-is/one-word",
        "         and more words",
    ]


def test_markdown():
    written = markdown([Heading("Now"), Facts((("time", "1 s"),)), TABLE, Note("mind the gap")])
    assert written.splitlines() == [
        "### Now",
        "",
        "- **time**: 1 s",
        "",
        "| class | samples |",
        "| --- | ---: |",
        "| ant | 4 |",
        "| **a\\|b** | **1,200** |",
        "",
        "> mind the gap",
    ]


def test_empty_blocks_do_not_break_the_layout():
    assert terminal([TextTable(("a", "b"), ()), Facts(())]) == "a  b\n\n\n"


def test_no_name_reaches_a_terminal_as_a_command():
    name = "\x1b[31mevil\x07\nerror: forged\u202e\x9b2J"
    table = TextTable((name, "count"), ((name, name),))
    for shown in (terminal, markdown):
        lines = shown((Heading(name), Facts(((name, name),)), table, Note(name))).split("\n")
        assert all(line.isprintable() and not line.startswith("error") for line in lines)
        assert sum("evil" in line for line in lines) >= 4
