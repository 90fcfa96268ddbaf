"""Rows of Dask collections: the only module of this part that imports dask and distributed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from typing import Any, Self, final
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from certnet.core.errors import CertnetError, InvalidInputError
from certnet.core.frames import column_names, plain_array
from certnet.core.validation import Float
from certnet.rows.base import Layout, Rows
from certnet.rows.block import FAN, Block
from certnet.rows.check import Columns, Door, weight_sum
from certnet.rows.memory import MemoryRows, table_taken
from certnet.rows.selection import Selection, Wanted
from certnet.rows.sums import Part, Sums, added, one_thread, sum_of_chunk

__all__ = ["DaskRows", "is_dask"]


def is_dask(value: object) -> bool:
    """A collection of Dask?"""
    return hasattr(type(value), "__dask_graph__")


@final
class DaskRows(Rows):
    """Rows of Dask collections, which stay where they are: of a sum only the sums of chunks travel.

    Every evaluation is one graph for the scheduler that the user has (the current client of a cluster, or the one that
    Dask is configured for): a task for each chunk, and a tree of sums. What a worker that dies had not handed on is
    computed again by another. Collections that were not persisted are computed again at every evaluation.
    """

    def __init__(
        self, chunks: Sequence[Any], n_samples: int, shape: tuple[int, int], weight_total: float, layout: Layout
    ) -> None:
        super().__init__(n_samples, *shape, layout)
        self._chunks, self._weight_total = tuple(chunks), weight_total

    @classmethod
    def of(cls, X: Any, y: Any, weights: Any, wanted: Wanted, layout: Layout) -> Self:
        """From collections, read once to be checked.

        Parameters
        ----------
        X : dask Array or DataFrame
        y, weights : dask Array, DataFrame or Series, or None
            None where they are columns of X, or, for weights, where there are none.
        wanted : Wanted
            Which columns are what.
        layout : Layout
            Without names.

        Raises
        ------
        InvalidInputError
            Unknown lengths, partitions of different columns, columns that are no numbers, missing values, NaN, no
            rows; y or weights that are no collections.
        """
        for value, name in ((X, "X"), (y, "y"), (weights, "sample_weight")):
            if value is not None and not is_dask(value):
                raise InvalidInputError(
                    f"{name} is no Dask collection, and others of X, y and sample_weight are: give all of them as "
                    f"collections (dask.array.from_array({name}, chunks=...)), or as columns of X"
                )
        tables = _Tables.of(X, y, weights, wanted)
        columns = (
            Columns(tables.selection.inputs, tables.selection.targets) if tables.selection else Columns(wanted.names)
        )
        layout = replace(layout, columns=columns)
        shape = wanted.n_inputs, wanted.n_outputs
        n = tables.checked_length(*shape)
        empty = cls((), n, shape, 1.0, layout)
        unscaled = cls(tables.chunks(empty.chunk_bounds), n, shape, 1.0, layout)
        total = unscaled.total(Door(layout.columns))
        return cls(unscaled._chunks, n, shape, weight_sum(total), layout)

    def chunks(self) -> Iterator[Block]:
        done, wave = 0, 1
        while done < len(self._chunks):
            yield from map(self._scaled, _computed(self._chunks[done : done + wave]))
            done, wave = done + wave, min(2 * wave, FAN)

    def total(self, part: Part) -> Sums:
        from dask import delayed

        # one key for all tasks: what is in it is sent once
        shared = delayed(part, name=f"certnet-part-{uuid4().hex}", traverse=False)
        sum_of = delayed(_sum_of, pure=False, traverse=False)
        add = delayed(_added, pure=False, traverse=False)
        nodes = [sum_of(shared, self.rows_per_block, self._weight_total, chunk) for chunk in self._chunks]
        while len(nodes) > 1:
            nodes = [add(*nodes[a : a + FAN]) for a in range(0, len(nodes), FAN)]
        total: Sums = _computed(nodes)[0]
        return total

    def taken(self, indices: NDArray[np.intp]) -> MemoryRows | None:
        from dask import delayed

        pick = delayed(_picked, pure=False, traverse=False)
        tasks = []
        for chunk, (a, b) in zip(self._chunks, self.chunk_bounds):
            here = indices[np.searchsorted(indices, a) : np.searchsorted(indices, b)] - a
            if len(here):
                tasks.append(pick(chunk, here))
        X, y, weights = (np.concatenate(parts) for parts in zip(*_computed(tasks)))
        return table_taken(X, y, weights, self.layout)

    def _scaled(self, chunk: Block) -> Block:
        return replace(chunk, shares=chunk.shares / self._weight_total)


@dataclass(frozen=True, eq=False)
class _Tables:
    """Inputs (N, d), targets (N, m) and weights (N, 1) or None as Dask arrays of known chunks."""

    X: Any
    y: Any
    weights: Any
    selection: Selection | None

    @classmethod
    def of(cls, X: Any, y: Any, weights: Any, wanted: Wanted) -> Self:
        given = {name: value for name, value in (("X", X), ("y", y), ("sample_weight", weights)) if value is not None}
        frames = _counted(
            {name: frame for name, value in given.items() if (frame := _as_frame(value, name)) is not None}
        )
        table = frames.get("X")
        if table is not None and all(isinstance(name, str) for name in table.columns):
            selection = Selection.of(table.columns, wanted, "X")
            inputs = table.array("X", selection.inputs)
        elif wanted.named:
            raise InvalidInputError(
                "columns are given by name, and X is a Dask Array or has columns without names: give a DataFrame"
            )
        else:
            selection = None
            inputs = _two_dimensional(X, "X") if table is None else table.array("X")

        def beside(name: str, names: tuple[str, ...]) -> Any:
            """Columns of X of these names, or what was given; None where nothing was."""
            if names and table is not None:
                return table.array(name, names)
            if name in frames:
                return frames[name].array(name)
            return _two_dimensional(given[name], name) if name in given else None

        weight = () if wanted.weight is None else (wanted.weight,)
        return cls(inputs, beside("y", wanted.targets), beside("sample_weight", weight), selection)

    def checked_length(self, n_inputs: int, n_outputs: int) -> int:
        """The number of rows, where shapes fit each other and the network."""
        n, d = self.X.shape
        if d != n_inputs:
            raise InvalidInputError(f"X has {d} columns, the network has {n_inputs} inputs")
        if self.y.shape[1] != n_outputs:
            raise InvalidInputError(f"y has {self.y.shape[1]} columns, the network has {n_outputs} output(s)")
        for array, name in ((self.y, "y"), (self.weights, "sample_weight")):
            if array is not None and len(array) != n:
                raise InvalidInputError(f"X has {n} samples and {name} has {len(array)}")
        if self.weights is not None and self.weights.shape[1] != 1:
            raise InvalidInputError(f"sample_weight has {self.weights.shape[1]} columns: one number a row is needed")
        if not n:
            raise InvalidInputError("X has no samples: at least one is needed")
        return int(n)

    def chunks(self, bounds: Sequence[tuple[int, int]]) -> list[Any]:
        """Tasks that give blocks with the weights themselves."""
        from dask import delayed

        rows = tuple(b - a for a, b in bounds)
        columns = []
        for array in (self.X, self.y, self.weights):
            if array is None:
                columns.append([None] * len(rows))
            else:
                columns.append(array.rechunk({0: rows, 1: -1}).to_delayed(optimize_graph=False).ravel().tolist())
        block = delayed(_block, pure=False, traverse=False)
        widths = self.X.shape[1], self.y.shape[1]
        return [block(*bound, widths, *parts) for bound, *parts in zip(bounds, *columns)]


def _as_frame(value: Any, name: str) -> Any:
    """A DataFrame, of a Series too; None for an Array.

    Raises
    ------
    InvalidInputError
        Another collection.
    """
    import dask.array

    if isinstance(value, dask.array.Array):
        return None
    kind = type(value)
    if hasattr(kind, "to_dask_array") and hasattr(kind, "to_frame") and name != "X":
        return value.to_frame(name)
    if hasattr(kind, "to_dask_array") and hasattr(value, "columns"):
        return value
    raise InvalidInputError(f"{name} is a {kind.__name__} of Dask: an Array, DataFrame or, for y, a Series is needed")


@dataclass(frozen=True, eq=False)
class _Frame:
    """A DataFrame: its columns, and its partitions with their numbers of rows."""

    columns: list[Any]
    partitions: list[tuple[Any, int]]

    def array(self, what: str, names: Sequence[str] | None = None) -> Any:
        """Columns of these names, or all, as an array of known chunks."""
        import dask.array
        from dask import delayed

        width = len(self.columns) if names is None else len(names)
        numbers = delayed(_numbers, pure=False)
        arrays = [
            dask.array.from_delayed(numbers(part, names, what, k), (n, width), dtype=np.float64)
            for k, (part, n) in enumerate(self.partitions)
            if n
        ]
        return dask.array.concatenate(arrays) if arrays else dask.array.empty((0, width))


def _counted(frames: dict[str, Any]) -> dict[str, _Frame]:
    """DataFrames with the lengths of their partitions, all counted in one go.

    Raises
    ------
    InvalidInputError
        A partition has other columns than its DataFrame.
    """
    from dask import delayed

    described = delayed(_described, pure=False)
    partitions = {name: frame.to_delayed() for name, frame in frames.items()}
    found = iter(_computed([described(part) for parts in partitions.values() for part in parts]))
    counted = {}
    for name, frame in frames.items():
        columns, lengths = list(frame.columns), []
        for k in range(len(partitions[name])):
            n, names = next(found)
            if names != columns:
                raise InvalidInputError(
                    f"partition {k} of {name} has the columns {names[:20]}, and the Dask DataFrame has {columns[:20]}: "
                    "all partitions need the same"
                )
            lengths.append(n)
        counted[name] = _Frame(columns, list(zip(partitions[name], lengths)))
    return counted


def _described(frame: Any) -> tuple[int, list[Any]]:
    return len(frame), list(frame.columns)


def _numbers(frame: Any, names: Sequence[str] | None, what: str, partition: int) -> Float:
    """Columns of one partition."""
    order = None if names is None else [column_names(frame).index(name) for name in names]
    try:
        return np.asarray(plain_array(frame, what, order), dtype=np.float64)
    except InvalidInputError as error:
        raise InvalidInputError(f"partition {partition} of a Dask DataFrame: {error}") from error


def _two_dimensional(array: Any, name: str) -> Any:
    """An Array whose chunks are known; a vector as a column where it is not X."""
    if any(np.isnan(n) for lengths in array.chunks for n in lengths):
        raise InvalidInputError(
            f"{name} is a Dask Array of unknown length: compute the sizes of its chunks first "
            f"({name}.compute_chunk_sizes()), or make it by DataFrame.to_dask_array(lengths=True)"
        )
    if array.dtype.kind not in "biuf":
        raise InvalidInputError(
            f"{name} has dtype {array.dtype}: real numbers are needed; encode text or categories as numbers first"
        )
    if array.ndim == 1 and name != "X":
        return array[:, None]
    if array.ndim != 2:
        raise InvalidInputError(f"{name} has shape {array.shape}: rows of samples are needed")
    return array


def _block(first: int, end: int, widths: tuple[int, int], X: Any, y: Any, weights: Any) -> Block:
    """What the chunks of the arrays hold, with the weights themselves."""
    n = end - first
    arrays = []
    for value, width, name in ((X, widths[0], "X"), (y, widths[1], "y"), (weights, 1, "sample_weight")):
        array = np.ones((n, 1)) if value is None else np.ascontiguousarray(plain_array(value, name), dtype=np.float64)
        if array.shape != (n, width):
            raise InvalidInputError(
                f"{name} has a chunk of shape {array.shape} at row {first}, where its Dask collection says "
                f"{(n, width)}: it is not what it says of itself"
            )
        arrays.append(array)
    return Block(first, arrays[0], arrays[1], arrays[2][:, 0])


def _sum_of(part: Part, rows: int, weight_total: float, chunk: Block) -> Sums:
    with one_thread():
        return sum_of_chunk(part, rows, replace(chunk, shares=chunk.shares / weight_total))


def _added(*terms: Sums) -> Sums:
    # not a list, which Dask would look through for every node of the tree
    return added(terms)


def _picked(chunk: Block, indices: NDArray[np.intp]) -> tuple[Float, Float, Float]:
    return chunk.X[indices], chunk.y[indices], chunk.shares[indices]


def _computed(tasks: Sequence[Any]) -> tuple[Any, ...]:
    """What the tasks give, by the scheduler that the user has.

    Raises
    ------
    InvalidInputError
        The cluster is lost, or a task ended several workers.
    """
    import dask

    try:
        results: tuple[Any, ...] = dask.compute(*tasks)
    except CertnetError:
        raise
    except _lost_errors() as error:
        raise InvalidInputError(
            f"the Dask cluster did not give a sum over the rows ({type(error).__name__}: {str(error)[:200]}): its "
            "scheduler is lost, or workers die of a chunk, as they do for want of memory; start it again with more "
            "memory for each worker, and resume"
        ) from error
    return results


def _lost_errors() -> tuple[type[BaseException], ...]:
    if "distributed" not in sys.modules:
        return (CancelledError,)
    from distributed import KilledWorker

    return KilledWorker, CancelledError, ConnectionError
