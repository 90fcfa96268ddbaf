"""How far a run is, and how long the rest will take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from certnet.study.tasks import Task

__all__ = ["Progress", "clock", "seconds_left"]


@dataclass(frozen=True)
class Progress:
    """Counts of tasks, and an estimate of the seconds that those left will take; None before there is one.

    ``running`` counts the tasks that some process is at now, and ``left`` those without a row, ``running`` included.
    """

    done: int
    failed: int
    running: int
    left: int
    seconds_left: float | None = None

    @property
    def total(self) -> int:
        return self.done + self.failed + self.left

    def __str__(self) -> str:
        rest = "" if self.seconds_left is None or self.left == 0 else f", about {clock(self.seconds_left)} to go"
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done + self.failed} of {self.total} done{failed}, {self.running} running{rest}"


def seconds_left(left: Iterable[Task], finished: Sequence[tuple[Task, Mapping[str, Any]]], width: int) -> float | None:
    """Expected seconds of the tasks left on ``width`` workers.

    A task takes the mean of the finished ones like it: of the same group, else of those that share most of its words
    (data set, method), else of all.
    """
    times = [(task.group, float(row["seconds"])) for task, row in finished if row["status"] == "done"]
    if not times:
        return None
    known: dict[tuple[tuple[str, str], ...], float] = {}
    total = 0.0
    for task in left:
        key = tuple(sorted(task.group.items()))
        if key not in known:
            known[key] = _expected(task.group, times)
        total += known[key]
    return total / max(1, width)


def _expected(group: Mapping[str, str], times: Sequence[tuple[Mapping[str, str], float]]) -> float:
    alike = [sum(other.get(key) == value for key, value in group.items()) for other, _ in times]
    best = max(alike)
    nearest = [seconds for count, (_, seconds) in zip(alike, times) if count == best]
    return sum(nearest) / len(nearest)


def clock(seconds: float) -> str:
    """``"45 s"``, ``"12 min"`` or ``"3.5 h"``."""
    if seconds < 90.0:
        return f"{max(1.0, seconds):.0f} s"
    return f"{seconds / 60.0:.0f} min" if seconds < 90.0 * 60.0 else f"{seconds / 3600.0:.1f} h"
