"""The page in a real browser: light, dark, narrow, printed; its sliders, its search, its columns."""

from __future__ import annotations

import pytest

from onnxtweak.report.page.page import page
from tests.support.browser import CHROMIUM, DARK, MISSING, photographed, printed, worked_with
from tests.support.report_pages import a_document

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=MISSING)

LIGHT_GROUND, DARK_GROUND = (0xF6, 0xF7, 0xF9), (0x12, 0x16, 0x1C)

# What a reader sees of the table of classes: name, accuracy and change of each row that is not hidden.
ROWS = """
const rows = () => Array.from(page.querySelectorAll("table.classes tbody tr"))
  .filter((row) => row.getClientRects().length)
  .map((row) => [0, 4, 5].map((k) => row.cells[k].innerText.split("\\n")[0].trim()));
const set = (input, value) => { input.value = value; input.dispatchEvent(new Event("input")); };
const sliders = page.querySelectorAll("#strengths input");
const here = () => Array.from(page.querySelector("tr.here").cells).map((cell) => cell.innerText.trim());
"""


@pytest.mark.parametrize(("options", "ground"), [((), LIGHT_GROUND), ((DARK,), DARK_GROUND)])
def test_it_follows_the_readers_scheme(tmp_path, options, ground):
    seen = photographed(tmp_path, page(a_document()), 1200, *options)
    assert seen.getpixel((2, 2)) == ground
    assert len(seen.getcolors(seen.width * seen.height)) > 200  # charts and text, not a blank sheet


def test_a_narrow_window_needs_no_sideways_scrolling(tmp_path):
    made = a_document()
    made["classes"][0] = made["targets"][0] = "a-class-with-a-rather-long-name/" * 6
    made["model"]["path"] = "m" * 200 + ".onnx"
    seen = photographed(tmp_path, page(made), 390)
    # Sections end before the right edge, so the outermost columns show nothing but the page's ground.
    edge = {seen.getpixel((388, y)) for y in range(3000)}
    assert edge == {LIGHT_GROUND}


def test_it_prints(tmp_path):
    assert printed(tmp_path, page(a_document())).startswith(b"%PDF")


def test_the_sliders_move_every_figure(tmp_path):
    made = a_document()
    found = worked_with(
        tmp_path,
        page(made),
        ROWS
        + """
        const seen = {start: [rows(), here()], shown: !page.querySelector("#strengths").hidden};
        const ring = () => ["cx", "cy"].map((name) => page.querySelector("circle.now").getAttribute(name));
        seen.ring = ring();
        set(sliders[0], "0");
        seen.base = [rows(), here(), page.querySelector(".elsewhere").innerText];
        seen.moved = ring();
        set(sliders[1], String(sliders[1].max));
        seen.biased = [rows(), here()];
        page.querySelector("#strengths button").click();
        seen.back = [rows(), here(), page.querySelector(".elsewhere").getClientRects().length];
        return seen;
        """,
    )
    counts, support = made["evidence"]["strengths"], made["evidence"]["support"]
    assert found["shown"]

    def expected(strength: int, bias: int) -> dict[str, str]:
        right = map(int, counts["right"][strength][bias].split())
        return {f"class {c}": f"{100 * n / support[c]:.1f}" for c, n in enumerate(right)}

    delivered = counts["strengths"].index(1.0)
    own = counts["biases"].index(0.0)
    for when, point in (
        ("start", (delivered, own)),
        ("base", (0, own)),
        ("biased", (0, -1)),
        ("back", (delivered, own)),
    ):
        assert {name: share for name, share, _ in found[when][0]} == expected(*point), when
    assert all(float(change) == 0 for _, _, change in found["base"][0])
    overall = 100 * sum(map(int, counts["right"][0][-1].split())) / sum(support)
    assert found["biased"][1][1] == f"{overall:.1f}"
    assert "strength 0" in found["base"][1][0] and "not what was delivered" in found["base"][2]
    assert found["moved"] != found["ring"]
    assert found["back"][:2] == found["start"] and not found["back"][2]


def test_a_thousand_classes_are_searched_and_sorted(tmp_path):
    found = worked_with(
        tmp_path,
        page(a_document(classes=1000)),
        ROWS
        + """
        const seen = {start: rows().length};
        const search = page.querySelector("input[type=search]");
        set(search, "class 77");
        seen.found = rows().map((row) => row[0]);
        seen.said = page.querySelector(".found").innerText;
        set(search, "");
        const heads = page.querySelectorAll("table.classes th button");
        heads[4].click();
        seen.worst = rows().map((row) => parseFloat(row[1]));
        heads[4].click();
        seen.best = rows().map((row) => parseFloat(row[1]));
        heads[0].click();
        seen.named = rows().map((row) => row[0]).slice(0, 3);
        page.querySelector(".unfold").click();
        seen.all = rows().length;
        return seen;
        """,
    )
    assert found["start"] == 40 and found["all"] == 1000
    assert sorted(found["found"]) == sorted(["class 77", *(f"class 77{k}" for k in range(10))])
    assert found["said"] == "11 of 1,000"
    assert found["worst"] == sorted(found["worst"]) and len(found["worst"]) == 40
    assert found["best"] == sorted(found["best"], reverse=True) and found["best"][0] > found["worst"][0]
    assert found["named"] == ["class 0", "class 1", "class 2"]


def test_without_script_everything_is_there(tmp_path):
    html = page(a_document(classes=100))
    seen = worked_with(
        tmp_path,
        html.replace("script-src 'sha256-", "script-src 'sha256-x"),  # another digest: the script is refused
        """
        const rows = () => Array.from(page.querySelectorAll("table.classes tbody tr"))
          .filter((row) => row.getClientRects().length).length;
        const folded = rows();
        page.querySelector(".unfold").click();
        return [folded, rows(), page.querySelector("#strengths").hidden,
          page.querySelectorAll("circle.every").length, page.querySelectorAll("th button").length];
        """,
    )
    assert seen == [40, 100, True, 72, 0]


def test_nothing_that_a_name_says_is_run(tmp_path):
    name = "<img src=x onerror=\"parent.document.title='run'\"><script>parent.document.title='run'</script>"
    made = a_document()
    made["classes"][0] = made["targets"][0] = name
    seen = worked_with(
        tmp_path,
        page(made),
        ROWS
        + 'set(sliders[0], "0"); set(sliders[0], "7"); return [document.title, rows().map((row) => row[0])];',
    )
    assert seen[0] == "" and any("<img" in row for row in seen[1])
