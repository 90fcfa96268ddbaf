"""All rows of a study as one flat table: CSV here, Parquet in ``parquet_``."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from certnet.core.errors import FileFormatError
from certnet.study.store import Store
from certnet.study.tasks import Row, Settings, Task

__all__ = ["collect", "columns_of", "csv_text", "flat"]

Scalar = str | int | float | bool | None


def collect(
    store: Store, tasks: Sequence[Task[Settings]], *, damaged: Callable[[FileFormatError], None] | None = None
) -> list[Row]:
    """The rows that there are, in the order of the tasks.

    Parameters
    ----------
    store : Store
    tasks : sequence of Task
    damaged : callable, optional
        Told of every row whose file is damaged, which is left out; without it that is raised.

    Raises
    ------
    FileFormatError
    """
    finished = store.finished()
    rows: list[Row] = []
    for task in tasks:
        if task.digest in finished:
            try:
                rows.append(store.row(task.digest))
            except FileFormatError as error:
                if damaged is None:
                    raise
                damaged(error)
    return rows


def flat(row: Row) -> dict[str, Scalar]:
    """Nested values as columns with dotted names, lists as text: ``{"mse": {"0.1": 2.0}}`` as ``mse.0.1``."""
    return dict(_flat(row, ""))


def _flat(value: Any, name: str) -> Iterable[tuple[str, Scalar]]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _flat(one, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        yield name, "; ".join(map(str, value))
    else:
        yield name, value


def columns_of(rows: Sequence[Row]) -> dict[str, list[Scalar]]:
    """Columns of equal length, in the order of their first appearance; None where a row has no such value."""
    table = [flat(row) for row in rows]
    names = dict.fromkeys(name for row in table for name in row)
    return {name: [row.get(name) for row in table] for name in names}


def csv_text(rows: Sequence[Row]) -> str:
    """The table as CSV with a header; numbers with all their digits, nothing for None."""
    columns = columns_of(rows)
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values()))
    return buffer.getvalue()
