"""Samples to learn from, all of which may be judged on."""

from __future__ import annotations

import numpy as np

from onnxtweak.method.fit.learning import Learning
from onnxtweak.method.table import Table


def learning(table: Table, **facts) -> Learning:
    return Learning(table, np.ones(len(table.labels), bool), **facts)
