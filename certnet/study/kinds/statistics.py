"""Rows picked, grouped and averaged over trials, and columns of a table that do so: what all reports have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, TypeVar

from certnet.study.kinds.reports import Column
from certnet.study.tasks import Row

__all__ = ["Group", "failures", "finished", "grouped", "key_column", "mean_column", "mean_of", "named_groups"]

T = TypeVar("T")


def failures(rows: Iterable[Row]) -> list[Row]:
    """Rows that do not count."""
    return [row for row in rows if row["status"] != "done"]


def finished(rows: Iterable[Row], **having: object) -> list[Row]:
    """Rows that count, of those that have these values."""
    done = (row for row in rows if row["status"] == "done")
    return [row for row in done if all(row[name] == value for name, value in having.items())]


def grouped(rows: Iterable[T], key: Callable[[T], Any]) -> dict[Any, list[T]]:
    """Rows by a key, in the order of first appearance."""
    groups: dict[Any, list[T]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def mean_of(rows: Iterable[Row], name: str) -> float:
    """Mean of a column."""
    return fmean(row[name] for row in rows)


@dataclass(frozen=True, eq=False)
class Group:
    """Rows of all trials that share the values of ``key``: a line of a table."""

    key: tuple[str, ...]
    rows: Sequence[Row]


def named_groups(rows: Iterable[Row], *names: str) -> list[Group]:
    """Rows grouped by their values of these columns."""
    return [Group(key, same) for key, same in grouped(rows, lambda row: tuple(row[name] for name in names)).items()]


def key_column(head: str, place: int, empty: str = "") -> Column[Group]:
    """One of the values that the rows share, by its place in the key; another word for one that is empty."""
    return Column(head, lambda group: group.key[place] or empty)


def mean_column(head: str, name: str) -> Column[Group]:
    """The mean over the rows."""
    return Column(head, lambda group: f"{mean_of(group.rows, name):.4g}")
