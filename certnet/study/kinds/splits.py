"""The data set of a task: a built-in one by name and split, or a user's table."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certnet.data import Dataset, Scaling, dataset_info, load_dataset, load_table
from certnet.errors import CertnetWarning, InvalidInputError
from certnet.study.spec import Study, Table
from certnet.study.tasks import seed_for
from certnet.validation import Float

__all__ = ["check_data", "data_of", "load_split"]

_SPLITS = 10  # of the built-in sets


def data_of(study: Study, trial: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and settings of all data sets of a study in one trial: built-in sets take split ``trial mod 10``."""
    for name in study.spec.datasets:
        yield name, {"name": name, "split": trial % _SPLITS, "acknowledge_ethics": study.spec.acknowledge_ethics}
    digests = {table["name"]: table["sha256"] for table in study.settings["tables"]}
    for table in study.spec.tables:
        drawn = 0 if table.test_column else seed_for(study.spec.seed, table.name, "split", trial)
        yield table.name, {**table.model_dump(mode="json"), "sha256": digests[table.name], "split": drawn}


def check_data(study: Study) -> None:
    """Read every data set once, before any work.

    Raises
    ------
    DatasetError
        An unknown name, files that are not there, a set that must be asked for explicitly.
    FileFormatError, InvalidInputError
        A table that is missing, malformed, or lacks a column.
    """
    for name in study.spec.datasets:
        dataset_info(name)
    for _, settings in data_of(study, 0):
        load_split(settings, study.folder)


def load_split(settings: Mapping[str, Any], folder: str | Path = ".") -> Dataset:
    """The data set of :func:`data_of`'s settings, standardised by its training part."""
    if "csv" in settings:
        return _table_split(
            Table(**{key: settings[key] for key in Table.model_fields}), settings["split"], Path(folder)
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CertnetWarning)  # the ethical one: it was acknowledged in the study file
        return load_dataset(
            settings["name"], split=settings["split"], acknowledge_ethics=settings["acknowledge_ethics"]
        )


def _table_split(table: Table, seed: int, folder: Path) -> Dataset:
    X, y, names = load_table(folder / table.csv, table.target)
    is_test = _drawn(len(y), table, seed) if table.test_column is None else _marked(X, names, table)
    names, X = _chosen(X, names, table)
    scaling = Scaling.fit(X[~is_test], y[~is_test])
    return Dataset(
        name=table.name,
        X_train=scaling.transform(X[~is_test]),
        y_train=scaling.transform_target(y[~is_test]),
        X_test=scaling.transform(X[is_test]),
        y_test=scaling.transform_target(y[is_test]),
        feature_names=names,
        target_name=table.target,
        scaling=scaling,
        units="standardised",
        split=0,
        source=table.csv,
        licence="the user's own",
    )


def _drawn(n: int, table: Table, seed: int) -> NDArray[np.bool_]:
    held_out = round(table.test_fraction * n)
    if not 1 <= held_out < n:
        raise InvalidInputError(
            f"{table.csv} has {n} rows: test_fraction={table.test_fraction:g} leaves no row for one of the two parts"
        )
    return np.random.default_rng(seed).permutation(n) < held_out


def _marked(X: Float, names: tuple[str, ...], table: Table) -> NDArray[np.bool_]:
    name = str(table.test_column)
    values = X[:, _position(name, names, table)]
    if not set(values.tolist()) <= {0.0, 1.0} or len(set(values.tolist())) < 2:
        raise InvalidInputError(f"{table.csv}: the column {name!r} must hold 0 (training) and 1 (test), both of them")
    return values == 1.0


def _chosen(X: Float, names: tuple[str, ...], table: Table) -> tuple[tuple[str, ...], Float]:
    wanted = [name for name in names if name != table.test_column] if table.inputs is None else table.inputs
    if table.target in wanted or table.test_column in wanted or not wanted:
        raise InvalidInputError(
            f"{table.csv}: inputs must name at least one column, and neither target nor test_column"
        )
    return tuple(wanted), X[:, [_position(name, names, table) for name in wanted]]


def _position(name: str, names: tuple[str, ...], table: Table) -> int:
    if name not in names:
        raise InvalidInputError(
            f"{table.csv} has no column {name!r}: its columns are {', '.join(names)}, {table.target}"
        )
    return names.index(name)
