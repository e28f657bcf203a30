"""How is text shown that anybody may have written? Names come from models, data and paths: with anything.

Escape sequences, line feeds, C1 controls and characters that turn the direction of text would reach the
terminal as commands: they could recolour, overwrite or forge lines. They are shown as Python writes them in
a string (`\\x1b`, `\\n`, `\\u202e`), and so are bytes of a path that are not UTF-8. Every line for a terminal
goes through here: `report.text.layout` for results, `cli.console` for all else.
"""

from __future__ import annotations

import json
import re
import unicodedata

# What stands in an encoding that lacks a character; for any other, its escape.
_PLAIN = {"…": "...", "±": "+/-", "×": "x", "µ": "u", "μ": "u", "→": "->", "–": "-", "—": "-"}
# All that is not plain ASCII is looked at.
_SUSPECT = re.compile("[^ -~]")


def visible(text: str) -> str:
    """The text on one line, with an escape for each character that is not to be seen."""
    return _SUSPECT.sub(lambda found: found[0] if _shows(found[0]) else _escape(found[0]), text)


def visible_lines(text: str) -> str:
    """The same for a text of several lines."""
    return "\n".join(map(visible, text.split("\n")))


def visible_json(written: str) -> str:
    """JSON that means the same, with JSON's own escapes for characters that are not to be seen."""
    return _SUSPECT.sub(
        lambda found: found[0] if found[0] == "\n" or _shows(found[0]) else json.dumps(found[0])[1:-1],
        written,
    )


def ascii_json(written: str) -> str:
    """JSON that means the same, with JSON's own escapes for all that is not ASCII."""
    return re.sub("[^\x00-\x7f]", lambda found: _json_escape(found[0]), written)


def plain(error: UnicodeError) -> tuple[str, int]:
    """What is written instead of characters that a stream's encoding lacks: an error handler for `codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_PLAIN.get(c, _escape(c)) for c in missing), error.end


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _json_escape(character: str) -> str:
    return json.dumps(character)[1:-1]


def _shows(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"  # any width of space
