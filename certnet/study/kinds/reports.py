"""What rows say, as values: tables are lists of columns, checks are statements looked at case by case."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Check", "Column", "Report", "ReportTable", "Rise", "filled", "tabulated"]

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


@dataclass(frozen=True)
class ReportTable:
    """A table of a page, its cells as text; the first row is the head. The note below explains its columns."""

    title: str
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Column(Generic[T_contra]):
    """A column of a table: its head, and what it says of a line, which may be anything that has the figures."""

    head: str
    cell: Callable[[T_contra], str]


def tabulated(title: str, columns: Sequence[Column[T]], lines: Iterable[T], note: str = "") -> ReportTable:
    """The table of these columns, a row per line below the head."""
    body = (tuple(column.cell(line) for column in columns) for line in lines)
    return ReportTable(title, (tuple(column.head for column in columns), *body), note)


def filled(tables: Iterable[ReportTable]) -> tuple[ReportTable, ...]:
    """Those that have more than their head."""
    return tuple(table for table in tables if len(table.rows) > 1)


@dataclass(frozen=True)
class Check:
    """A statement about the rows: in how many cases it was looked at, and where it does not hold.

    A required one that is violated fails the study.
    """

    statement: str
    cases: int
    violations: tuple[str, ...] = ()
    required: bool = True

    @classmethod
    def of(cls, statement: str, cases: Iterable[str], *, required: bool = True) -> Check:
        """From its cases one by one: "" where the statement holds, else what is there instead."""
        found = list(cases)
        return cls(statement, len(found), tuple(filter(None, found)), required)

    @property
    def verdict(self) -> str:
        if self.violations:
            return f"does not hold in {len(self.violations)} of {self.cases} cases"
        return f"holds in all {self.cases} cases" if self.cases else "nothing to look at yet"


@dataclass(frozen=True)
class Rise:
    """A figure that rose from a start to what a method made of it.

    Attributes
    ----------
    label : str
        Which method, start and data.
    figure : str
        What rose: "the test error".
    before, after : str
    trials : int
        That the two are means over.
    advice : str
        What may have been the cause, and what to try; the same text where it is the same.
    """

    label: str
    figure: str
    before: str
    after: str
    trials: int
    advice: str

    def __str__(self) -> str:
        mean = f"mean over {self.trials} trials" if self.trials > 1 else "one trial"
        return f"{self.label}: {self.figure} rose from {self.before} to {self.after} ({mean}); {self.advice}"

    @property
    def head(self) -> str:
        """What is said once of all that rose for the same reason."""
        return f"{self.figure[0].upper()}{self.figure[1:]} rose; {self.advice}."

    @property
    def item(self) -> str:
        """The rest, in a list below the head."""
        trials = f"{self.trials} trials" if self.trials > 1 else "one trial"
        return f"{self.label} {self.before} → {self.after} ({trials})"


@dataclass(frozen=True)
class Report:
    """What the rows say: tables, checks, paragraphs (Markdown), and what rose, which a reader must not overlook."""

    tables: tuple[ReportTable, ...]
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[Rise, ...] = ()
