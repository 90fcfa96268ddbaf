"""When a search is to end before it is done: at a time, or when somebody says so."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Final

from certnet.core.outcome import Status

__all__ = ["FOREVER", "Until", "listening"]


@dataclass(frozen=True)
class Until:
    """A time limit and a question, which searches ask between their steps.

    Attributes
    ----------
    deadline : float
        In the time of ``time.perf_counter()``.
    should_stop : callable, optional
        True once the search is to end, whoever says so.
    """

    deadline: float = math.inf
    should_stop: Callable[[], bool] | None = None

    @classmethod
    def within(cls, seconds: float | None, should_stop: Callable[[], bool] | None = None) -> Until:
        """From now on; without a limit for None."""
        return cls(math.inf if seconds is None else time.perf_counter() + seconds, should_stop)

    @classmethod
    def after(cls, should_stop: Callable[[], bool] | None, seconds: float) -> Until:
        """So many seconds after ``should_stop`` is first heard to say so: time to finish what is nearly done."""
        if should_stop is None:
            return FOREVER
        deadlines: list[float] = []

        def late() -> bool:
            if not deadlines and should_stop():
                deadlines.append(time.perf_counter() + seconds)
            return bool(deadlines) and time.perf_counter() > deadlines[0]

        return cls(math.inf, late)

    @property
    def reached(self) -> Status | None:
        """How a search that ends now has ended; None where it may go on."""
        if self.should_stop is not None and self.should_stop():
            return Status.INTERRUPTED
        return Status.TIME_LIMIT if time.perf_counter() > self.deadline else None


FOREVER: Final = Until()


@contextmanager
def listening(until: Until) -> Iterator[Until]:
    """The same, reached by Ctrl-C too: the first ends what asks, the second is a KeyboardInterrupt as ever.

    In the main thread alone; elsewhere signals are not heard.
    """
    if threading.current_thread() is not threading.main_thread():
        yield until
        return
    heard = threading.Event()
    before = signal.getsignal(signal.SIGINT)

    def hear(number: int, frame: FrameType | None) -> None:
        if heard.is_set() or before is None:
            raise KeyboardInterrupt
        heard.set()

    def should_stop() -> bool:
        return heard.is_set() or (until.should_stop is not None and until.should_stop())

    signal.signal(signal.SIGINT, hear)
    try:
        yield Until(until.deadline, should_stop)
    finally:
        signal.signal(signal.SIGINT, before)
