r"""The checker of Lipschitz bounds of lifted networks, by a linear matrix inequality. NumPy only; no code of a solver.

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
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from certnet.core.validation import Float
from certnet.networks.energy import LiftedEnergy
from certnet.proofs.lifted_energy import FLOOR, hessian_charged, moving, out_of_range, unlimited
from certnet.proofs.shallow import Verdict, double_below, gamma, is_positive_semidefinite, read_numbers

__all__ = ["MatrixChecker", "Output", "output_refusal", "selector"]

Output = tuple[int, ...] | None
"""All outputs, one output (i,), or the difference (i, j) of two."""

_RANGE_Y = 2.0**150
_RANGE_L = 2.0**200


def output_refusal(net: LiftedEnergy, output: object) -> str | None:
    """Why ``output`` is not one of those of the network, if so."""
    if output is None:
        return None
    indices = output if isinstance(output, tuple) else ()
    right = all(type(i) is int and 0 <= i < net.n_outputs for i in indices) and len(set(indices)) == len(indices)
    if len(indices) in (1, 2) and right:
        return None
    return f"the output {output!r} is not one of the network's {net.n_outputs}, counted from 0, or two of them"


def selector(net: LiftedEnergy, output: Output) -> Float:
    """S, shape (n, m): ``Sᵀ z`` are the outputs, the output i, or ``z_i − z_j``."""
    last = net.layers[-1].start
    if output is None:
        return np.eye(net.n_units)[:, last:]
    S = np.zeros((net.n_units, 1))
    for i, sign in zip(output, (1.0, -1.0)):
        S[last + i] = sign
    return S


class MatrixChecker:
    """Multipliers of one network, prepared to test many bounds.

    Parameters
    ----------
    net : LiftedEnergy
    multipliers : sequence of 1 + f array_like, each of shape (n,)
        t, non-negative, zero for units without limits; then the column of Y of each of the f units without limits, in
        their order.
    output : tuple of one or two int, or None

    Attributes
    ----------
    refusal : str or None
        Why no bound follows from these multipliers, if so.
    """

    def __init__(self, net: LiftedEnergy, multipliers: Sequence[ArrayLike], output: Output = None) -> None:
        found = output_refusal(net, output) or out_of_range(net) or _multiplier_matrix(net, multipliers)
        self.refusal = found if isinstance(found, str) else None
        if not isinstance(found, str):
            with np.errstate(all="ignore"):  # what overflows is refused
                self._prepare(net, found, output)

    def _prepare(self, net: LiftedEnergy, Y: Float, output: Output) -> None:
        H, doubt = hessian_charged(net)
        S = selector(net, output)
        size, n = np.abs(Y), len(Y)
        product = Y @ H
        error = size @ (doubt + gamma(n + 4) * np.abs(H))
        chosen = S @ S.T  # −1, 0 or 1: exact
        self._rest = product + product.T - chosen
        self._rest_error = error + error.T + gamma(8) * (np.abs(product) + np.abs(product.T) + np.abs(chosen)) + FLOOR
        W, first = net.weights[0], net.layers[0]
        G, G_size = W @ W.T, np.abs(W) @ np.abs(W).T + 2.0**-900
        square = (1.0 + net.beta[0]) ** 2
        M = square * (Y[:, first] @ G @ Y[:, first].T)
        self._square = 0.5 * (M + M.T)
        terms = W.shape[1] + 2 * len(W) + 16
        self._square_error = gamma(terms) * square * (size[:, first] @ G_size @ size[:, first].T) + FLOOR
        keep = np.ix_(moving(net), moving(net))
        for name in ("_rest", "_rest_error", "_square", "_square_error"):
            setattr(self, name, getattr(self, name)[keep])
        if not (np.isfinite(self._rest_error).all() and np.isfinite(self._square_error).all()):
            self.refusal = "the weights or multipliers are too large to be verified"
        elif len(self._rest) == 0:
            self.refusal = "no unit of the network can move: nothing is left to prove with multipliers"

    def holds(self, upper: Any) -> Verdict:
        """Is ``L ≤ upper`` proved? One Cholesky factorisation of order n."""
        if self.refusal is not None:
            return Verdict(False, self.refusal)
        claimed = double_below(upper)
        if claimed is None or not 1.0 / _RANGE_L < claimed < _RANGE_L:
            return Verdict(False, f"the bound {str(upper)[:40]} is not a positive number of reasonable size")
        with np.errstate(all="ignore"):  # what overflows is refused
            proved = self._dominated(math.nextafter(claimed * claimed, 0.0))
        if proved:
            return Verdict(True, f"L <= {upper!r} is proved")
        return Verdict(False, f"the multipliers do not prove L <= {upper!r}")

    def _dominated(self, rho: float) -> bool:
        """Is the Schur complement for ρ proved to be positive semidefinite?"""
        part = self._square / rho
        P = self._rest - part
        error = self._rest_error + self._square_error / rho + gamma(4) * (np.abs(self._rest) + np.abs(part)) + FLOOR
        # a congruence with powers of two brings the diagonal to order one, and changes no digit
        unit = -(np.frexp(np.abs(np.diagonal(P)))[1] // 2)
        P = np.ldexp(np.ldexp(P, unit[:, None]), unit)
        error = np.ldexp(np.ldexp(error, unit[:, None]), unit)
        total = float(np.linalg.norm(error)) * (1.0 + 1e-9) + 2.0**-900
        return bool(np.isfinite(P).all()) and math.isfinite(total) and is_positive_semidefinite(P, total)

    def smallest(self, guess: float) -> float | None:
        """A bound near ``guess`` that holds, inflated as little as rounding asks for; None where 1.5 times it fails."""
        step = 1e-13
        while step < 0.5 and self.refusal is None and math.isfinite(guess):
            if self.holds(guess * (1.0 + step)):
                return guess * (1.0 + step)
            step *= 4.0
        return None


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
