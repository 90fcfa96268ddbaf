"""What the reports have in common: rows paired with their starts, and figures over trials."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any, TypeVar

from certnet.study.kinds.base import Row

__all__ = [
    "by_start",
    "curve_mean",
    "failures",
    "group_rows",
    "improvement",
    "key_of",
    "median_error",
    "signed",
    "whole_epochs",
]

T = TypeVar("T")
_TRIAL = ("data", "trial", "weight", "start")


def key_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a row shares with its start: data, trial, weight and the start's name."""
    return tuple(row[name] for name in _TRIAL)


def by_start(rows: Iterable[Row]) -> dict[tuple[Any, ...], dict[str, Row]]:
    """Finished rows by :func:`key_of`, then by method; the start itself under ``""``."""
    found: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        if row["status"] == "done":
            found.setdefault(key_of(row), {})[row["method"]] = row
    return found


def improvement(before: float, after: float) -> float:
    """``100 (before − after) / before``, in per cent of the objective before."""
    return 100.0 * (before - after) / before if before > 0.0 else 0.0


def group_rows(rows: Iterable[T], key: Callable[[T], Any]) -> dict[Any, list[T]]:
    """Rows by a key, in the order of first appearance."""
    groups: dict[Any, list[T]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def curve_mean(rows: Sequence[Row], name: str) -> dict[str, float]:
    """Mean over rows of a curve (``adversarial_mse``, ``certified_mse``), by radius."""
    return {epsilon: fmean(row[name][epsilon] for row in rows) for epsilon in rows[0][name]}


def median_error(rows: Sequence[Row]) -> float:
    """Y's criterion: the median over the radii of the adversarial error, here of its mean over trials."""
    return float(median(curve_mean(rows, "adversarial_mse").values()))


def failures(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row["status"] != "done"]


def signed(value: float) -> str:
    """Per cent with a sign and two digits."""
    return f"{value:+.2f} %"


def whole_epochs(ax: Any) -> None:
    """Ticks at whole numbers alone: there is no epoch 2.5."""
    ax.xaxis.get_major_locator().set_params(integer=True)
