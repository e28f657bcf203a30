"""Put every table that was run into docs/lab_book.md, and its pictures into docs/pictures.

    python -m benchmarks.science.thesis.collect [--work build/thesis]

Only what stands between the two markers of the page is replaced.
"""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

from benchmarks.science.thesis.__main__ import TABLES

_PAGE = Path(__file__).resolve().parents[3] / "docs" / "lab_book.md"
_BEGIN, _END = "<!-- thesis:begin -->", "<!-- thesis:end -->"


def collect(work: Path, page: Path) -> list[str]:
    """Names of the tables put in. Raises ValueError where the page has no markers."""
    found = [name for name in TABLES if (work / "results" / f"{name}.md").exists()]
    parts = [(work / "results" / f"{name}.md").read_text(encoding="utf-8").strip() for name in found]
    text = page.read_text(encoding="utf-8")
    if _BEGIN not in text or _END not in text:
        raise ValueError(f"{page} has no {_BEGIN} and {_END}")
    before, rest = text.split(_BEGIN, 1)
    after = rest.split(_END, 1)[1]
    whole = "\n\n".join([_BEGIN, *parts, _END])
    page.write_text(before + whole + after, encoding="utf-8")
    for name in sorted(set(re.findall(r"\(pictures/([\w-]+)\.svg\)", whole))):
        (page.parent / "pictures").mkdir(exist_ok=True)
        shutil.copyfile(work / "results" / f"{name}.svg", page.parent / "pictures" / f"{name}.svg")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/thesis"))
    print(*collect(parser.parse_args().work, _PAGE), sep="\n")


if __name__ == "__main__":
    main()
