"""Samples named on the command line: an image set, an NPZ or IDX file of images, or a CSV table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from numpy.typing import NDArray

from certnet.cli.choices import DecimalPoint, PartOf
from certnet.core.errors import FileFormatError, InvalidInputError
from certnet.data import IMAGE_SETS, TableFormat, load_columns, load_table, read_idx, table_columns
from certnet.data import grey as to_grey
from certnet.data.idx import read_idx_pair
from certnet.data.npz import read_npz_samples
from certnet.data.table import separator_hint

__all__ = [
    "Categorical",
    "Data",
    "Decimal",
    "Drop",
    "Encoding",
    "Grey",
    "Labels",
    "Limit",
    "NoHeader",
    "Part",
    "Samples",
    "Sep",
    "Source",
    "Target",
    "one_part",
    "read_parts",
    "table_format",
]

_NAMES: Final = ", ".join(IMAGE_SETS)

Data = Annotated[str, typer.Argument(help=f"An image set ({_NAMES}), or a file: NPZ or IDX (images), CSV (a table).")]
Target = Annotated[str | None, typer.Option(help="CSV: column to predict; the others are the inputs, in order.")]
Drop = Annotated[list[str] | None, typer.Option(help="CSV: column to leave out; may be repeated.")]
Labels = Annotated[Path | None, typer.Option(help="IDX: the file of the labels.")]
Grey = Annotated[bool, typer.Option("--grey", help="Images with three channels as grey ones.")]
Limit = Annotated[int | None, typer.Option(help="At most so many samples, drawn at random by the seed.", min=1)]
Sep = Annotated[str, typer.Option(help="CSV: the character between cells; tab for tabulators.")]
Decimal = Annotated[DecimalPoint, typer.Option(help="CSV: the decimal point of its numbers.")]
Encoding = Annotated[str, typer.Option(help="CSV: encoding of its text, such as latin-1 or utf-16.")]
NoHeader = Annotated[
    bool, typer.Option("--no-header", help="CSV: the first line holds numbers; columns are x1, x2, ….")
]
Categorical = Annotated[
    list[str] | None,
    typer.Option(
        help="CSV: a column of categories, an input of 0 and 1 for each; A,B,… name them in order; may be repeated.",
        metavar="COLUMN|COLUMN=A,B,…",
    ),
]
Part = Annotated[PartOf, typer.Option(help="Of data that have both.", case_sensitive=False)]


@dataclass(frozen=True)
class Source:
    """What the options say about data; see their help."""

    data: str
    target: str | None = None
    drop: tuple[str, ...] = ()
    labels: Path | None = None
    grey: bool = False
    sep: str = ","
    decimal: str = "."
    encoding: str = "utf-8"
    no_header: bool = False
    categorical: tuple[str, ...] = ()

    @property
    def form(self) -> TableFormat:
        """How the table is written."""
        return table_format(self.sep, self.decimal, self.encoding, self.no_header, self.categorical)

    @property
    def is_table(self) -> bool:
        return _is_table(self.data)


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs (N, d), images as rows of pixels in [0, 1], and labels or targets (N,) where there are any."""

    X: NDArray[Any]
    y: NDArray[Any] | None = None

    def drawn(self, limit: int | None, seed: int = 0) -> Samples:
        """At most ``limit`` of the samples, drawn at random, in their order."""
        if limit is None or limit >= len(self.X):
            return self
        rows = np.sort(np.random.default_rng(seed).choice(len(self.X), limit, replace=False))
        return Samples(self.X[rows], None if self.y is None else self.y[rows])


def table_format(
    sep: str, decimal: str, encoding: str, no_header: bool, categorical: Sequence[str] | None = None
) -> TableFormat:
    """What the options of a table say, ``tab`` and ``\\t`` for a tabulator.

    Raises
    ------
    InvalidInputError
    """
    sep = "\t" if sep in ("tab", "\\t") else sep
    return TableFormat(sep, decimal, encoding, not no_header, tuple(categorical or ()))


def read_parts(source: Source, wanted: tuple[str, ...] = ("train", "test")) -> dict[str, Samples]:
    """The parts "train" and "test" of data that have them (of a named set those that are wanted), else "all".

    Raises
    ------
    InvalidInputError
        An option for another kind of data, or what :func:`certnet.data.load_table` refuses.
    FileFormatError
        The file is missing, damaged or of another format.
    DatasetError
        The files of a named set cannot be found.
    """
    kind = _kind(source.data)
    reader, options = _READERS[kind]
    for item in fields(source)[1:]:
        if item.name not in options and getattr(source, item.name) != item.default:
            raise InvalidInputError(f"--{item.name.replace('_', '-')} is not for {source.data}: it is read as {kind}")
    return reader(source, wanted)


def one_part(source: Source, part: str) -> Samples:
    """The part that is asked for, or all samples of data without parts.

    Raises
    ------
    InvalidInputError
        Data with parts that lack this one; what :func:`read_parts` refuses.
    """
    parts = read_parts(source, (part,))
    found = parts.get(part, parts.get("all"))
    if found is None:
        raise InvalidInputError(f"{source.data} has no part {part!r}: choose --part {' or '.join(parts)}")
    return found


def _kind(data: str) -> str:
    if data in IMAGE_SETS:
        return "an image set"
    if not Path(data).is_file():
        raise FileFormatError(f"{data[:200]!r} is neither an image set ({_NAMES}) nor a file: check the name")
    name = data.lower()
    if name.endswith(".npz"):
        return "an NPZ file"
    return "a table" if _is_table(data) else "an IDX file"


def _is_table(data: str) -> bool:
    return data.lower().endswith((".csv", ".csv.gz"))


def _named(source: Source, wanted: tuple[str, ...]) -> dict[str, Samples]:
    part = "all" if len(wanted) > 1 else wanted[0]
    from certnet.data import load_images  # here: it loads what downloads

    data = load_images(source.data, part=part, grey=source.grey)
    return {key: Samples(getattr(data, f"X_{key}"), getattr(data, f"y_{key}")) for key in wanted}


def _npz(source: Source, wanted: tuple[str, ...]) -> dict[str, Samples]:
    parts = read_npz_samples(source.data)
    return {key: Samples(_rows(images, source), labels) for key, (images, labels) in parts.items()}


def _idx(source: Source, wanted: tuple[str, ...]) -> dict[str, Samples]:
    if source.labels is not None:
        images, labels = read_idx_pair(source.data, source.labels)
        return {"all": Samples(_rows(images, source), labels)}
    pixels = read_idx(source.data)
    if pixels.ndim < 3:
        raise FileFormatError(f"{source.data} holds labels: name the file of the images, and this one by --labels")
    return {"all": Samples(_rows(pixels, source))}


def _table(source: Source, wanted: tuple[str, ...]) -> dict[str, Samples]:
    if source.target is not None:
        X, y, _ = load_table(source.data, source.target, drop=source.drop, form=source.form)
        return {"all": Samples(X, y)}
    names = [name for name in table_columns(source.data, source.form) if name not in source.drop]
    if len(names) < 2:
        raise InvalidInputError(
            f"{source.data} has no two columns to use as inputs: name the target by --target{separator_hint(names)}"
        )
    return {"all": Samples(load_columns(source.data, names, form=source.form))}


def _rows(images: NDArray[np.uint8], source: Source) -> NDArray[Any]:
    """Rows of pixels in [0, 1], as those of named sets."""
    pixels = images / np.float32(255)
    if source.grey and pixels.ndim == 4 and pixels.shape[-1] == 3:
        pixels = to_grey(pixels)
    return pixels.reshape(len(pixels), -1)


_Reader = Callable[[Source, tuple[str, ...]], dict[str, Samples]]
_READERS: Final[dict[str, tuple[_Reader, tuple[str, ...]]]] = {
    "an image set": (_named, ("grey",)),
    "an NPZ file": (_npz, ("grey",)),
    "an IDX file": (_idx, ("grey", "labels")),
    "a table": (_table, ("target", "drop", "sep", "decimal", "encoding", "no_header", "categorical")),
}
