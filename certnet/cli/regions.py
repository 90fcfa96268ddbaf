"""Regions named on the command line: a box by its limits, around data, or a ball around a point; and regions told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
import typer

from certnet.claims.region import ALL, All, Ball, Box, Region
from certnet.cli.choices import Units
from certnet.cli.terminal import print_table, say
from certnet.core.digits import above, below
from certnet.core.errors import InvalidInputError
from certnet.core.spelling import did_you_mean
from certnet.core.validation import Float, positive_number
from certnet.data.table import COMMAS, TableFormat, load_columns, separator_hint, table_columns
from certnet.networks.network import Network

if TYPE_CHECKING:
    from certnet.rows import Rows

__all__ = [
    "Around",
    "AroundData",
    "BoxFiles",
    "DataOf",
    "Margin",
    "Place",
    "Radius",
    "RegionUnits",
    "RowOf",
    "plain_region",
    "say_region",
]

_SHOWN: Final = 24  # inputs of a region that are printed
_THIN: Final = 2.0**-36  # of a limit's size: between such limits rounding is most of what moves
_OUTWARD: Final = 2.0**-50  # of the terms of a conversion of units

BoxFiles = Annotated[
    tuple[Path, Path] | None,
    typer.Option(
        help="Of inputs between limits only: two CSV files of one row each; inf and -inf for no limit.",
        metavar="LOWER UPPER",
    ),
]
AroundData = Annotated[
    Path | None, typer.Option(help="Of inputs within the range of a table's rows only (CSV or Parquet); see --margin.")
]
Margin = Annotated[
    float | None,
    typer.Option(
        help="Part of its range by which every side of --around-data moves out, as 0.1 for a tenth. None by default."
    ),
]
Around = Annotated[Path | None, typer.Option(help="Of inputs within --radius of a point only: a CSV file of one row.")]
RowOf = Annotated[
    int | None, typer.Option("--row", help="Which row of --around's file: 1 is the first below the header.", min=1)
]
Radius = Annotated[float | None, typer.Option(help="Of the ball around --around, in the norm of the inputs (--norm).")]
DataOf = Annotated[
    Path | None,
    typer.Option(
        help="Table that the model was made from: tells where a region leaves it, and how inputs are named where "
        "slopes are asked for by input; see --units."
    ),
]
RegionUnits = Annotated[
    Units,
    typer.Option(
        help="Of --box, --around, --radius. model: those that MODEL takes. standardised: limits count standard "
        "deviations from the mean of --data, a radius those from the point, input by input (a box). table: those of "
        "--data, by whose mean and deviation the inputs of MODEL were standardised.",
        case_sensitive=False,
    ),
]


@dataclass(frozen=True)
class Place:
    """What the options say of a region; None where nothing is said.

    Attributes
    ----------
    box : pair of Path or None
        Files of the lower and of the upper limits.
    around_data, data, around : Path or None
    margin, radius : float or None
    row : int or None
        Of ``around``, counted from 1.
    units : {"model", "standardised", "table"}
        Of the files and the radius.
    target, drop : tuple of str
        Columns that are no inputs.
    form : TableFormat
        Of all CSV files.
    names_inputs : bool
        Is ``data`` of use without a region, for the names of the inputs?
    """

    box: tuple[Path, Path] | None = None
    around_data: Path | None = None
    margin: float | None = None
    around: Path | None = None
    radius: float | None = None
    row: int | None = None
    data: Path | None = None
    units: Units = "model"
    target: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    form: TableFormat = COMMAS
    names_inputs: bool = False

    def __post_init__(self) -> None:
        ways = [
            name
            for name, given in (("--box", self.box), ("--around-data", self.around_data), ("--around", self.around))
            if given is not None
        ]
        if len(ways) > 1:
            raise InvalidInputError(f"{' and '.join(ways)} each name a region: give one of them")
        for option, given, needs, there in (
            ("--radius", self.radius, "--around x.csv", self.around),
            ("--around", self.around, "--radius", self.radius),
            ("--row", self.row, "--around x.csv", self.around),
            ("--margin", self.margin, "--around-data d.csv", self.around_data),
            (
                "--data",
                self.data,
                "--box or --around, or --features",
                self.box or self.around or self.names_inputs or None,
            ),
        ):
            if given is not None and there is None:
                raise InvalidInputError(f"{option} needs {needs}")
        if self.units != "model" and not ways:
            raise InvalidInputError(f"--units {self.units} is of a region: give --box, --around-data or --around")
        if self.units == "standardised" and self.around_data is not None:
            raise InvalidInputError("--around-data is a range of rows, the same in any units: leave out --units")
        if self.units != "model" and self._table is None:
            raise InvalidInputError(f"--units {self.units} needs the table whose mean and deviation are meant: --data")
        for name, given in (("margin", self.margin), ("radius", self.radius)):
            if given is not None:
                positive_number(given, f"--{name}", zero=True)

    @property
    def _table(self) -> Path | None:
        return self.data if self.around_data is None else self.around_data

    @property
    def _files(self) -> tuple[Path, ...]:
        return tuple(file for file in (*(self.box or ()), self.around_data, self.around, self.data) if file is not None)

    @property
    def inputs(self) -> dict[str, Path | None]:
        """Every file that is read, by what it is."""
        lower, upper = self.box or (None, None)
        return {
            "the first file of --box": lower,
            "the second file of --box": upper,
            "the table of --around-data": self.around_data,
            "the point of --around": self.around,
            "the table of --data": self.data,
        }

    def region(self, network: Network, norm: str) -> tuple[Region, Sequence[str], list[str]]:
        """The region in the network's units, names of its inputs (or none), and what a user should know of it.

        Raises
        ------
        InvalidInputError
            Files that do not fit the network or each other; a region that is none.
        FileFormatError
            A file is missing, damaged or of another format.
        MissingDependencyError
            A Parquet file, and pyarrow is not installed.
        """
        if not self._files:
            if self.target or self.drop:
                raise InvalidInputError("--target and --drop are of the tables of a region: give --around-data d.csv")
            return ALL, network.about.inputs, []
        columns = _Columns.of(self, network)
        if self._files == (self.data,):
            return ALL, columns.names, []
        table = None if self._table is None else _Ranges.of(columns.rows(self._table))
        region, notes = self._placed(columns, table, norm)
        if table is not None and self.around_data is None:
            notes += table.mapped(self.units).beyond(region, columns.told)
        return region, columns.names, notes

    def _placed(self, columns: _Columns, table: _Ranges | None, norm: str) -> tuple[Region, list[str]]:
        if self.around_data is not None and table is not None:
            return Box.around(table.mapped(self.units).ends, self.margin or 0.0), []
        if self.box is not None:
            low, high = (columns.row(file, None, infinite=True) for file in self.box)
            box = _ordered(low, high, columns.told)
            notes = _thin(box, columns.told)
            if self.units == "model" or table is None:
                return box, notes
            shift, factor = table.maps(self.units)
            return _between(shift, factor, low, high), notes
        if self.around is None or self.radius is None:  # refused at construction
            return ALL, []
        point = columns.row(self.around, self.row)
        if self.units == "model" or table is None:
            return Ball(point, float(self.radius)), []
        note = (
            f"a radius in --units {self.units} is one for every input: the region is the box of {self.radius:g} to "
            "either side of the point"
        )
        if self.units == "standardised":  # the point is a row like any other
            reach = self.radius * table.scale
            return _between(point, reach, -np.ones(len(point)), np.ones(len(point))), [note]
        shift, factor = table.maps(self.units)
        return _between(shift, factor, point - self.radius, point + self.radius), [note]


@dataclass(frozen=True, eq=False)
class _Columns:
    """Which columns of the files of a region are the network's inputs, in its order."""

    place: Place
    of_network: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, place: Place, network: Network) -> _Columns:
        """Checked in all files.

        Raises
        ------
        InvalidInputError
            Columns that are missing, too many, or differ from file to file.
        """
        others = (*place.target, *place.drop)
        named = network.about.inputs if place.form.header else ()
        all_of = {file: _columns(file, place.form) for file in place._files}
        for name in others:
            if not any(name in found for found in all_of.values()):
                near = "".join(dict.fromkeys(map(separator_hint, all_of.values())))
                near = near or did_you_mean(name, [one for found in all_of.values() for one in found])
                raise InvalidInputError(f"no file of the region has the column {name!r}, which is to be left out{near}")
        first: tuple[Path, tuple[str, ...]] | None = None
        for file, found in all_of.items():
            inputs = tuple(name for name in found if name not in others)
            if named:
                _require_named(inputs, named, file)
                continue
            if len(inputs) != network.n_inputs:
                raise InvalidInputError(
                    f"{file} has {len(inputs)} columns for the inputs ({', '.join(inputs[:20])}), the model takes "
                    f"{network.n_inputs}: name the column to predict by --target, leave others out by --drop"
                    f"{separator_hint(found)}"
                )
            if first is not None and inputs != first[1]:
                raise InvalidInputError(
                    f"{first[0]} and {file} name their columns differently ({', '.join(first[1][:20])}; "
                    f"{', '.join(inputs[:20])}), and the model knows no names: write them in one order, that of the "
                    "model"
                )
            first = file, inputs
        return cls(place, named, named or (first[1] if first and place.form.header else ()))

    @property
    def told(self) -> Sequence[str]:
        """A name for every input."""
        return _Numbered() if not self.names else self.names

    def _inputs(self, file: Path) -> tuple[str, ...]:
        others = (*self.place.target, *self.place.drop)
        return self.of_network or tuple(name for name in _columns(file, self.place.form) if name not in others)

    def row(self, file: Path, row: int | None, *, infinite: bool = False) -> Float:
        """The numbers (d,) of the one row of a file, or of that which is named."""
        if _streamed(file):
            raise InvalidInputError(f"{file}: one row is needed, in a CSV file")
        values = load_columns(file, self._inputs(file), form=self.place.form, infinite=infinite)
        if row is None and len(values) != 1:
            which = "name one by --row" if file == self.place.around else "limits are one row"
            raise InvalidInputError(f"{file} has {len(values)} rows, one is needed: {which}")
        if row is not None and row > len(values):
            raise InvalidInputError(f"{file} has {len(values)} rows: --row {row} is none of them, counted from 1")
        found: Float = values[0 if row is None else row - 1]
        return found

    def rows(self, file: Path) -> Rows:
        """The table, streamed where it is large."""
        from certnet.rows import rows_of

        inputs = self._inputs(file)
        if not _streamed(file):
            values = load_columns(file, inputs, form=self.place.form)
            return rows_of(values, np.zeros(len(values)), n_inputs=len(inputs), n_outputs=1)
        if not self.place.target:
            raise InvalidInputError(f"{file}: name the column to predict by --target, or another one that is no input")
        target = self.place.target[0]
        return rows_of(file, target=target, columns=inputs, n_inputs=len(inputs), n_outputs=1)


@dataclass(frozen=True, eq=False)
class _Ranges:
    """Of every input of a table least and greatest value, mean and standard deviation (1 where it is constant)."""

    low: Float
    high: Float
    mean: Float
    scale: Float

    @classmethod
    def of(cls, rows: Rows) -> _Ranges:
        found = rows.describe()
        low, high = np.full(rows.n_inputs, np.inf), np.full(rows.n_inputs, -np.inf)
        for block in rows.chunks():
            low, high = np.minimum(low, block.X.min(axis=0)), np.maximum(high, block.X.max(axis=0))
        if not np.isfinite(found.scale).all():
            raise InvalidInputError("the squares of the table's deviations overflow: measure it in larger units")
        return cls(low, high, found.mean, np.where((found.scale > 0.0) & (low < high), found.scale, 1.0))

    def maps(self, units: str) -> tuple[Float, Float]:
        """``x = shift + factor · u`` from those units to the model's."""
        if units == "standardised":
            return self.mean, self.scale
        return -self.mean / self.scale, 1.0 / self.scale

    def mapped(self, units: str) -> _Ranges:
        """In the units of the model: standardised where the table is not."""
        if units != "table":
            return self
        low, high = (self.low - self.mean) / self.scale, (self.high - self.mean) / self.scale
        return _Ranges(low, high, np.zeros_like(low), np.ones_like(low))

    @property
    def ends(self) -> Float:
        return np.stack([self.low, self.high])

    def beyond(self, region: Region, names: Sequence[str]) -> list[str]:
        """Where a region leaves the table, if it does."""
        left, right = _ends(region)
        room = 1e-9 * (self.high - self.low) + 1e-12 * np.abs(self.ends).max(axis=0)
        outside = np.flatnonzero((left < self.low - room) | (right > self.high + room))
        if not len(outside):
            return []
        some = "; ".join(
            f"{names[i]}: {left[i]:g} to {right[i]:g}, the data {self.low[i]:g} to {self.high[i]:g}"
            for i in outside[:5]
        )
        more = f"; … ({len(outside)} in all)" if len(outside) > 5 else ""
        return [
            f"the region goes beyond the data ({some}{more}): the bound holds there as well, but the model has seen "
            "nothing like it; check units, too"
        ]


def plain_region(region: Region, norm: str) -> dict[str, Any]:
    """A region as JSON, null for no limit; empty for all inputs."""
    if isinstance(region, Box):
        low, high = ([float(x) if np.isfinite(x) else None for x in end] for end in (region.lower, region.upper))
        return {"box": {"lower": low, "upper": high}}
    if isinstance(region, Ball):
        return {"ball": {"centre": region.centre.tolist(), "radius": region.radius, "norm": norm}}
    return {}


def say_region(region: Region, norm: str, names: Sequence[str], *, slope: bool = True) -> None:
    """Print a region, in words and numbers; ``slope``: of a bound of all inputs together."""
    if isinstance(region, All):
        return
    d = len(_ends(region)[0])
    told = names if len(names) == d else _Numbered()
    lines: list[tuple[str, ...]]
    if isinstance(region, Ball):
        size = "l2 norm" if norm == "l2" else "each input by itself, l-infinity norm"
        say(f"for inputs within {region.radius:g} of this point ({size}), and no others:")
        lines = [("input", "point"), *((told[i], f"{x:.10g}") for i, x in enumerate(region.centre[:_SHOWN].tolist()))]
    else:
        held, free = int(np.sum(region.lower == region.upper)), int(np.sum(np.isinf(_ends(region)).any(axis=0)))
        more = "".join(f", {n} {what}" for n, what in ((held, "held"), (free, "without a limit")) if n)
        say(f"for inputs within these limits{more}, and no others:")
        lines = [("input", "from", "to"), *_limits(region, told)]
        if held and slope:
            say("  (an input that is held counts with the slope that it would have)")
    print_table(lines)
    if d > _SHOWN:
        say(f"… {d} inputs in all; the file of the certificate holds every limit")


def _limits(box: Box, names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for i, (low, high) in enumerate(zip(box.lower[:_SHOWN].tolist(), box.upper[:_SHOWN].tolist())):
        # ends inward: the claim is of no input that is not in the box
        yield names[i], _number(low, above), _number(high, below)


def _number(value: float, rounded: Callable[[float, int], str]) -> str:
    if not np.isfinite(value):
        return "no limit"
    exact = f"{value:.10g}"
    return exact if float(exact) == value else rounded(value, 10)


class _Numbered(Sequence[str]):
    """ "input 0", "input 1", …"""

    def __getitem__(self, i: Any) -> Any:
        return f"input {i}"

    def __len__(self) -> int:
        return 0


def _ends(region: Region) -> tuple[Float, Float]:
    """The smallest box around a region."""
    if isinstance(region, Box):
        return region.lower, region.upper
    if isinstance(region, Ball):
        return region.centre - region.radius, region.centre + region.radius
    return np.empty(0), np.empty(0)


def _streamed(file: Path) -> bool:
    from certnet.rows.parquet_ import PARQUET

    return file.is_dir() or file.suffix.lower() in PARQUET


def _columns(file: Path, form: TableFormat) -> tuple[str, ...]:
    if not _streamed(file):
        return table_columns(file, form)
    from certnet.rows.parquet_ import parquet_columns

    return parquet_columns(file)


def _require_named(inputs: Sequence[str], named: Sequence[str], file: Path) -> None:
    """All inputs of the model are there, and no others."""
    missing = [name for name in named if name not in inputs]
    if missing:
        meant = did_you_mean(missing[0], [name for name in inputs if name not in named])
        raise InvalidInputError(
            f"{file} has no input {', '.join(map(repr, missing[:20]))}, which the model takes{meant}: its inputs are "
            f"{', '.join(named[:40])}"
        )
    extra = [name for name in inputs if name not in named]
    if extra:
        raise InvalidInputError(
            f"{file} has the columns {', '.join(map(repr, extra[:20]))}, which the model does not take: name the "
            "column to predict by --target, leave others out by --drop"
        )


def _ordered(low: Float, high: Float, names: Sequence[str]) -> Box:
    """The box, unless a limit is above its upper one."""
    wrong = np.flatnonzero((low > high) | (low == np.inf) | (high == -np.inf))
    if len(wrong):
        i = int(wrong[0])
        raise InvalidInputError(
            f"{names[i]} would lie between {low[i]:g} and {high[i]:g} ({len(wrong)} such inputs): the file of the "
            "lower limits comes first"
        )
    return Box(low, high)


def _thin(box: Box, names: Sequence[str]) -> list[str]:
    """A word where limits are nearer to each other than rounding, and not equal."""
    with np.errstate(invalid="ignore"):
        width, size = box.upper - box.lower, np.maximum(np.abs(box.lower), np.abs(box.upper))
    thin = np.flatnonzero((width > 0.0) & (width < _THIN * size) & np.isfinite(size))
    if not len(thin):
        return []
    i = int(thin[0])
    return [
        f"the limits of {names[i]} are {width[i]:.1e} apart at {box.upper[i]:g} ({len(thin)} such inputs): the bound "
        "holds, but rounding in the model moves it as much; equal limits hold an input"
    ]


def _between(shift: Float, factor: Float, low: Float, high: Float) -> Box:
    """``shift + factor · u`` for low ≤ u ≤ high, rounded outward."""
    with np.errstate(over="ignore", invalid="ignore"):
        ends = [shift + factor * u for u in (low, high)]
        doubt = [_OUTWARD * (np.abs(shift) + np.abs(factor * u)) for u in (low, high)]
    left = np.where(np.isfinite(low), ends[0] - doubt[0], low)
    right = np.where(np.isfinite(high), ends[1] + doubt[1], high)
    return Box(left, right)
