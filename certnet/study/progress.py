"""How far a run is, and how long the rest will take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from certnet.study.tasks import Settings, Task

__all__ = ["Progress", "clock", "seconds_left"]

_TELLING: Final = ("part", "objective", "method", "start", "data")


@dataclass(frozen=True)
class Progress:
    """Counts of tasks, and an estimate of the seconds that those left will take; None before there is one.

    ``running`` counts tasks in progress: of all processes where a folder is looked at, of its own where one runs it.
    ``left`` counts those without a row, ``running`` included.
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


def seconds_left(
    left: Iterable[Task[Settings]], finished: Sequence[tuple[Task[Settings], Mapping[str, Any]]], width: int
) -> float | None:
    """Expected seconds of the tasks left on ``width`` workers.

    A task takes the mean of the finished ones most like it: of the same part of the study, then of the same method,
    then start, then data set. None as long as nothing of some task's part has finished: starts may be cheap and
    refinements dear, or the other way round.
    """
    times: dict[tuple[str, ...], list[float]] = {}
    for task, row in finished:
        if row["status"] == "done" or row["seconds"] > 0.0:  # else it was not run, for want of what it needs
            times.setdefault(_words(task), []).append(float(row["seconds"]))
    counts = Counter(map(_words, left))
    if not times or not {words[0] for words in counts} <= {words[0] for words in times}:
        return None
    return sum(count * _expected(words, times) for words, count in counts.items()) / max(1, width)


def _words(task: Task[Settings]) -> tuple[str, ...]:
    """What the task's duration depends on, the most telling first."""
    return tuple(task.group.get(word, "") for word in _TELLING)


def _expected(words: tuple[str, ...], times: Mapping[tuple[str, ...], Sequence[float]]) -> float:
    likeness = {other: tuple(a == b for a, b in zip(words, other)) for other in times}
    best = max(likeness.values())
    return fmean(seconds for other, found in times.items() if likeness[other] == best for seconds in found)


def clock(seconds: float) -> str:
    """``"45 s"``, ``"12 min"`` or ``"3.5 h"``."""
    if seconds < 90.0:
        return f"{max(1.0, seconds):.0f} s"
    return f"{seconds / 60.0:.0f} min" if seconds < 90.0 * 60.0 else f"{seconds / 3600.0:.1f} h"
