"""How may a value be written in Python? The types of options."""

from __future__ import annotations

import os
from collections.abc import Sequence

StrPath = str | os.PathLike[str]
StrPaths = StrPath | Sequence[StrPath]
Number = float | str
Numbers = Number | Sequence[Number]
HeightWidth = str | int | tuple[int, int]
ClassName = str | int
