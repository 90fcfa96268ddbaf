"""L-BFGS whose initial inverse Hessian is a diagonal that the objective gives, on arrays of any package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from certnet.core.validation import Float

__all__ = ["Pair", "by_last_pair", "quasi_newton", "two_loops"]

Pair = tuple[Float, Float, float]
"""A step, the change of the gradient along it, and one over their product."""

Diagonal = Float | float
"""Of a matrix; a number stands for its multiple of the identity."""

_MEMORY: Final = 20  # pairs


def quasi_newton(
    value: Callable[[Float], tuple[float, Float, Diagonal]],
    x: Float,
    limit: int,
    look: Callable[[Float, float, float], bool],
    initial: Callable[[Diagonal, Sequence[Pair], Float], Float] | None = None,
) -> Float:
    """L-BFGS whose initial inverse Hessian is the diagonal that ``value`` gives; ``look(x, f, decrement)`` stops it.

    By default the diagonal is scaled down by what the last pair says; ``initial`` does something else with it.
    """
    pairs: list[Pair] = []
    f, g, H = value(x)
    for _ in range(limit):
        direction = two_loops(g, pairs, partial(initial or _scaled, H, pairs))
        slope, step = -float(g @ direction), 1.0
        if not slope < -1e-28:
            return x
        while True:
            moved = x - step * direction
            f_new, g_new, H_new = value(moved)
            # the second: values agree to rounding, so slopes judge (approximate Wolfe, Hager and Zhang 2005)
            flat = f_new <= f + 1e-14 and abs(float(g_new @ direction)) <= -0.9 * slope
            if f_new <= f + 1e-4 * step * slope or flat:
                break
            step *= 0.5
            if step < 1e-6:
                return x
        change, turn = moved - x, g_new - g
        curvature = float(change @ turn)
        if curvature > 0.0:
            pairs = [*pairs[-(_MEMORY - 1) :], (change, turn, 1.0 / curvature)]
        x, f, g, H = moved, f_new, g_new, H_new
        if look(x, f, -slope):
            return x
    return x


def two_loops(gradient: Float, pairs: Sequence[Pair], initial: Callable[[Float], Float]) -> Float:
    """The inverse Hessian times the gradient (Nocedal 1980), from the ``initial`` one, which may overwrite."""
    q, factors = 1.0 * gradient, []  # a copy
    for step, turn, inverse in reversed(pairs):
        factors.append(inverse * float(step @ q))
        q -= factors[-1] * turn
    q = initial(q)
    for (step, turn, inverse), factor in zip(pairs, reversed(factors)):
        q += (factor - inverse * float(turn @ q)) * step
    return q


def by_last_pair(H: Diagonal, pairs: Sequence[Pair], q: Float) -> Float:
    """The multiple of the identity that fits the last pair (Liu and Nocedal 1989), and H before there is one."""
    if pairs:
        _, turn, inverse = pairs[-1]
        q *= 1.0 / (inverse * float(turn @ turn))
    else:
        q *= H
    return q


def _scaled(H: Diagonal, pairs: Sequence[Pair], q: Float) -> Float:
    """The diagonal H, scaled by the last pair."""
    q *= H
    if pairs:
        _, turn, inverse = pairs[-1]
        q *= min(1.0, max(1e-2, 1.0 / (inverse * float(turn @ (H * turn)))))
    return q
