"""What does each mistake cost? A table in a CSV file: a row per true class, a column per decision."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from difflib import get_close_matches

import numpy as np

from onnxtweak.errors import UsageError
from onnxtweak.input_files import read_text
from onnxtweak.quantities import number

_SHAPE = "rows are true classes, columns decisions; the first row and the first column name them"


def read_costs(path: str, names: Sequence[str]) -> np.ndarray:
    """Costs (C, C) float64 in the order of the classes `names`: rows are labels, columns decisions.

    The first row and column name the classes, in any order; without them there are C rows of C numbers.
    Raises UsageError for a table of another size, for classes that the model does not have, and for cells
    that are no numbers.
    """
    rows, many = _rows(path), len(names)
    widths = {len(row) for row in rows}
    if len(rows) == many and widths == {many} and not _named(rows):
        return _numbers(rows, path, 1, 1)
    if len(rows) != many + 1 or widths != {many + 1}:
        wide = " or ".join(f"{width:,}" for width in sorted(widths)) or "no"
        raise UsageError(
            f"the costs have {len(rows):,} rows of {wide} cells; for {many:,} classes it takes"
            f" {many + 1:,} of {many + 1:,} with their names, or {many:,} of {many:,} without",
            where=path,
            hint=_SHAPE,
        )
    across = _places(rows[0][1:], names, path, "first row")
    down = _places([row[0] for row in rows[1:]], names, path, "first column")
    costs = np.empty((many, many))
    costs[np.ix_(down, across)] = _numbers([row[1:] for row in rows[1:]], path, 2, 2)
    return costs


def _rows(path: str) -> list[list[str]]:
    """The cells of all rows that are not empty."""
    try:
        lines = read_text(path, UsageError).removeprefix("\ufeff").splitlines()
        found = [[cell.strip() for cell in row] for row in csv.reader(lines)]
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"the costs cannot be read: {error}", where=path, hint="give a CSV file") from error
    return [row for row in found if any(row)]


def _named(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row and column name classes: the cell where they meet is empty, or text."""
    try:
        number(rows[0][0])
    except ValueError:
        return True
    return False


def _places(found: Sequence[str], names: Sequence[str], path: str, where: str) -> list[int]:
    """The class number of each name."""
    for name in found:
        if name not in names:
            near = get_close_matches(name, names, n=1, cutoff=0.5)
            known = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
            raise UsageError(
                f"the model has no class {name!r}",
                where=f"{path}, {where}",
                hint=f"did you mean {near[0]!r}?" if near else f"its classes are {known}",
            )
        if list(found).count(name) > 1:
            hint = "name every class once"
            raise UsageError(f"class {name!r} is named twice", where=f"{path}, {where}", hint=hint)
    return [list(names).index(name) for name in found]


def _numbers(rows: Sequence[Sequence[str]], path: str, row: int, column: int) -> np.ndarray:
    """The cells as numbers. row, column : where the first stands in the file, from 1."""
    costs = np.empty((len(rows), len(rows)))
    for r, cells in enumerate(rows):
        for c, cell in enumerate(cells):
            try:
                costs[r, c] = number(cell)
            except ValueError as error:
                place = f"{path}, row {r + row}, column {c + column}"
                raise UsageError(f"a cost is no number: {error}", where=place, hint=_SHAPE) from None
    return costs
