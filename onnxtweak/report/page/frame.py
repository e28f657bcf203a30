"""What is around the sections of a page? Style, script, and a policy: nothing else runs or is loaded."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

from onnxtweak.report.markup import safe


@dataclass(frozen=True)
class Imprint:
    """What an author puts on a page. Nothing by default: the same results give the same bytes."""

    title: str = ""
    date: str = ""


NO_IMPRINT = Imprint()


def framed(title: str, body: str, imprint: Imprint = NO_IMPRINT) -> str:
    """A whole page. title : of the browser's tab. body : HTML of the sections."""
    here = Path(__file__)
    style = here.with_name("page.css").read_text(encoding="utf-8")
    script = here.with_name("page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    said = " · ".join(safe(part) for part in (imprint.title, imprint.date) if part)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{safe(imprint.title or title)}</title><style>{style}</style></head>"
        f"<body><main>{f'<p class=imprint><bdi>{said}</bdi></p>' if said else ''}{body}</main>"
        f"<script>{script}</script></body></html>\n"
    )
