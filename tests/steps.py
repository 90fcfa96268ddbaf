"""Limits told in steps, never in seconds: a clock that moves when it is looked at, and calls that are counted."""

from __future__ import annotations

import cProfile
from dataclasses import dataclass, field


@dataclass
class Clock:
    """Stands in for ``time.perf_counter``: every look takes ``step`` seconds, so that a time limit counts the looks."""

    step: float
    looks: int = 0

    def __call__(self) -> float:
        self.looks += 1
        return self.step * self.looks


@dataclass
class Calls:
    """Counts the function calls, those of C included, that are made within it."""

    made: int = 0
    _profile: cProfile.Profile = field(default_factory=cProfile.Profile)

    def __enter__(self) -> Calls:
        self._profile.enable()
        return self

    def __exit__(self, *_: object) -> None:
        self._profile.disable()
        self.made = sum(entry.callcount for entry in self._profile.getstats())
