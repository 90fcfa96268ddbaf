r"""A smooth stand-in for the best LipSDP bound of one hidden layer, as a function of the weights.

With the elimination of the multipliers in :mod:`certnet.searches.shallow` and ``G = (R; Q)(R; Q)ᵀ``,

    L* = max { Σ_j ( V_:jᵀ G_QR w_j + √(w_jᵀ G_RR w_j · V_:jᵀ G_QQ V_:j) ) : G ⪰ 0, tr G = 1 },

concave in G. Minimising over the weights drives them to where the maximiser is not unique, and L* has a kink there.
Adding ``ε (log det G + n log n)``, n = d + m, makes it unique: L_ε is smooth, rises to L* as ε falls, is found in a
few Newton steps from the last G, and its gradient is that of the sum at fixed G (Danskin).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from certnet.core.validation import Float

__all__ = ["MAX_ORDER", "SmoothedBound"]

MAX_ORDER: Final = 40
"""Largest d + m: a Newton step has (d + m)(d + m + 1)/2 unknowns."""

_NEGLIGIBLE = 1e-14  # units this much smaller than the largest are left out
_LEAST = 1e-9  # ε relative to Σ_j ‖w_j‖ ‖V_:j‖: Newton's method loses its footing below
_WARM_STEPS, _COLD_STEPS = 12, 40  # of Newton's method
_CONVERGED = 1e-3  # promised rise relative to ε at which the last step is taken: it leaves about the square


@dataclass(frozen=True, eq=False)
class _Entries:
    """Upper triangle of a symmetric matrix G = [G_RR, G_RQ; G_QR, G_QQ] of order n = d + m.

    ``inner`` and ``outer`` tell the entries of G_RR and G_QQ, ``twice`` is 2 beside the diagonal, where an entry
    stands for two.
    """

    d: int
    n: int
    row: NDArray[np.intp]
    column: NDArray[np.intp]
    inner: NDArray[np.bool_]
    outer: NDArray[np.bool_]
    twice: Float

    @classmethod
    def of(cls, d: int, m: int) -> _Entries:
        row, column = np.triu_indices(d + m)
        return cls(d, d + m, row, column, column < d, row >= d, np.where(row == column, 1.0, 2.0))

    def square(self, entries: Float) -> Float:
        G = np.empty((self.n, self.n))
        G[self.row, self.column] = G[self.column, self.row] = entries
        return G


class _Program:
    """``max linear · g + Σ_j size_j √(a_j(g) b_j(g)) + ε (log det G + n log n)`` over trace-one matrices G.

    ``a_j = w_jᵀ G_RR w_j`` and ``b_j = v_jᵀ G_QQ v_j`` for rows w_j (k, d) and v_j (k, m) of norm one.
    """

    def __init__(self, entries: _Entries, rows: Float, columns: Float, size: Float, cross: Float) -> None:
        at, d = entries, entries.d
        self._at, self._size = at, size
        wide = np.zeros((len(rows), len(at.row)))
        wide[:, at.inner] = rows[:, at.row[at.inner]] * rows[:, at.column[at.inner]]
        wide[:, at.outer] = columns[:, at.row[at.outer] - d] * columns[:, at.column[at.outer] - d]
        wide *= at.twice
        self._wide, self._inner, self._outer = wide, wide * at.inner, wide * at.outer
        between = ~(at.inner | at.outer)
        self._linear = np.zeros(len(at.row))
        self._linear[between] = cross[at.column[between] - d, at.row[between]]

    def value(self, G: Float, epsilon: float) -> float:
        """Minus infinity outside the positive definite matrices."""
        try:
            factor = np.linalg.cholesky(G)
        except LinAlgError:
            return -np.inf
        g, n = G[self._at.row, self._at.column], self._at.n
        a, b = self._inner @ g, self._outer @ g
        if not (a.min() > 0.0 and b.min() > 0.0):
            return -np.inf
        log_det = 2.0 * float(np.log(np.diagonal(factor)).sum()) + n * np.log(n)
        return float(self._linear @ g + self._size @ np.sqrt(a * b)) + epsilon * log_det

    def newton(self, G: Float, epsilon: float) -> tuple[Float, float]:
        """The Newton step within trace zero, and the rise that it promises.

        Raises
        ------
        LinAlgError
            The Hessian is not negative definite in floating point.
        """
        at = self._at
        g = G[at.row, at.column]
        a, b = self._inner @ g, self._outer @ g
        inverse = np.linalg.inv(G)
        inverse = 0.5 * (inverse + inverse.T)
        by_row, by_column = inverse[at.row], inverse[at.column]
        slopes = (0.5 * self._size * np.sqrt(b / a)) @ self._inner + (0.5 * self._size * np.sqrt(a / b)) @ self._outer
        gradient = self._linear + slopes + epsilon * at.twice * by_row[np.arange(len(at.row)), at.column]
        H = by_row[:, at.row] * by_column[:, at.column]
        H += by_row[:, at.column] * by_column[:, at.row]
        H *= (0.5 * epsilon * at.twice)[:, None] * at.twice
        # the Hessian of √(a b) is −¼ √(a b) z zᵀ with z = ∇a / a − ∇b / b
        Z = self._wide * np.where(at.inner, 1.0 / a[:, None], -1.0 / b[:, None])
        H += (Z.T * (0.25 * self._size * np.sqrt(a * b))) @ Z
        H[np.diag_indices(len(H))] *= 1.0 + 1e-13
        trace = 2.0 - at.twice
        both = cho_solve(cho_factor(H, check_finite=False), np.column_stack([gradient, trace]), check_finite=False)
        step = both[:, 0] - (trace @ both[:, 0]) / (trace @ both[:, 1]) * both[:, 1]
        return at.square(step), float(gradient @ step)

    def maximise(self, G: Float, epsilon: float, max_steps: int) -> tuple[Float, float, bool]:
        """Damped Newton steps from G: the maximiser, its value, and whether they converged."""
        here = self.value(G, epsilon)
        if not np.isfinite(here):  # a unit that this G does not see
            return G, here, False
        for _ in range(max_steps):
            try:
                step, rise = self.newton(G, epsilon)
            except LinAlgError:
                return G, here, False
            length = 1.0
            while not (there := self.value(G + length * step, epsilon)) >= here + 0.1 * length * rise:
                length *= 0.5
                if length < 1e-6:  # rounding has taken over
                    return G, here, rise < _CONVERGED * epsilon
            G, here = G + length * step, there
            if rise < _CONVERGED * epsilon:
                return G / np.trace(G), here, True
        return G, here, False


class SmoothedBound:
    """``L_ε`` and its gradient; keeps the maximising G as the start of the next call.

    From the same G nothing is drawn at random; from another, values agree up to the Newton method's tolerance.

    Parameters
    ----------
    n_inputs, n_outputs : int
    """

    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        self._entries = _Entries.of(n_inputs, n_outputs)
        self._G: Float | None = None

    def __call__(self, W: Float, V: Float, epsilon: float) -> tuple[float, Float, Float]:
        """``L_ε``, ``∂L_ε/∂W`` (h, d) and ``∂L_ε/∂V`` (m, h) for W (h, d), V (m, h); ``epsilon > 0``."""
        norm_w, norm_v = np.linalg.norm(W, axis=1), np.linalg.norm(V, axis=0)
        size = norm_w * norm_v
        to_W, to_V = np.zeros_like(W), np.zeros_like(V)
        if not np.isfinite(size).all():
            return np.inf, to_W, to_V
        kept = size > _NEGLIGIBLE * size.max(initial=0.0)
        if not kept.any():
            return 0.0, to_W, to_V
        rows, columns, size = W[kept] / norm_w[kept, None], (V[:, kept] / norm_v[kept]).T, size[kept]
        scale = float(size.sum())
        program = _Program(self._entries, rows, columns, size / scale, (V @ W) / scale)
        G, value = self._maximiser(program, max(epsilon / scale, _LEAST))
        d = self._entries.d
        first, last = rows @ G[:d, :d], columns @ G[d:, d:]
        p, q = np.sqrt(np.sum(first * rows, axis=1)), np.sqrt(np.sum(last * columns, axis=1))
        to_W[kept] = (norm_v[kept] * q / p)[:, None] * first
        to_V[:, kept] = ((norm_w[kept] * p / q)[:, None] * last).T
        return scale * value, to_W + V.T @ G[d:, :d], to_V + G[d:, :d] @ W.T

    def _maximiser(self, program: _Program, epsilon: float) -> tuple[Float, float]:
        """From the last G in a few steps; else along a falling ε from the multiple of the identity."""
        if self._G is not None:
            self._G, value, converged = program.maximise(self._G, epsilon, _WARM_STEPS)
            if converged:
                return self._G, value
        n = self._entries.n
        G, passing = np.eye(n) / n, max(0.1 / n, epsilon)
        while passing > epsilon:
            G = program.maximise(G, passing, _COLD_STEPS)[0]
            passing *= 0.1
        self._G, value, _ = program.maximise(G, epsilon, _COLD_STEPS)
        return self._G, value
