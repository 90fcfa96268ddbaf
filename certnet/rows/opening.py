"""Samples from wherever a user has them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from certnet.core.errors import FileFormatError, InvalidInputError
from certnet.core.files import path_of
from certnet.core.frames import column_names, is_frame, plain_array
from certnet.core.validation import as_samples, finite_array, whole_number
from certnet.rows.base import Layout, Rows
from certnet.rows.check import Columns
from certnet.rows.dask_ import DaskRows, is_dask
from certnet.rows.memory import ArrayRows, MemoryRows
from certnet.rows.parquet_ import ParquetRows, parquet_files
from certnet.rows.selection import Selection, Wanted, as_names

__all__ = ["LOADED_BYTES", "rows_of"]

LOADED_BYTES: Final = 64 << 20
"""Tables that take no more as numbers of float64 are loaded (files, memory maps, Dask) or copied (arrays)."""

_OTHERS: Final = (".npy", ".npz", ".csv", ".tsv", ".txt", ".gz", ".feather", ".arrow", ".h5", ".xlsx")
"""Endings of files that are no Parquet files; of these .npy is read."""


def rows_of(
    X: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    target: str | Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    n_inputs: int,
    n_outputs: int,
    names: Sequence[str] = (),
    n_jobs: int = 1,
    rows_in_block: int | None = None,
) -> Rows:
    """Samples as a table of rows, checked once: numbers, finite, of the network's shape, at least one row.

    Parameters
    ----------
    X : array_like, frame, memory map, path or paths, Dask collection, or Rows
        Inputs (N, d). Arrays of more than :data:`LOADED_BYTES` are not copied: they must not change while they are in
        use. A path names an ``.npy`` file, a Parquet file, or a folder of Parquet files, whose rows follow each other
        in the order of the files' names; a list of Parquet files keeps its own order. Dask: an Array of known chunks
        or a DataFrame. A table that this function made is returned as it is.
    y : array_like, frame, path, Dask collection, or str or sequence of str
        Targets (N,) or (N, m); or the names of target columns, where X has named columns. Beside a Dask collection,
        an array or another collection.
    sample_weight : array_like or str, optional
        (N,), not negative, with a positive sum; or the name of its column.
    target : str or sequence of str, optional
        The names of target columns, instead of y.
    columns : sequence of str, optional
        The names of input columns, in the network's order. By default those of the network's ``names``, or else all
        columns that are neither targets nor weights, in the table's order.
    n_inputs, n_outputs : int
        Of the network.
    names : sequence of str
        Of the network's inputs, where it has them.
    n_jobs : int
        Threads that compute blocks side by side where the table is not Dask's; −1 for one each processor.
    rows_in_block : int, optional
        See :class:`~certnet.rows.base.Layout`.

    Returns
    -------
    Rows
        :class:`~certnet.rows.memory.MemoryRows` where the table is small or was in memory as float64.

    Raises
    ------
    InvalidInputError
        Whatever is wrong with the samples or the names.
    FileFormatError
        A file is missing, damaged or of another format.
    MissingDependencyError
        pyarrow or dask is needed and not installed.
    """
    if isinstance(X, Rows):
        given = [value is not None for value in (y, sample_weight, target, columns)]
        return _fitting(X, n_inputs, n_outputs, alone=not any(given))
    wanted = _wanted(y, sample_weight, target, columns, (n_inputs, n_outputs), tuple(names))
    y = None if wanted.targets else y
    sample_weight = None if wanted.weight is not None else sample_weight
    layout = Layout(n_jobs=_jobs(n_jobs), rows_in_block=rows_in_block)
    if y is None and not wanted.targets:
        raise InvalidInputError("y is missing: give the targets, or the name of their column")
    if any(map(is_dask, (X, y, sample_weight))):
        return _small_in_memory(DaskRows.of(X, y, sample_weight, wanted, layout))
    places = _paths(X)
    if places is not None and not (len(places) == 1 and places[0].suffix in _OTHERS):
        return _small_in_memory(_from_files(places, y, sample_weight, wanted, layout))
    if is_frame(X):
        return _from_frame(X, y, sample_weight, wanted, layout)
    if wanted.named:
        raise InvalidInputError(
            "columns are given by name, and X has no names of columns: give arrays for targets and weights"
        )
    X = X if places is None else _mapped(places[0], "X")
    return _from_arrays(X, _array_or_file(y), sample_weight, wanted, layout)


def _fitting(rows: Rows, n_inputs: int, n_outputs: int, *, alone: bool) -> Rows:
    """A table that was made before."""
    if not alone:
        raise InvalidInputError("X is a table of rows, which has targets and weights of its own: give it alone")
    if (rows.n_inputs, rows.n_outputs) != (n_inputs, n_outputs):
        raise InvalidInputError(
            f"X is a table with {rows.n_inputs} inputs and {rows.n_outputs} output(s), the network has {n_inputs} and "
            f"{n_outputs}"
        )
    return rows


def _wanted(
    y: Any, sample_weight: Any, target: Any, columns: Any, shape: tuple[int, int], names: tuple[str, ...]
) -> Wanted:
    given = as_names(y) if not (isinstance(y, str) and y.endswith(".npy")) else None
    if target is not None:
        if y is not None:
            raise InvalidInputError("y and target are both given: the targets are one or the other")
        given = as_names(target)
        if given is None:
            raise InvalidInputError(f"target must be the name of a column, or several, got {type(target).__name__}")
    inputs: tuple[str, ...] | None = ()
    if columns is not None:
        inputs = as_names(list(columns) if not isinstance(columns, str) else columns)
        if inputs is None:
            raise InvalidInputError("columns must be names of columns")
    weight = sample_weight if isinstance(sample_weight, str) else None
    return Wanted(*shape, names=names, columns=inputs or (), targets=given or (), weight=weight)


def _jobs(n_jobs: int) -> int:
    if n_jobs == -1:
        import joblib  # here: it takes longer to load than all of the rows

        return int(joblib.cpu_count())
    return whole_number(n_jobs, "n_jobs", least=1)


def _from_frame(X: Any, y: Any, sample_weight: Any, wanted: Wanted, layout: Layout) -> Rows:
    """A frame in memory: by position where nothing is named, as everywhere."""
    if wanted.named:
        found = column_names(X)
        if not found:
            raise InvalidInputError("columns are given by name, and not all columns of X have names that are text")
        chosen = Selection.of(found, wanted, "X")
        if chosen.targets:
            y = plain_array(X, "y", [found.index(name) for name in chosen.targets])
        if chosen.weight is not None:
            sample_weight = plain_array(X, "sample_weight", [found.index(chosen.weight)])[:, 0]
        layout = Layout(Columns(chosen.inputs, chosen.targets), layout.n_jobs, layout.rows_in_block)
        X = plain_array(X, "X", [found.index(name) for name in chosen.inputs])
    else:
        names = wanted.names or column_names(X)
        layout = Layout(Columns(names), layout.n_jobs, layout.rows_in_block)
    inputs, targets = as_samples(X, y, wanted.n_inputs, wanted.n_outputs, wanted.names)
    return MemoryRows.of(inputs, targets, _weights(sample_weight, len(inputs)), layout)


def _from_arrays(X: Any, y: Any, sample_weight: Any, wanted: Wanted, layout: Layout) -> Rows:
    layout = Layout(Columns(wanted.names), layout.n_jobs, layout.rows_in_block)
    large = isinstance(X, np.ndarray) and X.ndim == 2 and 8 * X.size > LOADED_BYTES
    if not large:
        inputs, targets = as_samples(X, y, wanted.n_inputs, wanted.n_outputs)
        return MemoryRows.of(inputs, targets, _weights(sample_weight, len(inputs)), layout)
    # checked without copies, and blocks at a time for what is not finite
    inputs, targets = plain_array(X, "X"), plain_array(y, "y")
    if targets.ndim == 1:
        targets = targets[:, None]
    if targets.ndim != 2 or len(targets) != len(inputs):
        raise InvalidInputError(f"X has {len(inputs)} samples, and y has shape {targets.shape}")
    if inputs.shape[1] != wanted.n_inputs:
        raise InvalidInputError(f"X has {inputs.shape[1]} columns, the network has {wanted.n_inputs} inputs")
    if targets.shape[1] != wanted.n_outputs:
        raise InvalidInputError(f"y has {targets.shape[1]} columns, the network has {wanted.n_outputs} output(s)")
    weights = _weights(sample_weight, len(inputs))
    in_memory = not isinstance(X, np.memmap) and inputs.dtype == np.float64 and inputs.flags.c_contiguous
    return (MemoryRows if in_memory else ArrayRows).of(inputs, targets, weights, layout)


def _weights(sample_weight: Any, n: int) -> NDArray[Any] | None:
    """Weights of n rows as an array of numbers; what they are is looked at where they are summed."""
    if sample_weight is None:
        return None
    weights = plain_array(sample_weight, "sample_weight")
    if weights.shape != (n,):
        raise InvalidInputError(f"sample_weight has shape {weights.shape}: a number for each of {n} rows is needed")
    return weights


def _paths(X: Any) -> list[Path] | None:
    """The path or paths that X is; None where it is something else."""
    if isinstance(X, str | os.PathLike):
        return [path_of(X)]
    if isinstance(X, list | tuple) and X and all(isinstance(path, str | os.PathLike) for path in X):
        return [path_of(path) for path in X]
    return None


def _array_or_file(y: Any) -> Any:
    return _mapped(path_of(y), "y") if isinstance(y, str | os.PathLike) else y


def _from_files(places: list[Path], y: Any, sample_weight: Any, wanted: Wanted, layout: Layout) -> Rows:
    """Parquet files; targets and weights that are not in them are arrays."""
    targets = None
    if not wanted.targets:
        targets = finite_array(_array_or_file(y), "y", ndim=(1, 2))
        targets = targets[:, None] if targets.ndim == 1 else targets
        if targets.shape[1] != wanted.n_outputs:
            raise InvalidInputError(f"y has {targets.shape[1]} columns, the network has {wanted.n_outputs} output(s)")
    weights = None if sample_weight is None else finite_array(sample_weight, "sample_weight", ndim=(1,))
    return ParquetRows.of(parquet_files(places), wanted, layout, targets=targets, weights=weights)


def _small_in_memory(rows: Rows) -> Rows:
    small = 8 * rows.n_samples * (rows.n_inputs + rows.n_outputs) <= LOADED_BYTES
    return rows.in_memory() if small else rows


def _mapped(source: Path, name: str) -> NDArray[Any]:
    """The array of an ``.npy`` file, mapped into memory."""
    if source.suffix != ".npy":
        raise InvalidInputError(
            f"{source} is no file that {name} is read from: .npy and Parquet files are; load a CSV file with "
            "certnet.data.load_table, and give the array"
        )
    try:
        array = np.load(source, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        detail = "it holds Python objects" if "pickle" in str(error) or "object" in str(error) else str(error)
        raise FileFormatError(f"{source} is not a readable .npy file: {detail}") from error
    if not isinstance(array, np.ndarray):
        raise FileFormatError(f"{source} is an archive of arrays: save the one that is {name} as .npy")
    return array
