r"""Limits on how the output may change with single features, for all inputs: linear in the product weights.

With one hidden layer of ReLU and one output, ``∂f/∂x_i = Σ_j s_j u_ji 1[unit j active]`` lies in

    [ Σ_j min(s_j u_ji, 0), Σ_j max(s_j u_ji, 0) ]

and for every subset of the units that can be active alone. The program asks for ``lower_i ≤`` the left end and the
right end ``≤ upper_i``, with ``lower_i ≤ 0 ≤ upper_i``: a limit of zero makes f monotone, and is the sign condition
``s_j u_ji ≥ 0`` (or ``≤ 0``) for every unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certnet.core.errors import InvalidInputError, UnsupportedModelError
from certnet.core.validation import Float

__all__ = ["SlopeLimits"]

_MARGIN = 1e-12  # relative, that sums are kept away from their limits: rounding of the network's products


@dataclass(frozen=True, eq=False)
class SlopeLimits:
    """``lower_i ≤ ∂f/∂x_i ≤ upper_i``.

    Attributes
    ----------
    lower : ndarray, shape (d,)
        At most zero; −∞ where there is no limit.
    upper : ndarray, shape (d,)
        At least zero; ∞ where there is no limit.
    """

    lower: Float
    upper: Float

    @classmethod
    def of(
        cls,
        n_inputs: int,
        monotone: ArrayLike | None = None,
        lower: ArrayLike | None = None,
        upper: ArrayLike | None = None,
    ) -> SlopeLimits | None:
        """Limits of d features; None where nothing is limited.

        Parameters
        ----------
        n_inputs : int
        monotone : array_like of -1, 0 and 1, shape (d,), optional
            1: f never falls as the feature grows, -1: it never rises, 0: no condition.
        lower, upper : array_like, shape (d,), optional
            In units of the output per unit of the feature; infinite where there is none.

        Raises
        ------
        InvalidInputError
            Another shape, NaN, signs other than these, a lower limit above zero or an upper one below.
        """
        low = _limits(lower, -np.inf, n_inputs, "lower")
        high = _limits(upper, np.inf, n_inputs, "upper")
        if (low > 0.0).any() or (high < 0.0).any():
            where = int(np.argmax((low > 0.0) | (high < 0.0)))
            raise InvalidInputError(
                f"the limits [{low[where]:g}, {high[where]:g}] on the slope in feature {where} leave out zero: a ReLU "
                "network with one hidden layer may be flat, so give a lower limit of at most 0 and an upper one of at "
                "least 0"
            )
        if monotone is not None:
            signs = np.asarray(monotone)
            if signs.shape != (n_inputs,) or not np.isin(signs, (-1, 0, 1)).all():
                raise InvalidInputError(f"monotone signs are -1, 0 or 1, one for each of {n_inputs} features")
            low, high = np.where(signs > 0, 0.0, low), np.where(signs < 0, 0.0, high)
        return cls(low, high) if np.isfinite(low).any() or np.isfinite(high).any() else None

    def require(self, n_outputs: int, n_inputs: int) -> None:
        """Raises UnsupportedModelError for several outputs, InvalidInputError for another number of features."""
        if n_outputs != 1:
            raise UnsupportedModelError(f"limits on slopes are for one output, the network has {n_outputs}")
        if len(self.lower) != n_inputs:
            raise InvalidInputError(f"limits on the slopes of {len(self.lower)} features: there are {n_inputs}")

    def times(self, factor: float) -> SlopeLimits:
        """Limits of slopes in other units: multiplied by a positive factor."""
        return SlopeLimits(self.lower * factor, self.upper * factor)

    @property
    def signs(self) -> NDArray[np.intp]:
        """1 where f may not fall, −1 where it may not rise, 0 elsewhere, (d,)."""
        return (self.lower == 0.0).astype(np.intp) - (self.upper == 0.0).astype(np.intp)

    def ends(self, directions: Float, U: Float) -> tuple[Float, Float]:
        """``Σ_j min(s_j u_ji, 0)`` and ``Σ_j max(s_j u_ji, 0)`` of weights U (k, d + 1), (d,) each."""
        slopes = directions[0][:, None] * U[:, :-1]
        return np.minimum(slopes, 0.0).sum(axis=0), np.maximum(slopes, 0.0).sum(axis=0)

    def violation(self, directions: Float, U: Float) -> float:
        """What the ends exceed the limits by, relative to these or to the largest weight; 0 inside."""
        low, high = self.ends(directions, U)
        size = max(float(np.abs(U).max(initial=0.0)), 1e-300)
        worst = 0.0
        for excess, limit in ((self.lower - low, self.lower), (high - self.upper, self.upper)):
            kept = np.isfinite(limit)
            worst = float(np.max(excess[kept] / np.maximum(np.abs(limit[kept]), size), initial=worst))
        return worst

    def within(self, directions: Float, U: Float) -> Float:
        """U with the slopes of every feature that is beyond a limit scaled back to it: exact signs, sums a hair inside.

        For what solvers miss the limits by.
        """
        slopes = directions[0][:, None] * U[:, :-1]
        low, high = self.ends(directions, U)
        # factors of the negative and of the positive parts
        down, up = _shrinking(-self.lower, -low), _shrinking(self.upper, high)
        kept = np.where(slopes < 0.0, slopes * down, slopes * up)
        return np.column_stack([directions[0][:, None] * kept, U[:, -1]])


def _limits(value: ArrayLike | None, default: float, n: int, name: str) -> Float:
    if value is None:
        return np.full(n, default)
    array = np.asarray(value, dtype=np.float64)
    if array.shape != (n,) or np.isnan(array).any():
        raise InvalidInputError(f"{name} limits on slopes are {n} numbers, one for each feature")
    return array


def _shrinking(limit: Float, reached: Float) -> Float:
    """``limit / reached`` where that is below one."""
    over = reached > limit * (1.0 - _MARGIN)
    return np.where(over & (reached > 0.0), limit * (1.0 - _MARGIN) / np.where(reached > 0.0, reached, 1.0), 1.0)
