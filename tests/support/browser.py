"""A real browser that shows a page, and works with it as a reader would."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from PIL import Image

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = "no Chromium: apt-get install chromium"
DARK = "--blink-settings=preferredColorScheme=0"


def photographed(folder: Path, page: str, width: int, *options: str, high: int = 3000) -> Image.Image:
    """What the browser shows of a window of this width."""
    # Windows cannot be narrower than 500 pixels, frames can.
    frame = _framed(folder, page, f"width:{width}px;height:{high}px;border:0")
    taken = folder / "page.png"
    _run(folder, frame, f"--window-size={max(width, 600)},{high}", f"--screenshot={taken}", *options)
    return Image.open(taken).convert("RGB").crop((0, 0, width, high))


def worked_with(folder: Path, page: str, script: str, *options: str) -> Any:
    """What a JavaScript function body returns that is given the page's `document`, as `page`."""
    steps = (
        "<pre id=answer></pre><script>"
        "const frame = document.querySelector('iframe'), answer = document.querySelector('#answer');"
        "const work = (page) => {" + script + "};"
        "frame.addEventListener('load', () => {"
        "  try { answer.textContent = JSON.stringify({found: work(frame.contentDocument)}); }"
        "  catch (error) { answer.textContent = JSON.stringify({error: String(error)}); }"
        "});</script>"
    )
    frame = _framed(folder, page, "width:1200px;height:3000px", steps)
    said = _run(folder, frame, "--allow-file-access-from-files", "--dump-dom", *options)
    found = re.search(r'<pre id="answer">(.*?)</pre>', said, re.DOTALL)
    assert found and found[1], said[:2000]
    told = json.loads(html.unescape(found[1]))
    assert "error" not in told, told["error"]
    return told["found"]


def printed(folder: Path, page: str) -> bytes:
    """The page as a PDF."""
    (folder / "page.html").write_text(page, encoding="utf-8")
    _run(folder, folder / "page.html", f"--print-to-pdf={folder / 'page.pdf'}")
    return (folder / "page.pdf").read_bytes()


def _framed(folder: Path, page: str, style: str, more: str = "") -> Path:
    (folder / "page.html").write_text(page, encoding="utf-8")
    frame = folder / "frame.html"
    # The script comes first: the frame may have loaded before it otherwise.
    head, body = f'<body style="margin:0;background:#f0f"><iframe style="{style}"></iframe>', more
    start = "<script>document.querySelector('iframe').src = 'page.html';</script>"
    frame.write_text(head + body + start, encoding="utf-8")
    return frame


def _run(folder: Path, shown: Path, *options: str) -> str:
    ran = subprocess.run(
        [
            str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=10000", *options, shown.as_uri(),
        ],
        check=True, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return ran.stdout
