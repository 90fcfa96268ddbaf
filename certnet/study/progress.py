"""How far a run is, and how long the rest will take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from types import MappingProxyType
from typing import Any, Final

from certnet.study.tasks import Settings, Task

__all__ = ["Progress", "clock", "expected_of", "seconds_left", "underway"]

_LONGER: Final = 0.1
_TELLING: Final = ("part", "objective", "method", "start", "data")


@dataclass(frozen=True)
class Progress:
    """Counts of tasks, and an estimate of the seconds that those left will take; None before there is one.

    ``running`` counts tasks in progress: of all processes where a folder is looked at, of its own where one runs it.
    ``left`` counts those without a row, ``running`` included.

    Attributes
    ----------
    underway : tuple of pairs of float
        Of every task in progress whose begin is known: the seconds that are expected of it, and those since its begin.
    width : int
        Workers.
    """

    done: int
    failed: int
    running: int
    left: int
    seconds_left: float | None = None
    underway: tuple[tuple[float, float], ...] = ()
    width: int = 1

    @property
    def total(self) -> int:
        return self.done + self.failed + self.left

    def after(self, seconds: float) -> Progress:
        """The same so much later, while no task has ended: those in progress have less to go, or are longer ones."""
        if self.seconds_left is None or not self.underway:
            return self
        gone = sum(_rest(mean, age) - _rest(mean, age + seconds) for mean, age in self.underway) / max(1, self.width)
        later = tuple((mean, age + seconds) for mean, age in self.underway)
        return replace(self, seconds_left=max(0.0, self.seconds_left - gone), underway=later)

    def __str__(self) -> str:
        rest = "" if self.seconds_left is None or self.left == 0 else f", about {clock(self.seconds_left)} to go"
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done + self.failed} of {self.total} done{failed}, {self.running} running{rest}"


def seconds_left(
    left: Iterable[Task[Settings]],
    finished: Sequence[tuple[Task[Settings], Mapping[str, Any]]],
    width: int,
    ages: Mapping[str, float] = MappingProxyType({}),
) -> float | None:
    """Expected seconds of the tasks left on ``width`` workers; ``ages``, by digest, are of those that have begun.

    A task takes the mean of the finished ones most like it: of the same part of the study, then of the same method,
    then start, then data set. None as long as nothing of some task's part has finished: starts may be cheap and
    refinements dear, or the other way round.
    """
    tasks, times = list(left), _times(finished)
    counts = Counter(map(_words, tasks))
    if not times or not {words[0] for words in counts} <= {words[0] for words in times}:
        return None
    whole = sum(count * _expected(words, times) for words, count in counts.items())
    gone = sum(mean - _rest(mean, age) for mean, age in underway(tasks, finished, ages))
    return (whole - gone) / max(1, width)


def expected_of(
    tasks: Sequence[Task[Settings]], finished: Sequence[tuple[Task[Settings], Mapping[str, Any]]]
) -> list[float | None]:
    """The mean of the rows most like each task; None where none is of its part of the study."""
    times = _times(finished)
    parts = {words[0] for words in times}
    return [_expected(_words(task), times) if _words(task)[0] in parts else None for task in tasks]


def underway(
    left: Iterable[Task[Settings]],
    finished: Sequence[tuple[Task[Settings], Mapping[str, Any]]],
    ages: Mapping[str, float],
) -> tuple[tuple[float, float], ...]:
    """Of the tasks that have begun the seconds that are expected, and those since; nothing is expected without rows."""
    times = _times(finished)
    begun = [task for task in left if task.digest in ages] if times else []
    return tuple((_expected(_words(task), times), ages[task.digest]) for task in begun)


def _times(finished: Sequence[tuple[Task[Settings], Mapping[str, Any]]]) -> dict[tuple[str, ...], list[float]]:
    times: dict[tuple[str, ...], list[float]] = {}
    for task, row in finished:
        if row["status"] == "done" or row["seconds"] > 0.0:  # else it was not run, for want of what it needs
            times.setdefault(_words(task), []).append(float(row["seconds"]))
    return times


def _rest(mean: float, age: float) -> float:
    """What a task of that age has to go: what is left of the mean, or a tenth of its age, for it is a longer one."""
    return max(mean - age, _LONGER * age)


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
