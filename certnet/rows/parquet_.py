"""Rows of Parquet files, read a chunk at a time: the only module of this part that imports pyarrow."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, Self, final

import numpy as np
from numpy.typing import NDArray

from certnet.core.errors import FileFormatError, InvalidInputError, MissingDependencyError
from certnet.core.validation import Float
from certnet.rows.base import Layout, Rows
from certnet.rows.block import Block
from certnet.rows.check import Columns, Door, weight_sum
from certnet.rows.memory import MemoryRows, table_taken
from certnet.rows.selection import Selection, Wanted
from certnet.rows.sums import Part, Sums, total_of

__all__ = ["PARQUET", "ParquetRows", "parquet_columns", "parquet_files"]

PARQUET: Final = (".parquet", ".pq", ".parq")
"""Endings of the names of Parquet files."""


@dataclass(frozen=True)
class _Source:
    """A file and its number of rows."""

    path: Path
    n_rows: int


@final
class ParquetRows(Rows):
    """Rows of files that follow each other; a few chunks at a time are in memory.

    While threads compute, the next chunk is read.
    """

    def __init__(
        self,
        sources: Sequence[_Source],
        selection: Selection,
        beside: tuple[Float | None, Float | None],
        shape: tuple[int, int],
        weight_total: float,
        layout: Layout,
    ) -> None:
        super().__init__(sum(source.n_rows for source in sources), *shape, layout)
        self._sources, self._selection, self._weight_total = tuple(sources), selection, weight_total
        self._targets, self._weights = beside

    @classmethod
    def of(
        cls,
        files: Sequence[Path],
        wanted: Wanted,
        layout: Layout,
        *,
        targets: Float | None = None,
        weights: Float | None = None,
    ) -> Self:
        """From files of the same columns, read once to be checked.

        Parameters
        ----------
        files : sequence of Path
            In the order of their rows.
        wanted : Wanted
            Which columns are what.
        layout : Layout
            Without names.
        targets, weights : ndarray, shapes (N, m) and (N,), optional
            Where they are not in the files.

        Raises
        ------
        MissingDependencyError
            pyarrow is not installed.
        FileFormatError
            A file is missing, damaged, or no Parquet file.
        InvalidInputError
            Files of different columns, columns that are no numbers, nulls, NaN, no rows.
        """
        sources, selection = _inspected(files, wanted)
        layout = replace(layout, columns=Columns(selection.inputs, selection.targets))
        shape = wanted.n_inputs, wanted.n_outputs
        unscaled = cls(sources, selection, (targets, weights), shape, 1.0, layout)
        n = unscaled.n_samples
        if not n:
            raise InvalidInputError(f"{_listed(files)} has no rows: at least one is needed")
        for array, name in ((targets, "y"), (weights, "sample_weight")):
            if array is not None and len(array) != n:
                raise InvalidInputError(f"{_listed(files)} has {n} rows and {name} has {len(array)}")
        starts = [0, *accumulate(source.n_rows for source in sources)]
        places = tuple((start, str(source.path)) for start, source in zip(starts, sources) if source.n_rows)
        total = unscaled.total(Door(layout.columns, places))
        return cls(sources, selection, (targets, weights), shape, weight_sum(total), layout)

    def chunks(self) -> Iterator[Block]:
        return map(self._scaled, self._unscaled())

    def total(self, part: Part) -> Sums:
        threads = max(1, self.layout.n_jobs)
        return total_of(self._unscaled(), self._scaled, part, self.rows_per_block, threads=threads)

    def taken(self, indices: NDArray[np.intp]) -> MemoryRows | None:
        has_weights = self._weights is not None or self._selection.weight is not None
        X, y = np.empty((len(indices), self.n_inputs)), np.empty((len(indices), self.n_outputs))
        weights = np.empty(len(indices)) if has_weights else None
        done = 0
        for chunk in self._unscaled():
            end = int(np.searchsorted(indices, chunk.first + len(chunk)))
            here = indices[done:end] - chunk.first
            X[done:end], y[done:end] = chunk.X[here], chunk.y[here]
            if weights is not None:
                weights[done:end] = chunk.shares[here]
            done = end
        return table_taken(X, y, weights, self.layout)

    def _scaled(self, chunk: Block) -> Block:
        return replace(chunk, shares=chunk.shares / self._weight_total)

    def _unscaled(self) -> Iterator[Block]:
        """Chunks with the weights themselves, whatever the groups of rows that the files are made of."""
        n_targets, size = len(self._selection.targets), self.rows_per_chunk
        first, filled = 0, 0
        table = self._buffer(first)
        for piece in self._pieces():
            start, count = 0, len(piece[0])
            while start < count:
                n = min(count - start, len(table) - filled)
                if not n:
                    raise InvalidInputError(_changed(self._sources[-1].path))
                for j, column in enumerate(piece):
                    table[filled : filled + n, j] = column[start : start + n]
                start, filled = start + n, filled + n
                if filled == len(table):
                    yield self._block(first, table, n_targets)
                    first, filled = first + size, 0
                    table = self._buffer(first)
        if len(table):
            raise InvalidInputError(_changed(self._sources[-1].path))

    def _buffer(self, first: int) -> Float:
        """For the rows of the chunk that begins there: none at the end."""
        rows = max(0, min(self.rows_per_chunk, self.n_samples - first))
        return np.empty((rows, len(self._selection.all)))

    def _block(self, first: int, table: Float, n_targets: int) -> Block:
        d, end = self.n_inputs, first + len(table)
        y = table[:, d : d + n_targets] if self._targets is None else self._targets[first:end]
        if self._selection.weight is not None:
            weights = table[:, -1].copy()
        else:
            weights = np.ones(len(table)) if self._weights is None else self._weights[first:end]
        return Block(first, np.ascontiguousarray(table[:, :d]), np.ascontiguousarray(y), weights)

    def _pieces(self) -> Iterator[list[NDArray[Any]]]:
        """Columns of consecutive rows, as the files give them."""
        import pyarrow.parquet

        names = self._selection.all
        for source in self._sources:
            with _opened(source.path) as file:
                if file.metadata.num_rows != source.n_rows:
                    raise InvalidInputError(_changed(source.path))
                try:
                    for group in range(file.metadata.num_row_groups):
                        batches = file.iter_batches(
                            self.rows_per_chunk,
                            row_groups=[group],
                            columns=list(names),
                            use_threads=self.layout.n_jobs > 1,
                        )
                        for batch in batches:
                            columns = [batch.column(batch.schema.get_field_index(name)) for name in names]
                            yield [
                                _numbers(column, f"{source.path}: column {name!r} has nulls in row group {group}")
                                for name, column in zip(names, columns)
                            ]
                except (pyarrow.ArrowException, OSError) as error:
                    raise FileFormatError(f"{source.path} cannot be read: {error}") from error


def parquet_files(where: Sequence[Path]) -> list[Path]:
    """The files of a list, each folder replaced by the Parquet files below it, in the order of their paths.

    Raises
    ------
    FileFormatError
        A path does not exist, or a folder has no such file.
    """
    files: list[Path] = []
    for path in where:
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix in PARQUET and _is_data(file, path))
            if not found:
                raise FileFormatError(f"the folder {path} has no Parquet files ({', '.join(PARQUET)})")
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise FileFormatError(f"{path} does not exist: check the path")
    return files


def parquet_columns(where: Path) -> tuple[str, ...]:
    """The names of the columns of a file, or of the first one of a folder.

    Raises
    ------
    MissingDependencyError
        pyarrow is not installed.
    FileFormatError
        As :func:`parquet_files`; the file is damaged.
    """
    with _opened(parquet_files([where])[0]) as file:
        return tuple(file.schema_arrow.names)


def _is_data(file: Path, folder: Path) -> bool:
    """Not hidden, nor what others write beside the data."""
    return file.is_file() and not any(part.startswith(("_", ".")) for part in file.relative_to(folder).parts)


def _inspected(files: Sequence[Path], wanted: Wanted) -> tuple[list[_Source], Selection]:
    """Rows of every file; which columns are read, and that all files have the same, of numbers."""
    sources, selection, first = [], None, None
    for path in files:
        with _opened(path) as file:
            schema = file.schema_arrow
            names = list(schema.names)
            if selection is None:
                selection, first = Selection.of(names, wanted, str(path)), (path, names)
            elif first is not None and sorted(names) != sorted(first[1]):
                raise InvalidInputError(_different(path, names, *first))
            for name in selection.all:
                _require_numbers(schema.field(name).type, f"{path}: column {name!r}")
            sources.append(_Source(path, file.metadata.num_rows))
    if selection is None:
        raise InvalidInputError("no Parquet file is named: give at least one")
    return sources, selection


def _different(path: Path, names: list[str], first: Path, expected: list[str]) -> str:
    missing, more = sorted(set(expected) - set(names)), sorted(set(names) - set(expected))
    told = [f"no column {name!r}" for name in missing[:5]] + [f"a column {name!r}" for name in more[:5]]
    return (
        f"{path} has other columns than {first} ({', '.join(told) or 'some of them twice'}): all files of a table have "
        "the same"
    )


def _require_numbers(kind: Any, column: str) -> None:
    from pyarrow import types

    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind)):
        raise InvalidInputError(
            f"{column} is of type {kind}: real numbers are needed; encode it as numbers, or leave it out by columns="
        )


def _numbers(column: Any, words: str) -> NDArray[Any]:
    from pyarrow import types

    if column.null_count:
        raise InvalidInputError(f"{words}: remove or impute such rows first")
    if types.is_decimal(column.type):
        column = column.cast("float64")
    array: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return array


def _opened(path: Path) -> Any:
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingDependencyError('Parquet files need pyarrow (certnet[parquet]): pip install "pyarrow>=16"')
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise FileFormatError(f"{path} is not a readable Parquet file: {error}") from error


def _changed(path: Path) -> str:
    return f"{path} has other rows than before: it was changed while it was in use"


def _listed(files: Sequence[Path]) -> str:
    return str(files[0]) if len(files) == 1 else f"the table of {len(files)} files from {files[0]} on"
