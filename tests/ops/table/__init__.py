"""The table of ops: one row per primitive, and rows for the public functions that compose them.

`tests/ops/test_table.py` generates every generic check from it; a primitive without a row fails the suite.
"""

from . import elementwise, fused, indexing, linalg, networks, recurrent, reductions, shape, tree, windows
from .row import Row, Sample, outputs

TABLE: list[Row] = [
    row
    for module in (elementwise, reductions, shape, indexing, linalg, windows, fused, networks, recurrent, tree)
    for row in module.ROWS
]

__all__ = ["TABLE", "Row", "Sample", "outputs"]
