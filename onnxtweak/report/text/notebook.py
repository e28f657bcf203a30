"""How do headings, facts, tables and notes look in a notebook? As plain HTML, in the notebook's own style.

There is no script and no style sheet: untrusted notebooks lose both, and theirs would reach other cells.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnxtweak.report.markup import safe
from onnxtweak.report.text.layout import Block, Facts, Heading, Note, TextTable

_FEW = 2  # facts that are not folded
_LEFT, _RIGHT = "text-align:left", "text-align:right"


def html(blocks: Sequence[Block]) -> str:
    """Blocks as HTML; many facts are folded, for they matter less than tables and notes."""
    return f'<div class="onnxtweak">{"".join(map(_block, blocks))}</div>'


def _block(block: Block) -> str:
    match block:
        case Heading(text):
            return f"<p><strong>{safe(text)}</strong></p>"
        case Facts(pairs) if len(pairs) <= _FEW:
            return "".join(f"<p>{safe(name)}: {safe(said)}</p>" for name, said in pairs)
        case Facts(pairs):
            rows = "".join(
                f'<tr><th style="{_LEFT}">{safe(name)}</th><td style="{_LEFT}">{safe(said)}</td></tr>'
                for name, said in pairs
            )
            return f"<details><summary>details</summary><table><tbody>{rows}</tbody></table></details>"
        case TextTable(columns, rows, left, marked):
            body = "".join(_row("td", row, left, number in marked) for number, row in enumerate(rows))
            head = _row("th", columns, left, False)
            return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"
        case Note(text):
            return f"<p><em>note: {safe(text)}</em></p>"


def _row(tag: str, cells: Sequence[str], left: int, strong: bool) -> str:
    open_tag, close_tag = ("<strong>", "</strong>") if strong else ("", "")
    return "<tr>{}</tr>".format(
        "".join(
            f'<{tag} style="{_LEFT if number < left else _RIGHT}">{open_tag}{safe(cell)}{close_tag}</{tag}>'
            for number, cell in enumerate(cells)
        )
    )
