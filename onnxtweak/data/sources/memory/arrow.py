"""How does a table become pyarrow's that only speaks a protocol? Requires pyarrow."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyarrow.interchange import from_dataframe


def as_arrow(table: Any) -> pa.Table:
    """The same table, its buffers shared where the protocol allows it: Arrow's stream, or the interchange."""
    return pa.table(table) if hasattr(table, "__arrow_c_stream__") else from_dataframe(table)
