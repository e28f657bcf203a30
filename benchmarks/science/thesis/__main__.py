"""All tables, in the thesis's order.

python -m benchmarks.science.thesis --data DIR [--quick] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import importlib

TABLES = (
    "table_3_1",
    "table_3_2",
    "table_3_3",
    "table_3_5",
    "table_3_6",
    "table_3_9",
    "table_3_10",
    "table_3_11",
    "table_4",
)


def main() -> None:
    from benchmarks.science.thesis.sizes import add_options, options_of
    from benchmarks.science.thesis.tables import carry_out

    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    parser.add_argument("--only", nargs="+", choices=TABLES, default=TABLES)
    arguments = parser.parse_args()
    for name in arguments.only:
        carry_out(importlib.import_module(f"benchmarks.science.thesis.{name}").run, options_of(arguments))


if __name__ == "__main__":
    main()
