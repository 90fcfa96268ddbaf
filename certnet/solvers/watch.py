"""When to stop, and who looks on: what every loop asks between its steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from certnet.core.outcome import Status
from certnet.programs.restriction import Solution

__all__ = ["UNWATCHED", "InteriorStep", "Watch"]


@dataclass(frozen=True, eq=False)
class InteriorStep:
    """One iterate, for callbacks: its feasible value and the bound below, in the data's units; ``point()`` gives it."""

    step: int
    seconds: float
    value: float
    lower: float
    point: Callable[[], Solution]


@dataclass(frozen=True)
class Watch:
    """A deadline, a question and an onlooker.

    Attributes
    ----------
    deadline : float
        Time of ``time.perf_counter()`` after which nothing new is begun.
    should_stop : callable or None
        True ends the work.
    on_step : callable or None
        Called with every iterate of the own solver; what it raises is not caught here.
    """

    deadline: float = float("inf")
    should_stop: Callable[[], bool] | None = None
    on_step: Callable[[InteriorStep], None] | None = None

    @classmethod
    def within(
        cls,
        seconds: float | None,
        should_stop: Callable[[], bool] | None = None,
        on_step: Callable[[InteriorStep], None] | None = None,
    ) -> Watch:
        """With a deadline that is so many seconds from now; None for no deadline."""
        return cls(float("inf") if seconds is None else time.perf_counter() + seconds, should_stop, on_step)

    @property
    def left(self) -> float:
        """Seconds until the deadline; infinite without one."""
        return self.deadline - time.perf_counter()

    @property
    def expired(self) -> bool:
        return time.perf_counter() >= self.deadline

    @property
    def interrupted(self) -> bool:
        """Whether the caller asks to stop."""
        return self.should_stop is not None and self.should_stop()

    @property
    def verdict(self) -> Status | None:
        """Why to stop here, if there is a reason."""
        if self.interrupted:
            return Status.INTERRUPTED
        return Status.TIME_LIMIT if self.expired else None

    def show(self, step: InteriorStep) -> None:
        """Tell the onlooker."""
        if self.on_step is not None:
            self.on_step(step)


UNWATCHED: Final = Watch()
