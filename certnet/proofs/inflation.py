"""From a bound that floating point suggests to the nearest one that is proved."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["inflated"]


def inflated(
    proves: Callable[[float], object], guess: float, *, first: float = 1e-13, most: float = 1.0, way: float = 1.0
) -> float | None:
    """``guess (1 + way · step)`` for the first step of ``first``, 4 ``first``, 16 ``first``, … that is proved.

    Parameters
    ----------
    proves : callable
        Whether a bound is proved.
    guess : float
    first, most : float
        The first step, and where they end: None is returned when none below ``most`` will do.
    way : {1, -1}
        Upper bounds are raised, lower ones lowered.
    """
    step = first
    while step < most:
        bound = guess * (1.0 + way * step)
        if proves(bound):
            return bound
        step *= 4.0
    return None
