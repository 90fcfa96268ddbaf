"""Tables that a model is refined on: CSV files, which are loaded, and Parquet files, which are streamed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from certnet.core.errors import InvalidInputError
from certnet.core.spelling import did_you_mean
from certnet.data.table import COMMAS, TableFormat, load_columns, separator_hint, table_columns
from certnet.networks.network import Network
from certnet.programs.loss import SQUARED
from certnet.programs.objectives import outputs_of
from certnet.rows import Block, MemoryRows, Rows, rows_of
from certnet.rows.parquet_ import PARQUET, parquet_columns
from certnet.rows.sums import Sums

__all__ = ["Table", "in_memory", "squared_error"]

_CSV: Final = "--sep, --decimal, --encoding, --no-header and --categorical are for CSV files"


@dataclass(frozen=True)
class Table:
    """Which columns of a table are what, and how it is written.

    Attributes
    ----------
    targets : tuple of str
        One for each output of the model.
    drop : tuple of str
    weight : str or None
    form : TableFormat
        Of a CSV file.
    """

    targets: tuple[str, ...]
    drop: tuple[str, ...] = ()
    weight: str | None = None
    form: TableFormat = COMMAS

    @property
    def beside(self) -> tuple[str, ...]:
        """Columns that are neither inputs nor left out."""
        return (*self.targets, *(() if self.weight is None else (self.weight,)))

    def rows(self, path: Path, network: Network) -> Rows:
        """The samples of a file for a network.

        Raises
        ------
        InvalidInputError
            Columns that are missing, too many, or have two parts to play; cells that are no finite numbers.
        FileFormatError
            The file is missing, damaged or of another format.
        MissingDependencyError
            A Parquet file, and pyarrow is not installed.
        """
        streamed = path.is_dir() or path.suffix.lower() in PARQUET
        if streamed and self.form != COMMAS:
            raise InvalidInputError(f"{path} is a table of Parquet files: {_CSV}")
        columns = parquet_columns(path) if streamed else table_columns(path, self.form)
        named = network.about.inputs if self.form.header else ()
        inputs = self._inputs(columns, path, named)
        if len(self.targets) != network.n_outputs:
            raise InvalidInputError(
                f"the model has {network.n_outputs} output(s) and --target names {len(self.targets)}: name one column "
                "for each, in order"
            )
        if len(inputs) != network.n_inputs:
            raise InvalidInputError(
                f"{path} has {len(inputs)} columns for the inputs ({_some(inputs)}), the model takes "
                f"{network.n_inputs}: leave columns out by --drop, or name other ones as targets"
                f"{separator_hint(columns)}"
            )
        n, m = network.n_inputs, network.n_outputs
        if streamed:
            return rows_of(
                path, target=self.targets, sample_weight=self.weight, columns=inputs, n_inputs=n, n_outputs=m
            )
        more = () if self.weight is None else (self.weight,)
        values = load_columns(path, [*inputs, *self.targets, *more], form=self.form)
        weights = values[:, -1] if more else None
        if weights is not None and (weights < 0.0).any():
            i = int(np.argmax(weights < 0.0))
            raise InvalidInputError(
                f"{path}, row {i + 1} below the header: column {self.weight!r} holds {weights[i]:g}, and a weight is "
                "at least zero (--sample-weight)"
            )
        return rows_of(values[:, :n], values[:, n : n + m], weights, names=inputs, n_inputs=n, n_outputs=m)

    def _inputs(self, columns: Sequence[str], path: Path, named: tuple[str, ...]) -> tuple[str, ...]:
        """The columns that are the model's inputs, in its order: by name where it has names, else all others."""
        weight = () if self.weight is None else (self.weight,)
        parts = [("--target", self.targets), ("--sample-weight", weight), ("--drop", self.drop)]
        taken: dict[str, str] = {}
        for option, names in parts:
            for name in names:
                if name not in columns:
                    near = separator_hint(columns) or did_you_mean(name, columns)
                    raise InvalidInputError(f"{path} has no column {name!r} ({option}): it has {_some(columns)}{near}")
                if name in taken and not option == taken[name] == "--drop":
                    raise InvalidInputError(f"column {name!r} is named by {taken[name]} and by {option}: choose one")
                taken[name] = option
        if not named:
            return tuple(name for name in columns if name not in taken)
        missing = [name for name in named if name not in columns or name in taken]
        if missing:
            raise InvalidInputError(
                f"{path} has no input {', '.join(map(repr, missing))}, which the model takes: its inputs are "
                f"{', '.join(named)}, the columns are {', '.join(columns)}, of which "
                f"{' and '.join(map(repr, self.targets))} is the target"
            )
        extra = [name for name in columns if name not in taken and name not in named]
        if extra:
            raise InvalidInputError(
                f"{path} has the columns {', '.join(map(repr, extra))}, which the model does not take: leave them out "
                f"by --drop; its inputs are {', '.join(named)}"
            )
        return named


def squared_error(network: Network, rows: Rows) -> float:
    """``Σ_i s_i ‖f(x_i) − y_i‖²`` with the shares of the rows, 1/N where they have no weights."""
    return float(rows.total(_Squares(network))[0])


def in_memory(rows: Rows, option: str) -> MemoryRows:
    """The rows, where they are in memory.

    Raises
    ------
    InvalidInputError
        They are not; the message names the option that needs them there.
    """
    if isinstance(rows, MemoryRows):
        return rows
    raise InvalidInputError(
        f"{option} needs the table in memory, and its {len(rows)} rows are streamed from disk: leave {option} out, and "
        "bring the table in units of about one"
    )


@dataclass(frozen=True, eq=False)
class _Squares:
    """The squared error of a block."""

    network: Network

    def __call__(self, block: Block) -> Sums:
        return (SQUARED.value(outputs_of(self.network, block.X) - block.y, block.shares),)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:20]))
    return f"{shown}, … ({len(names)} in all)" if len(names) > 20 else shown
