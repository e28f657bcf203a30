"""The page in a real browser: light, dark, narrow."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from PIL import Image

from onnxtweak.report.page.page import page
from tests.support.report_pages import a_document

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")

LIGHT, DARK = (0xF6, 0xF7, 0xF9), (0x12, 0x16, 0x1C)


def photographed(folder, html: str, width: int, *options: str) -> Image.Image:
    """What the browser shows of a window of this width, 3,000 pixels high."""
    (folder / "page.html").write_text(html, encoding="utf-8")
    # Windows cannot be narrower than 500 pixels, frames can.
    style = f"width:{width}px;height:3000px;border:0"
    frame = f'<body style="margin:0;background:#f0f"><iframe src="page.html" style="{style}"></iframe>'
    (folder / "frame.html").write_text(frame)
    taken = folder / "page.png"
    subprocess.run(
        [
            CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            f"--user-data-dir={folder / 'profile'}", f"--window-size={max(width, 600)},3000",
            f"--screenshot={taken}", *options, (folder / "frame.html").as_uri(),
        ],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    return Image.open(taken).convert("RGB").crop((0, 0, width, 3000))


def corner(picture: Image.Image) -> tuple[int, int, int]:
    return picture.getpixel((2, 2))


@pytest.mark.parametrize(
    ("options", "ground"), [((), LIGHT), (("--blink-settings=preferredColorScheme=0",), DARK)]
)
def test_it_follows_the_readers_scheme(tmp_path, options, ground):
    seen = photographed(tmp_path, page(a_document()), 1200, *options)
    assert corner(seen) == ground
    assert len(seen.getcolors(seen.width * seen.height)) > 200  # charts and text, not a blank sheet


def test_a_narrow_window_needs_no_sideways_scrolling(tmp_path):
    made = a_document()
    made["classes"][0] = made["targets"][0] = "a-class-with-a-rather-long-name/" * 6
    made["model"]["path"] = "m" * 200 + ".onnx"
    seen = photographed(tmp_path, page(made), 390)
    # Sections end before the right edge, so the outermost columns show nothing but the page's ground.
    edge = {seen.getpixel((388, y)) for y in range(3000)}
    assert edge == {LIGHT}
