r"""Proofs of Lipschitz bounds of lifted networks, by a linear matrix inequality. NumPy only; no code of any search.

Let ``u = x − x'``, ``v = z*(x) − z*(x')``. Every unit with a limit has ``v_j (Q u − H v)_j ≥ 0``, because the normal
cone of an interval is monotone; every unit without limits has ``(Q u − H v)_j = 0``; a unit whose interval is one point
has ``v_j = 0`` and is left out. So with ``Y`` an (n, n) matrix whose column j is ``t_j e_j``, ``t_j ≥ 0``, for a unit
with a limit, and *any* vector for a unit without, ``vᵀ Y (Q u − H v) ≥ 0``, and

    [ ρ I      −Qᵀ Yᵀ             ]
    [ −Y Q     Y H + H Yᵀ − S Sᵀ  ]  ⪰ 0     proves    ‖Sᵀ v‖₂ ≤ √ρ ‖u‖₂,

S selecting the outputs, one of them, or a difference of two. As the input enters through ``Q = (1 + β_0) W_0`` in the
first block only, the Schur complement in u is asked,

    Y H + H Yᵀ − S Sᵀ − (1/ρ) (1 + β_0)² Y_1 (W_0 W_0ᵀ) Y_1ᵀ ⪰ 0,

of order n whatever the number of inputs. All columns diagonal, t constant on the layers, contains the layerwise bound
of :mod:`certnet.proofs.lifted_layers`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from certnet.claims.claim import Output, output_refusal
from certnet.claims.kinds import register
from certnet.core.validation import Float
from certnet.networks.energy import LiftedEnergy
from certnet.proofs.inflation import inflated
from certnet.proofs.lifted_energy import FLOOR, hessian_charged, moving, out_of_range, selector, unlimited
from certnet.proofs.proof import Checker, LiftedProof
from certnet.proofs.rounding import double_below, gamma, read_numbers, shown
from certnet.proofs.semidefinite import is_semidefinite_entrywise

__all__ = ["MatrixChecker", "MatrixProof"]

_RANGE_Y = 2.0**150
_RANGE_L = 2.0**200


@register("lifted", "sdp")
class MatrixProof(LiftedProof):
    """t (n,) of all units, then the column of Y (n,) of each unit without limits."""

    def checker(self, net: LiftedEnergy, output: Output) -> Checker:
        return MatrixChecker(net, self.multipliers, output)


class MatrixChecker(Checker):
    """Multipliers of one network, prepared to test many bounds.

    Parameters
    ----------
    net : LiftedEnergy
    multipliers : sequence of 1 + f array_like, each of shape (n,)
        t, non-negative, zero for units without limits; then the column of Y of each of the f units without limits, in
        their order.
    output : tuple of one or two int, or None
    """

    def __init__(self, net: LiftedEnergy, multipliers: Sequence[ArrayLike], output: Output = None) -> None:
        found = output_refusal(output, net.n_outputs) or out_of_range(net) or _multiplier_matrix(net, multipliers)
        self.refusal = found if isinstance(found, str) else None
        self._rest = self._rest_error = self._square = self._square_error = np.zeros((0, 0))
        if not isinstance(found, str):
            with np.errstate(all="ignore"):  # what overflows is refused
                self._prepare(net, found, output)

    def _prepare(self, net: LiftedEnergy, Y: Float, output: Output) -> None:
        H, doubt = hessian_charged(net)
        S = selector(net, output)
        size, n = np.abs(Y), len(Y)
        keep = np.ix_(moving(net), moving(net))
        # Y H + H Yᵀ − S Sᵀ, and the rounding of its entries
        product = Y @ H
        error = size @ (doubt + gamma(n + 4) * np.abs(H))
        chosen = S @ S.T  # −1, 0 or 1: exact
        rest_error = error + error.T + gamma(8) * (np.abs(product) + np.abs(product.T) + np.abs(chosen)) + FLOOR
        self._rest, self._rest_error = (product + product.T - chosen)[keep], rest_error[keep]
        # (1 + β_0)² Y_1 (W_0 W_0ᵀ) Y_1ᵀ, to be divided by ρ
        W, first = net.weights[0], net.layers[0]
        G, G_size = W @ W.T, np.abs(W) @ np.abs(W).T + 2.0**-900
        square = (1.0 + net.beta[0]) ** 2
        M = square * (Y[:, first] @ G @ Y[:, first].T)
        terms = W.shape[1] + 2 * len(W) + 16
        square_error = gamma(terms) * square * (size[:, first] @ G_size @ size[:, first].T) + FLOOR
        self._square, self._square_error = (0.5 * (M + M.T))[keep], square_error[keep]
        if not (np.isfinite(self._rest_error).all() and np.isfinite(self._square_error).all()):
            self.refusal = "the weights or multipliers are too large to be verified"
        elif len(self._rest) == 0:
            self.refusal = "no unit of the network can move: nothing is left to prove with multipliers"

    def objection(self, upper: object) -> str | None:
        """Why the bound is not proved. One Cholesky factorisation of order n."""
        claimed = double_below(upper)
        if claimed is None or not 1.0 / _RANGE_L < claimed < _RANGE_L:
            return f"the bound {shown(upper)} is not a positive number of reasonable size"
        with np.errstate(all="ignore"):  # what overflows is refused
            proved = self._dominated(math.nextafter(claimed * claimed, 0.0))
        return None if proved else f"the multipliers do not prove L <= {upper!r}"

    def _dominated(self, rho: float) -> bool:
        """Is the Schur complement for ρ proved to be positive semidefinite?"""
        part = self._square / rho
        error = self._rest_error + self._square_error / rho + gamma(4) * (np.abs(self._rest) + np.abs(part)) + FLOOR
        return is_semidefinite_entrywise(self._rest - part, error)

    def smallest(self, guess: float) -> float | None:
        if self.refusal is not None or not math.isfinite(guess):
            return None
        return inflated(self.holds, guess, most=0.5)


def _multiplier_matrix(net: LiftedEnergy, multipliers: Sequence[ArrayLike]) -> Float | str:
    """Y (n, n), or why the multipliers make none."""
    free = np.flatnonzero(unlimited(net))
    if len(multipliers) != 1 + len(free):
        return (
            f"there are {len(multipliers)} vectors of multipliers: 1 + {len(free)} are needed, one of all units and "
            "one per unit without limits"
        )
    t = read_numbers(multipliers[0], "multiplier", net.n_units, "units")
    if isinstance(t, str):
        return t
    if t[free].any():
        return "a unit without limits has a multiplier among those of the others"
    Y = np.diag(t)
    for j, column in zip(free, multipliers[1:]):
        try:
            values = np.asarray(column, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            return f"the multipliers of unit {j} are not numbers"
        if values.shape != (net.n_units,) or not np.isfinite(values).all():
            return f"the multipliers of unit {j} are not {net.n_units} finite numbers"
        Y[:, j] = values
    if np.abs(Y).max() > _RANGE_Y:
        return "a multiplier is too large to be verified"
    return Y
