"""How does a result become a DataFrame? Requires pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd


def frame(index: Sequence[str], columns: Mapping[str, np.ndarray], name: str) -> pd.DataFrame:
    """The columns by name, a row for each entry of the index, which is called `name`."""
    return pd.DataFrame(dict(columns), index=pd.Index(list(index), name=name))
