"""The flat table as a Parquet file: the only module that imports pyarrow."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

from certnet.core.errors import MissingDependencyError
from certnet.study.tables import Scalar, columns_of
from certnet.study.tasks import Row

__all__ = ["can_write", "parquet_bytes"]


def can_write() -> bool:
    """Is pyarrow installed?"""
    return importlib.util.find_spec("pyarrow") is not None


def parquet_bytes(rows: Sequence[Row]) -> bytes:
    """The table as a Parquet file: columns of one type each, those of mixed types as text.

    Raises
    ------
    MissingDependencyError
        pyarrow is not installed.
    """
    if not can_write():
        raise MissingDependencyError('Parquet files need pyarrow (certnet[parquet]): pip install "pyarrow>=16"')
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({name: _typed(values, pyarrow) for name, values in columns_of(rows).items()})
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    return bytes(sink.getvalue().to_pybytes())


def _typed(values: Sequence[Scalar], pyarrow: Any) -> Any:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool}:
        return pyarrow.array(values, pyarrow.bool_())
    if kinds <= {int}:
        return pyarrow.array(values, pyarrow.int64())
    if kinds <= {int, float}:
        return pyarrow.array([None if value is None else float(value) for value in values], pyarrow.float64())
    return pyarrow.array([None if value is None else str(value) for value in values], pyarrow.string())
