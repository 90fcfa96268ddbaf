"""A user's own table: a CSV file, plain or gzipped, every used cell a finite number, or a category."""

from __future__ import annotations

import codecs
import csv
import gzip
import math
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TextIO

import numpy as np

from certnet.core.errors import FileFormatError, InvalidInputError
from certnet.core.files import path_of
from certnet.core.spelling import did_you_mean
from certnet.core.validation import Float
from certnet.data.categories import categories_in

__all__ = ["TableFormat", "load_columns", "load_table", "separator_hint", "table_columns"]

_MISSING = frozenset({"", "?", "na", "n/a", "nan", "none", "null"})

_SEPARATORS = (";", "\t", "|", ",")

Row = tuple[int, list[str]]  # the line of the file that it ends on, and its cells


@dataclass(frozen=True)
class TableFormat:
    """How a table is written.

    Attributes
    ----------
    sep : str
        The one character between cells.
    decimal : {".", ","}
        The point of decimal numbers.
    encoding : str
        Of the text, such as "utf-8", "latin-1" or "utf-16".
    header : bool
        Does the first line name the columns? Otherwise they are x1, x2, ….
    categorical : tuple of str
        Columns of categories: ``"colour"`` becomes columns of 0 and 1 in its place, ``colour_blue``, ``colour_red``,
        one for every category of the file, sorted; ``"colour=red,green,blue"`` names the categories and their order.

    Raises
    ------
    InvalidInputError
    """

    sep: str = ","
    decimal: str = "."
    encoding: str = "utf-8"
    header: bool = True
    categorical: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.sep) != 1 or self.sep in '\r\n" ' or self.sep.isalnum():
            raise InvalidInputError(f"sep must be one character that separates cells, such as ';', got {self.sep!r}")
        if self.decimal not in (".", ","):
            raise InvalidInputError(f"decimal must be '.' or ',', got {self.decimal!r}")
        if self.sep == self.decimal:
            raise InvalidInputError(f"sep and decimal are both {self.sep!r}: cells and numbers could not be told apart")
        try:
            codecs.lookup(self.encoding)
            "".encode(self.encoding)  # some codecs are not of text
        except (LookupError, TypeError, ValueError) as error:
            raise InvalidInputError(f"encoding {self.encoding!r} is unknown: utf-8, latin-1, utf-16, …") from error

    def number(self, text: str) -> float | None:
        """The number that a cell spells, or None."""
        # Python reads 1_000 as a number, no other program does
        if "_" in text:
            return None
        if self.decimal == ",":
            if "." in text:
                return None  # a point that is no decimal one may be one of thousands
            text = text.replace(",", ".")
        try:
            return float(text)
        except ValueError:
            return None

    @property
    def codec(self) -> str:
        """The encoding; spreadsheets put a byte order mark in front of the first name."""
        return "utf-8-sig" if codecs.lookup(self.encoding).name == "utf-8" else self.encoding


COMMAS = TableFormat()
"""Commas, points, UTF-8 and a header."""


def load_table(
    path: str | os.PathLike[str],
    target: str,
    *,
    drop: Sequence[str] = (),
    inputs: Sequence[str] | None = None,
    form: TableFormat = COMMAS,
) -> tuple[Float, Float, tuple[str, ...]]:
    """Inputs and target of a comma-separated file.

    Parameters
    ----------
    path : path
        A text file, gzipped if its name ends in ``.gz``. The first line names the columns; blank lines are skipped.
    target : str
        Name of the column to predict.
    drop : sequence of str
        Columns to leave out; they may hold anything.
    inputs : sequence of str, optional
        Columns to read; by default all but the target and ``drop``.
    form : TableFormat, optional
        Other separators, decimal commas, another encoding than UTF-8, or no header.

    Returns
    -------
    X : ndarray of float64, shape (N, d)
    y : ndarray of float64, shape (N,)
    feature_names : tuple of str, length d
        In the order of the file, or of ``inputs``; columns of categories by category.

    Raises
    ------
    FileFormatError
        Missing, unreadable, empty, without header or rows, ragged, or with two columns of one name.
    InvalidInputError
        No such column, no input left, or a used cell that is text, empty, NaN or infinite.
    """
    source = path_of(path)
    with _readable(source, form) as rows:
        names, rows = _header(rows, source, form)
        used = _used_columns(
            names,
            source,
            target,
            (drop,) if isinstance(drop, str) else tuple(drop),
            (inputs,) if isinstance(inputs, str) else inputs,
        )
        if used[-1] in categories_in(form.categorical, names, source):
            raise InvalidInputError(
                f"the target {target!r} is a column of numbers, and categorical names it: choose one"
            )
        values, called = _values(rows, names, used, source, form)
    if not len(values):
        raise FileFormatError(f"{source} has a header and no rows: at least one sample is needed")
    return values[:, :-1].copy(), values[:, -1].copy(), called[:-1]


def load_columns(
    path: str | os.PathLike[str], columns: Sequence[str], *, form: TableFormat = COMMAS, infinite: bool = False
) -> Float:
    """Columns of a table as they are named, (N, n), none of them a target.

    Parameters
    ----------
    path : path
        As for :func:`load_table`.
    columns : sequence of str
    form : TableFormat, optional
    infinite : bool
        Are ``inf`` and ``-inf`` numbers, too?

    Raises
    ------
    FileFormatError, InvalidInputError
        As :func:`load_table`.
    """
    source = path_of(path)
    with _readable(source, form) as rows:
        names, rows = _header(rows, source, form)
        used = _owners(columns, names, source, form)
        values, called = _values(rows, names, used, source, form, infinite)
    if not len(values):
        raise FileFormatError(f"{source} has a header and no rows: at least one is needed")
    for name in columns:
        if name not in called:  # a category
            raise InvalidInputError(
                f"{source} has no row of the category {name!r}: name all categories of its column "
                "(--categorical COLUMN=A,B,…)"
            )
    return values[:, [called.index(name) for name in columns]]


def table_columns(path: str | os.PathLike[str], form: TableFormat = COMMAS) -> tuple[str, ...]:
    """The names in the header of a table; columns of categories by category.

    Raises
    ------
    FileFormatError, InvalidInputError
        As :func:`load_table`.
    """
    source = path_of(path)
    with _readable(source, form) as rows:
        names, rows = _header(rows, source, form)
        kinds = categories_in(form.categorical, names, source)
        called: dict[int, tuple[str, ...]] = {}
        if kinds:
            lines, cells = _cells(rows, names, list(kinds), source)
            called = {j: kinds[j].encoded(cells[j], lines, source)[1] for j in kinds}
        return _distinct([name for j, one in enumerate(names) for name in called.get(j, (one,))], source)


@contextmanager
def _readable(source: Path, form: TableFormat) -> Iterator[Iterator[Row]]:
    """The rows of a file; what goes wrong while they are read is told as an error of the file."""
    try:
        with _open_text(source, form) as file:
            yield _rows(file, source, form)
    except FileNotFoundError as error:
        raise FileFormatError(f"{source} does not exist: check the path") from error
    except UnicodeError as error:
        reason = error.reason if isinstance(error, UnicodeDecodeError) else error
        raise FileFormatError(
            f"{source} is not a text file in {form.encoding.upper()}: {reason}; if it has another encoding, name it "
            "(--encoding latin-1, utf-16, …)"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise FileFormatError(f"{source} cannot be read (truncated or of another format): {error}") from error


def _open_text(source: Path, form: TableFormat) -> TextIO:
    if source.suffix == ".gz":
        return gzip.open(source, "rt", encoding=form.codec, newline="")
    return source.open(encoding=form.codec, newline="")


def _rows(file: TextIO, source: Path, form: TableFormat) -> Iterator[Row]:
    reader = csv.reader(file, delimiter=form.sep)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise FileFormatError(f"{source}, line {reader.line_num}: not a CSV file: {error}") from error


def _header(rows: Iterator[Row], source: Path, form: TableFormat) -> tuple[list[str], Iterator[Row]]:
    """The names of the columns, and the rows below them."""
    first = next(rows, None)
    if first is None:
        raise FileFormatError(f"{source} is empty: a header and at least one row are needed")
    names = first[1]
    if not form.header:
        return [f"x{j + 1}" for j in range(len(names))], chain([first], rows)
    if all(form.number(name) is not None for name in names):
        raise FileFormatError(
            f"{source} has no header (its first line holds only numbers): name the columns there, or say that there is "
            "none (--no-header), which calls them x1, x2, …"
        )
    if "" in names:
        raise FileFormatError(
            f"{source}: column {names.index('') + 1} has no name; name it "
            "(a table written by pandas: save it with index=False)"
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise FileFormatError(f"{source} has more than one column named {', '.join(map(repr, twice))}: rename them")
    return names, rows


def _used_columns(
    names: list[str], source: Path, target: str, drop: tuple[str, ...], chosen: Sequence[str] | None
) -> list[int]:
    """Positions of the inputs, then of the target."""
    for name in (target, *drop, *(chosen or ())):
        if name not in names:
            hint = separator_hint(names) or did_you_mean(name, names)
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


def _values(
    rows: Iterator[Row], names: list[str], used: list[int], source: Path, form: TableFormat, infinite: bool = False
) -> tuple[Float, tuple[str, ...]]:
    """The columns that are used, (N, n), those of categories by category, and their names."""
    kinds = categories_in(form.categorical, names, source)
    plain = [j for j in used if j not in kinds]
    if len(plain) == len(used):
        values = np.array([_numbers(row, names, used, source, form, infinite) for row in rows], dtype=np.float64)
        return values, tuple(names[j] for j in used)
    read = list(rows)
    numbers = np.array([_numbers(row, names, plain, source, form, infinite) for row in read], dtype=np.float64)
    lines, cells = _cells(iter(read), names, [j for j in used if j in kinds], source)
    blocks: list[Float] = []
    called: list[str] = []
    for j in used:
        if j in kinds:
            block, several = kinds[j].encoded(cells[j], lines, source)
        else:
            block, several = numbers.reshape(len(read), -1)[:, [plain.index(j)]], (names[j],)
        blocks.append(block)
        called += several
    return np.hstack(blocks), _distinct(called, source)


def _cells(
    rows: Iterator[Row], names: list[str], used: list[int], source: Path
) -> tuple[list[int], dict[int, list[str]]]:
    """The lines of the file, and the text of these columns."""
    lines: list[int] = []
    cells: dict[int, list[str]] = {j: [] for j in used}
    for line, row in rows:
        _require_whole(row, names, line, source)
        lines.append(line)
        for j in used:
            if row[j].lower() in _MISSING:
                raise InvalidInputError(_no_value(row[j], names[j], line, source))
            cells[j].append(row[j])
    return lines, cells


def _distinct(called: Sequence[str], source: Path) -> tuple[str, ...]:
    """The names, unless a category's is that of another column."""
    twice = sorted({name for name in called if called.count(name) > 1})
    if twice:
        raise InvalidInputError(f"{source}: a column and a category are both called {twice[0]!r}: rename the column")
    return tuple(called)


def _owners(columns: Sequence[str], names: list[str], source: Path, form: TableFormat) -> list[int]:
    """Positions of the columns that these are, or that they are categories of."""
    kinds = categories_in(form.categorical, names, source)
    found: dict[int, None] = {}
    for name in columns:
        of = [j for j, kind in kinds.items() if name.startswith(f"{kind.column}_")]
        if name in names and names.index(name) not in kinds:
            found[names.index(name)] = None
        elif of:
            found |= dict.fromkeys(of)
        else:
            near = separator_hint(names) or did_you_mean(name, names)
            raise InvalidInputError(f"{source} has no column {name!r}: its columns are {', '.join(names)}{near}")
    return list(found)


def separator_hint(names: Sequence[str]) -> str:
    """What it may mean that a table has one column only, whose name these are: the end of a message, or nothing."""
    seps = [sep for sep in _SEPARATORS if len(names) == 1 and sep in names[0]]
    if not seps:
        return ""
    told, word = ("tabulators", "tab") if seps[0] == "\t" else (repr(seps[0]), repr(seps[0]))
    return f"; its header looks as if it were separated by {told}: say so (--sep {word})"


def _numbers(
    row: Row, names: list[str], used: list[int], source: Path, form: TableFormat, infinite: bool = False
) -> list[float]:
    line, cells = row
    _require_whole(cells, names, line, source)
    return [_cell(cells[j], names[j], line, source, form, infinite) for j in used]


def _require_whole(cells: Sequence[str], names: Sequence[str], line: int, source: Path) -> None:
    if len(cells) != len(names):
        raise FileFormatError(f"{source}, line {line}: {len(cells)} cells, the header has {len(names)}")


def _no_value(text: str, name: str, line: int, source: Path, infinite: bool = False) -> str:
    advice = "write inf or -inf where there is no limit" if infinite else "remove such rows or impute them first"
    return f"{source}, line {line}: column {name!r} has no value ({text!r}): {advice}"


def _cell(text: str, name: str, line: int, source: Path, form: TableFormat, infinite: bool) -> float:
    if text.lower() in _MISSING:
        raise InvalidInputError(_no_value(text, name, line, source, infinite))
    number = form.number(text)
    if number is None:
        other = TableFormat(sep="|", decimal="." if form.decimal == "," else ",").number(text) is not None
        advice = (
            f"if its numbers have a decimal {'point' if form.decimal == ',' else 'comma'}, say so (--decimal)"
            if other
            else f"name it as one of categories, which become inputs of 0 and 1 (--categorical {name!r}; in a study's "
            f"table categorical = [{name!r}]), leave the column out, or train a pipeline that encodes it in Python "
            "(CertifiedRegressor with OneHotEncoder)"
        )
        raise InvalidInputError(
            f"{source}, line {line}: column {name!r} holds text ({text!r}), numbers are needed: {advice}"
        )
    if not (math.isfinite(number) or (infinite and not math.isnan(number))):
        raise InvalidInputError(f"{source}, line {line}: column {name!r} is not finite ({text!r})")
    return number
