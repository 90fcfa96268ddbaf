r"""The inequalities of limited slopes in whitened weights: which features, which sides, which limits.

Feature i of a unit's weights in the data's units is ``w_i = τ T_i w'`` with ``T = basis / singular``: its direction in
whitened weights is the row T_i, here of norm one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certnet.core.validation import Float
from certnet.programs.slopes import SlopeLimits
from certnet.solvers.whitened import Whitened

__all__ = ["SlopeRows"]


@dataclass(frozen=True, eq=False)
class SlopeRows:
    """Rows of signs and of limits, q of the ones and b of the others, for h units and r whitened inputs.

    Attributes
    ----------
    signs, sides : ndarray, shapes (q, r), (b, r)
        Directions t.
    sign_of, side_of : ndarray, shapes (q, h), (b, h)
        ``σ_b s_j``.
    limits : ndarray, shape (b,)
    signed, limited : ndarray of int, shapes (q,), (b,)
        Features.
    sizes : ndarray, shape (d,)
        Norms of the rows of T.
    """

    signs: Float
    sides: Float
    sign_of: Float
    side_of: Float
    limits: Float
    signed: NDArray[np.intp]
    limited: NDArray[np.intp]
    sizes: Float

    @classmethod
    def of(cls, data: Whitened) -> SlopeRows:
        """Those of a whitened program; none where it has no limits."""
        slopes, d = data.program.slopes, data.program.n_inputs
        T = data.basis / data.singular
        sizes = np.linalg.norm(T, axis=1)
        unit = T / np.where(sizes > 0.0, sizes, 1.0)[:, None]
        s = data.directions[0]
        slopes = slopes or SlopeLimits(np.full(d, -np.inf), np.full(d, np.inf))
        signed = np.flatnonzero(slopes.signs)
        above = np.flatnonzero(np.isfinite(slopes.upper) & (slopes.upper > 0.0))
        below = np.flatnonzero(np.isfinite(slopes.lower) & (slopes.lower < 0.0))
        limited = np.concatenate([above, below])
        side = np.concatenate([np.ones(len(above)), -np.ones(len(below))])
        limit = np.concatenate([slopes.upper[above], -slopes.lower[below]])
        return cls(
            unit[signed],
            unit[limited],
            slopes.signs[signed][:, None] * s,
            side[:, None] * s,
            limit / (data.tau * sizes[limited]),
            signed,
            limited,
            sizes,
        )

    def slopes(self, W: Float) -> tuple[Float, Float]:
        """``g`` of signs (q, h) and of limits (b, h), of whitened weights (h, r)."""
        return self.sign_of * (self.signs @ W.T), self.side_of * (self.sides @ W.T)

    def pulled(self, sign: Float, limit: Float) -> Float:
        """``Σ_b value_bj σ_b s_j t_b`` of both kinds, (h, r)."""
        return (self.sign_of * sign).T @ self.signs + (self.side_of * limit).T @ self.sides

    def pushes(self, sign: Float, limit: Float) -> Float:
        """The same in the features themselves, (h, d), for ``τ w'``."""
        out = np.zeros((len(self.sizes), self.sign_of.shape[1]))
        np.add.at(out, self.signed, self.sign_of * sign)
        np.add.at(out, self.limited, self.side_of * limit)
        return (out / np.where(self.sizes > 0.0, self.sizes, 1.0)[:, None]).T

    def add(self, H: Float, sign: Float, limit: Float) -> None:
        """``Σ_b value_bj t_b t_bᵀ`` added to the blocks H (h, p, p)."""
        r = self.signs.shape[1]
        for weights, rows in ((sign, self.signs), (limit, self.sides)):
            products = (rows[:, :, None] * rows[:, None, :]).reshape(len(rows), r * r)
            H[:, :r, :r] += (weights.T @ products).reshape(-1, r, r)

    def columns(self, part: Float) -> Float:
        """F as columns: ``part_bj σ_b s_j t_b``, (h, r, b)."""
        return np.einsum("bj,ba->jab", self.side_of * part, self.sides)
