"""The data set of a task: a built-in one by name and split, or a user's table."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certnet.core.errors import CertnetError, CertnetWarning, DatasetError, FileFormatError, InvalidInputError
from certnet.core.spelling import did_you_mean
from certnet.core.validation import Float
from certnet.data import Dataset, Scaling, dataset_info, load_dataset, load_table
from certnet.data.categories import categories_in
from certnet.data.table import TableFormat, table_columns
from certnet.study.spec import Part, Study, StudySpec, Table
from certnet.study.tasks import seed_for

__all__ = [
    "BuiltinSplit",
    "Split",
    "TableSplit",
    "check_data",
    "data_problems",
    "split_of",
    "standardised",
    "table_split",
]

_SPLITS = 10  # of the built-in sets


class BuiltinSplit(Part):
    """A set that certnet knows by name, in one of its splits."""

    name: str
    split: int
    acknowledge_ethics: bool

    def load(self, folder: str | Path = ".") -> Dataset:
        """Its training part, to which it is standardised, and its test part."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CertnetWarning)  # the ethical one: it was acknowledged in the study file
            return load_dataset(self.name, split=self.split, acknowledge_ethics=self.acknowledge_ethics)


class TableSplit(Table):
    """A user's table, as it was when the task was made; ``split`` is the seed by which rows are held out."""

    sha256: str
    split: int

    def load(self, folder: str | Path = ".") -> Dataset:
        """The same of the table, whose path leads from ``folder``."""
        X, y, read = _read(self, Path(folder))
        is_test = _held_out(X, read, self, self.split)
        _check_varies(y[~is_test], self)
        return _of_table(self, X, y, read, is_test)


Split = BuiltinSplit | TableSplit


def split_of(study: Study[StudySpec], name: str, trial: int) -> Split:
    """A data set in one trial: built-in sets take split ``trial mod 10``."""
    spec = study.spec
    if name in spec.datasets:
        return BuiltinSplit(name=name, split=trial % _SPLITS, acknowledge_ethics=spec.acknowledge_ethics)
    return table_split(study, name, trial)


def table_split(study: Study[StudySpec], name: str, trial: int) -> TableSplit:
    """A user's table in one trial: other rows are held out in every one, unless a column says which."""
    plain = next(table for table in study.settings["tables"] if table["name"] == name)
    drawn = 0 if plain["test_column"] else seed_for(study.spec.seed, name, "split", trial)
    return TableSplit(**plain, split=drawn)


def check_data(study: Study[StudySpec]) -> None:
    """Read every data set once, before any work; a refusal says where in the study file the set is named.

    Raises
    ------
    DatasetError
        An unknown name, files that are not there, a set that must be asked for explicitly.
    FileFormatError, InvalidInputError
        A table that is missing, malformed, lacks a column, or whose target does not vary.

    Warns
    -----
    CertnetWarning
        An ethically problematic set was asked for.
    """
    for look in _looks(study):
        look()


def data_problems(study: Study[StudySpec]) -> list[str]:
    """All that :func:`check_data` would refuse, set by set."""
    found: list[str] = []
    for look in _looks(study):
        try:
            look()
        except CertnetError as error:
            found.append(str(error))
    return found


def _looks(study: Study[StudySpec]) -> Iterator[Callable[[], None]]:
    """A look at every data set, which raises where it cannot be used."""
    for name in study.spec.datasets:
        yield partial(_check_set, study, name)
    for i, table in enumerate(study.spec.tables):
        yield partial(_check_table, study, ("tables", i), table)


def _check_set(study: Study[StudySpec], name: str) -> None:
    try:
        _check_concern(name, study)
        split_of(study, name, 0).load(study.folder)
    except DatasetError as error:
        raise DatasetError(f"{study.place('datasets')}: {error}") from error


def _check_concern(name: str, study: Study[StudySpec]) -> None:
    concern = dataset_info(name).concern
    if not concern:
        return
    if not study.spec.acknowledge_ethics:
        raise DatasetError(
            f"{name} is ethically problematic: {concern}. Use another set; to reproduce a published experiment, write "
            "acknowledge_ethics = true at the top of the file"
        )
    warnings.warn(f"{name} is ethically problematic: {concern}", CertnetWarning, stacklevel=4)


def _check_table(study: Study[StudySpec], path: tuple[str | int, ...], table: Table) -> None:
    seed, key = table_split(study, table.name, 0).split, "csv"
    try:
        columns = table_columns(study.folder / table.csv)
        marks = [] if table.test_column is None else [table.test_column]
        for at, names in (("target", [table.target]), ("test_column", marks), ("inputs", table.inputs or [])):
            key = at
            for name in names:
                if name not in columns:
                    hint = " (columns are separated by commas)" if len(columns) == 1 else did_you_mean(name, columns)
                    raise InvalidInputError(
                        f"{table.csv} has no column {name!r}: its columns are {', '.join(columns)}{hint}"
                    )
        key = "categorical"
        categories_in(table.categorical, columns, study.folder / table.csv)
        key = "inputs"
        _inputs(columns, table)
        key = "csv"
        X, y, read = _read(table, study.folder)
        key = "test_fraction" if table.test_column is None else "test_column"
        is_test = _held_out(X, read, table, seed)
        key = "target"
        _check_varies(y[~is_test], table)
        key = "csv"
        _of_table(table, X, y, read, is_test)
    except (FileFormatError, InvalidInputError) as error:
        raise type(error)(f"{study.place(*path, key)}: {error}") from error


def standardised(X: Float, y: Float, train: NDArray[Any], test: NDArray[Any], **about: Any) -> Dataset:
    """The rows of two parts, given by mask or number, scaled by the first; ``about`` are the other fields."""
    scaling = Scaling.fit(X[train], y[train])
    return Dataset(
        X_train=scaling.transform(X[train]),
        y_train=scaling.transform_target(y[train]),
        X_test=scaling.transform(X[test]),
        y_test=scaling.transform_target(y[test]),
        scaling=scaling,
        units="standardised",
        **about,
    )


def _of_table(table: Table, X: Float, y: Float, read: tuple[str, ...], is_test: NDArray[np.bool_]) -> Dataset:
    names = tuple(name for name in read if name != table.test_column)
    return standardised(
        X[:, [read.index(name) for name in names]],
        y,
        ~is_test,
        is_test,
        name=table.name,
        feature_names=names,
        target_name=table.target,
        split=0,
        source=table.csv,
        licence="the user's own",
    )


def _read(table: Table, folder: Path) -> tuple[Float, Float, tuple[str, ...]]:
    """The columns that are needed, and no others: those may hold text or gaps."""
    needed = None
    if table.inputs is not None:
        needed = [*table.inputs, *([] if table.test_column is None else [table.test_column])]
    form = TableFormat(categorical=tuple(table.categorical))
    return load_table(folder / table.csv, table.target, inputs=needed, form=form)


def _inputs(columns: Sequence[str], table: Table) -> tuple[str, ...]:
    """Names of the inputs; by default all columns but the target and the one that marks what is held out."""
    others = [name for name in columns if name not in (table.target, table.test_column)]
    wanted = others if table.inputs is None else table.inputs
    if not wanted or not set(wanted) <= set(others):
        raise InvalidInputError(
            f"{table.csv}: inputs must name at least one column, and neither target nor test_column"
        )
    return tuple(wanted)


def _held_out(X: Float, names: tuple[str, ...], table: Table, seed: int) -> NDArray[np.bool_]:
    return _drawn(len(X), table, seed) if table.test_column is None else _marked(X, names, table)


def _drawn(n: int, table: Table, seed: int) -> NDArray[np.bool_]:
    held_out = round(table.test_fraction * n)
    if not 1 <= held_out < n:
        raise InvalidInputError(
            f"{table.csv} has {n} rows: test_fraction={table.test_fraction:g} leaves no row for one of the two parts"
        )
    return np.random.default_rng(seed).permutation(n) < held_out


def _marked(X: Float, names: tuple[str, ...], table: Table) -> NDArray[np.bool_]:
    name = str(table.test_column)
    values = X[:, names.index(name)]
    if not set(values.tolist()) <= {0.0, 1.0} or len(set(values.tolist())) < 2:
        raise InvalidInputError(f"{table.csv}: the column {name!r} must hold 0 (training) and 1 (test), both of them")
    return values == 1.0


def _check_varies(y: Float, table: Table) -> None:
    if (y == y[0]).all():
        raise InvalidInputError(
            f"{table.csv}: the target {table.target!r} is {y[0]:g} in all rows of the training part, so there is "
            "nothing to learn: name another column"
        )
