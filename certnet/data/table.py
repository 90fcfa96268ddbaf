"""A user's own table: a CSV file with a header, plain or gzipped, every used cell a finite number."""

from __future__ import annotations

import csv
import gzip
import math
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np

from certnet.core.errors import FileFormatError, InvalidInputError
from certnet.core.files import path_of
from certnet.core.validation import Float

__all__ = ["load_table", "table_columns"]

_MISSING = frozenset({"", "?", "na", "n/a", "nan", "none", "null"})

Row = tuple[int, list[str]]  # the line of the file that it ends on, and its cells


def load_table(
    path: str | os.PathLike[str], target: str, *, drop: Sequence[str] = (), inputs: Sequence[str] | None = None
) -> tuple[Float, Float, tuple[str, ...]]:
    """Inputs and target of a comma-separated file.

    Parameters
    ----------
    path : path
        A text file in UTF-8, gzipped if its name ends in ``.gz``. The first line names the columns; blank lines are
        skipped.
    target : str
        Name of the column to predict.
    drop : sequence of str
        Columns to leave out; they may hold anything.
    inputs : sequence of str, optional
        Columns to read; by default all but the target and ``drop``.

    Returns
    -------
    X : ndarray of float64, shape (N, d)
    y : ndarray of float64, shape (N,)
    feature_names : tuple of str, length d
        In the order of the file, or of ``inputs``.

    Raises
    ------
    FileFormatError
        Missing, unreadable, empty, without header or rows, ragged, or with two columns of one name.
    InvalidInputError
        No such column, no input left, or a used cell that is text, empty, NaN or infinite.
    """
    source = path_of(path)
    with _readable(source) as rows:
        names = _header(rows, source)
        used = _used_columns(
            names,
            source,
            target,
            (drop,) if isinstance(drop, str) else tuple(drop),
            (inputs,) if isinstance(inputs, str) else inputs,
        )
        values = np.array([_numbers(row, names, used, source) for row in rows], dtype=np.float64)
    if not len(values):
        raise FileFormatError(f"{source} has a header and no rows: at least one sample is needed")
    return values[:, :-1].copy(), values[:, -1].copy(), tuple(names[j] for j in used[:-1])


def table_columns(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names in the header of a table.

    Raises
    ------
    FileFormatError
        As :func:`load_table`.
    """
    source = path_of(path)
    with _readable(source) as rows:
        return tuple(_header(rows, source))


@contextmanager
def _readable(source: Path) -> Iterator[Iterator[Row]]:
    """The rows of a file; what goes wrong while they are read is told as an error of the file."""
    try:
        with _open_text(source) as file:
            yield _rows(file, source)
    except FileNotFoundError as error:
        raise FileFormatError(f"{source} does not exist: check the path") from error
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{source} is not a text file in UTF-8: {error.reason}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise FileFormatError(f"{source} cannot be read (truncated or of another format): {error}") from error


def _open_text(source: Path) -> TextIO:
    # utf-8-sig: spreadsheets put a byte order mark in front of the first name
    if source.suffix == ".gz":
        return gzip.open(source, "rt", encoding="utf-8-sig", newline="")
    return source.open(encoding="utf-8-sig", newline="")


def _rows(file: TextIO, source: Path) -> Iterator[Row]:
    reader = csv.reader(file)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise FileFormatError(f"{source}, line {reader.line_num}: not a CSV file: {error}") from error


def _header(rows: Iterator[Row], source: Path) -> list[str]:
    first = next(rows, None)
    if first is None:
        raise FileFormatError(f"{source} is empty: a header and at least one row are needed")
    names = first[1]
    if all(_number(name) is not None for name in names):
        raise FileFormatError(f"{source} has no header (its first line holds only numbers): name the columns there")
    if "" in names:
        raise FileFormatError(
            f"{source}: column {names.index('') + 1} has no name; name it "
            "(a table written by pandas: save it with index=False)"
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise FileFormatError(f"{source} has more than one column named {', '.join(map(repr, twice))}: rename them")
    return names


def _used_columns(
    names: list[str], source: Path, target: str, drop: tuple[str, ...], chosen: Sequence[str] | None
) -> list[int]:
    """Positions of the inputs, then of the target."""
    for name in (target, *drop, *(chosen or ())):
        if name not in names:
            hint = " (columns are separated by commas)" if len(names) == 1 else ""
            raise InvalidInputError(f"{source} has no column {name!r}: its columns are {', '.join(names)}{hint}")
    if target in drop:
        raise InvalidInputError(f"the target {target!r} is among the columns to drop: keep it")
    if chosen is not None and target in chosen:
        raise InvalidInputError(f"the target {target!r} is among the inputs: leave it out")
    wanted = names if chosen is None else chosen
    inputs = [names.index(name) for name in wanted if name != target and name not in drop]
    if not inputs:
        raise InvalidInputError(f"{source} has no column left for the inputs, beside the target {target!r}")
    return [*inputs, names.index(target)]


def _numbers(row: Row, names: list[str], used: list[int], source: Path) -> list[float]:
    line, cells = row
    if len(cells) != len(names):
        raise FileFormatError(f"{source}, line {line}: {len(cells)} cells, the header has {len(names)}")
    return [_cell(cells[j], names[j], line, source) for j in used]


def _cell(text: str, name: str, line: int, source: Path) -> float:
    if text.lower() in _MISSING:
        raise InvalidInputError(
            f"{source}, line {line}: column {name!r} has no value ({text!r}): remove such rows or impute them first"
        )
    number = _number(text)
    if number is None:
        raise InvalidInputError(
            f"{source}, line {line}: column {name!r} holds text ({text!r}), numbers are needed: "
            "encode the column as numbers, or drop it"
        )
    if not math.isfinite(number):
        raise InvalidInputError(f"{source}, line {line}: column {name!r} is not finite ({text!r})")
    return number


def _number(text: str) -> float | None:
    # Python reads 1_000 as a number, no other program does
    if "_" in text:
        return None
    try:
        return float(text)
    except ValueError:
        return None
