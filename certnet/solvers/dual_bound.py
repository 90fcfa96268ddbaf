r"""A lower bound on a restriction from any guess of its dual point, made feasible first: nothing is trusted.

With residuals r_i (weighted mean zero) and multipliers z_ij ≥ 0 of the cells, the gradient of the Lagrangian in the
weights of unit j is ``p_j = Σ_i (2 share_i D_ij r_iᵀ V_:j − z_ij S_ij) x̃_i``, and

    ℓ2            D = − Σ_i share_i (2 r_iᵀ y_i + ‖r_i‖²)                 where ‖p_j‖ ≤ 2 λ for every unit;
    Lipschitz     D = − Σ_i share_i (2 r_iᵀ y_i + ‖r_i‖²) − tr Q          where the bias entry of every p_j is zero,
                  2 y_j = p_j − Y_0 V_:j,  tr P = λ,  Q ⪰ Y_0ᵀ P⁻¹ Y_0,  ¼ V_:jᵀ Q V_:j ≥ y_jᵀ P⁻¹ y_j.

For fixed η the last two conditions go, and tr Q becomes ``<Y_0ᵀ P⁻¹ Y_0, K> + 2 Σ_j η_j y_jᵀ P⁻¹ y_j``; for the
constraint ``ρ ≤ limit`` the trace of P is free and D loses ``limit · tr P``. Limits on slopes let any κ_j be added to
the first d entries of p_j, for what ``Σ_j κ_jᵀ w_j`` can be at most within them: ``Σ_i upper_i max_j(s_j κ_ji)⁺ −
lower_i max_j(−s_j κ_ji)⁺``. D is concave along multiples of (r, z, Y_0, κ), whose best is taken; for Huber's loss no
entry of the multiple of r may be beyond the threshold. The code shares nothing with the solvers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np

from certnet.core.validation import Float
from certnet.programs.goal import SlopeAtMost, Weighted
from certnet.programs.loss import Huber
from certnet.programs.penalties import LipschitzPenalty, NormPenalty, Penalty
from certnet.programs.restriction import Chunk, Restriction

__all__ = ["DualPoint", "lower_bound"]


@dataclass(frozen=True, eq=False)
class DualPoint:
    """A guess of the dual point, in the data's units; need not be feasible.

    Attributes
    ----------
    residual : ndarray, shape (n, m)
        r: at the optimum, the network's output less the target.
    cone : ndarray, shape (n, k)
        z, of the inequalities ``(2 D_j − I) X̃ u_j ≥ 0``.
    corner : ndarray, shape (d, d), or None
        P; None for the ℓ2 penalty, as the next.
    output : ndarray, shape (d, m), or None
        Y_0.
    output_corner : ndarray, shape (m, m), or None
        Q.
    units : ndarray, shape (k, d), or None
        y. Where it is given, z is moved to meet it before y is taken from z.
    slopes : ndarray, shape (k, d), or None
        κ, what limits on slopes add to the p_j.
    """

    residual: Float
    cone: Float
    corner: Float | None = None
    output: Float | None = None
    output_corner: Float | None = None
    units: Float | None = None
    slopes: Float | None = None


class _FitPart(NamedTuple):
    """What the residuals r and κ alone give: D at θ r is ``θ linear − θ² square``, less the penalty's part."""

    r: Float
    z: Float
    slopes: Float
    linear: float
    square: float
    most: float
    """θ of Huber's loss; infinite for the squared one."""

    def best(self, linear: float, total: float, most: float = np.inf) -> float:
        """The largest ``θ linear − θ² total`` for θ up to ``most``, and up to its own limit."""
        if not linear > 0.0 or not total > 0.0:
            return 0.0
        theta = min(self.most, most, linear / (2.0 * total))
        return theta * (linear - theta * total)


def lower_bound(program: Restriction, dual: DualPoint) -> float:
    """The value of the dual at the feasible point made from ``dual``: no point of the cell is below it."""
    # residuals of weighted mean zero; targets about their mean, which c takes anyway
    r = dual.residual - program.shares @ dual.residual
    mean = program.shares @ program.targets
    linear = -2.0 * float(program.shares @ np.sum(r * (program.targets - mean), axis=1))
    square = float(program.shares @ np.sum(r**2, axis=1))
    slopes, charge = _pushes(program, dual)
    largest = float(np.abs(r).max(initial=0.0))
    most = program.loss.threshold / largest if isinstance(program.loss, Huber) and largest > 0.0 else np.inf
    part = _FitPart(r, np.maximum(dual.cone, 0.0), slopes, linear - charge, square, most)
    return _BOUNDS[type(program.penalty)](program, dual, part) + program.spread


def _norm_bound(program: Restriction, dual: DualPoint, fit: _FitPart) -> float:
    """The best multiple of (r, z) with ``‖p_j‖ ≤ 2 λ``."""
    if not isinstance(program.goal, Weighted):
        return 0.0
    pull, _, _ = _pulls(program, fit.r, fit.z, np.zeros(program.n_inputs))
    pull[:, :-1] += fit.slopes
    longest = float(np.linalg.norm(pull, axis=1).max(initial=0.0))
    most = min(1.0, 2.0 * program.goal.weight / longest) if longest > 0.0 else 1.0
    return fit.best(fit.linear, fit.square, most)


def _lipschitz_bound(program: Restriction, dual: DualPoint, fit: _FitPart) -> float:
    """The best multiple of (r, z, Y_0), z moved and balanced so that the last entry of every p_j is zero."""
    if dual.corner is None or dual.output is None or dual.output_corner is None:
        return 0.0
    z, linear = fit.z, fit.linear
    if dual.units is not None:
        z = _moved(program, fit.r, z, 2.0 * dual.units + (dual.output @ program.directions).T - fit.slopes)
    pull = _balanced(program, fit.r, z) + fit.slopes
    charge, trace = _charge(program, pull, dual)
    if isinstance(program.goal, SlopeAtMost):
        # the best trace of P for each multiple: 2 θ sqrt(charge · limit · trace)
        linear -= 2.0 * np.sqrt(charge * trace * program.goal.rho)
        charge = 0.0
    elif isinstance(program.goal, Weighted) and program.goal.weight > 0.0:
        charge *= trace / program.goal.weight  # tr P = λ
    else:
        return 0.0
    return fit.best(linear, fit.square + charge)


_BOUNDS: Final[Mapping[type[Penalty], Callable[[Restriction, DualPoint, _FitPart], float]]] = MappingProxyType(
    {LipschitzPenalty: _lipschitz_bound, NormPenalty: _norm_bound}
)


def _pushes(program: Restriction, dual: DualPoint) -> tuple[Float, float]:
    """κ (k, d), nothing where a side has no limit, and what it is charged."""
    kappa = np.zeros((program.directions.shape[1], program.n_inputs))
    limits = program.slopes
    if limits is None or dual.slopes is None:
        return kappa, 0.0
    signs = program.directions[0][:, None]
    signed = signs * dual.slopes
    signed = np.where((signed > 0.0) & np.isinf(limits.upper) | (signed < 0.0) & np.isinf(limits.lower), 0.0, signed)
    above, below = signed.max(axis=0, initial=0.0), (-signed).max(axis=0, initial=0.0)
    upper, lower = (
        np.where(np.isinf(limits.upper), 0.0, limits.upper),
        np.where(np.isinf(limits.lower), 0.0, limits.lower),
    )
    return signs * signed, float(upper @ above - lower @ below)


def _pulls(program: Restriction, r: Float, z: Float, centre: Float) -> tuple[Float, Float, Float]:
    """p_j (k, d+1) about ``centre``, and Σ_i z_ij over the active and the inactive samples of each unit."""
    d, k = program.n_inputs, program.directions.shape[1]
    pull, active, idle = np.zeros((k, d + 1)), np.zeros(k), np.zeros(k)
    for chunk in program.chunks():
        on, zs = chunk.patterns, z[chunk.at]
        rows = np.column_stack([chunk.rows - centre, np.ones(len(on))])
        # 2 share_i D_ij r_iᵀ V_:j − z_ij S_ij
        weights = np.where(on, 2.0 * chunk.shares[:, None] * (r[chunk.at] @ program.directions) - zs, zs)
        pull += weights.T @ rows
        active += np.where(on, zs, 0.0).sum(axis=0)
        idle += np.where(on, 0.0, zs).sum(axis=0)
    return pull, active, idle


def _moved(program: Restriction, r: Float, z: Float, wanted: Float) -> Float:
    """z moved by factors near one, the least in its own metric, towards p_j = (wanted_j, 0).

    ``z_ij (1 + S_ij c_jᵀ x̃_i)`` with ``(Σ_i z_ij x̃_i x̃_iᵀ) c_j`` what is missing; factors below 1/10 are cut there.
    """
    # rows about their mean, every column over its spread
    centre = program.shares @ program.rows
    scale = np.sqrt(program.shares @ (program.rows - centre) ** 2)
    scale = np.where(scale > 0.0, scale, 1.0)
    p = len(centre) + 1
    left, right = np.triu_indices(p)
    for _ in range(2):
        missing = _pulls(program, r, z, centre)[0] / np.append(scale, 1.0)
        missing[:, :-1] -= wanted / scale
        # Σ_i z_ij x̃_i x̃_iᵀ of every unit
        packed = np.zeros((z.shape[1], len(left)))
        for chunk in program.chunks():
            rows = _unit_rows(chunk, centre, scale)
            packed += z[chunk.at].T @ (rows[:, left] * rows[:, right])
        gram = np.empty((z.shape[1], p, p))
        gram[:, left, right] = packed
        gram[:, right, left] = packed
        size = np.trace(gram, axis1=1, axis2=2)
        used = size > 0.0
        gram[~used] = np.eye(p)
        gram[used] += 1e-13 * size[used, None, None] * np.eye(p)
        # c_j, and the factors
        c = np.where(used[:, None], np.linalg.solve(gram, missing[:, :, None])[:, :, 0], 0.0)
        z = z.copy()
        for chunk in program.chunks():
            turn = _unit_rows(chunk, centre, scale) @ c.T
            z[chunk.at] *= np.maximum(0.1, 1.0 + np.where(chunk.patterns, turn, -turn))
    return z


def _unit_rows(chunk: Chunk, centre: Float, scale: Float) -> Float:
    return np.column_stack([(chunk.rows - centre) / scale, np.ones(len(chunk.rows))])


def _balanced(program: Restriction, r: Float, z: Float) -> Float:
    """The first d entries of p_j, after the multipliers of one side of each unit are scaled to make the last zero."""
    centre = program.shares @ program.rows
    pull, active, idle = _pulls(program, r, z, centre)
    # factors for one side of every unit
    excess = pull[:, -1]  # the active side has to grow by it, or the idle one to shrink
    grow = np.divide(active + excess, active, out=np.ones_like(active), where=active > 0.0)
    shrink = np.divide(idle - excess, idle, out=np.ones_like(idle), where=idle > 0.0)
    by_active = (active > 0.0) & (grow > 0.0)
    scaled = z * np.where(
        program.patterns, np.where(by_active, grow, 1.0), np.where(by_active, 1.0, np.maximum(shrink, 0.0))
    )
    pull, _, _ = _pulls(program, r, scaled, centre)
    left = np.abs(pull[:, -1]) > 1e-9 * (np.abs(scaled).sum(axis=0) + np.abs(r).max(initial=0.0))
    if left.any():  # no multipliers to scale: put the missing ones on every sample of the side
        for j in np.flatnonzero(left):
            side = program.patterns[:, j] if pull[j, -1] > 0.0 else ~program.patterns[:, j]
            if side.any():
                scaled[side, j] += abs(pull[j, -1]) / side.sum()
        pull, _, _ = _pulls(program, r, scaled, centre)
    return pull[:, :-1]


def _charge(program: Restriction, pull: Float, dual: DualPoint) -> tuple[float, float]:
    """tr Q, least at the given P and Y_0 up to a multiple of the given Q, and tr P."""
    V = program.directions
    P, half = _inverse_factor(np.asarray(dual.corner))  # P⁻¹ = half halfᵀ
    Y0 = np.asarray(dual.output)
    y = 0.5 * (pull - (Y0 @ V).T)
    squares = np.sum((y @ half) ** 2, axis=1)
    least = (half.T @ Y0).T @ (half.T @ Y0)
    eta = program.penalty.eta
    if eta is not None:  # <Y_0ᵀ P⁻¹ Y_0, K> + 2 Σ_j η_j y_jᵀ P⁻¹ y_j
        K = np.eye(len(V)) - 0.5 * (V * eta) @ V.T
        return float(np.sum(least * K)) + 2.0 * float(eta @ squares), float(np.trace(P))
    # the least multiple of Q with Q ⪰ Y_0ᵀ P⁻¹ Y_0 and ¼ V_:jᵀ Q V_:j ≥ y_jᵀ P⁻¹ y_j
    Q, root = _inverse_factor(np.asarray(dual.output_corner))
    multiple = float(np.linalg.eigvalsh(root.T @ least @ root)[-1])
    multiple = max(multiple, float((4.0 * squares / np.einsum("oj,op,pj->j", V, Q, V)).max(initial=0.0)))
    return multiple * float(np.trace(Q)), float(np.trace(P))


def _inverse_factor(A: Float) -> tuple[Float, Float]:
    """A positive definite matrix next to A, and F with ``F Fᵀ`` its inverse; small diagonals keep their digits."""
    scale = np.sqrt(np.maximum(np.diag(A), 0.0))
    scale = np.maximum(scale, 1e-150 + 1e-30 * scale.max(initial=0.0))
    unit = 0.5 * (A + A.T) / np.outer(scale, scale)
    np.fill_diagonal(unit, 1.0)
    shift = 0.0
    while True:
        try:
            L = np.linalg.cholesky(unit + shift * np.eye(len(A)))
            break
        except np.linalg.LinAlgError:
            shift = 10.0 * shift or 1e-15
    unit[np.arange(len(A)), np.arange(len(A))] += shift
    return unit * np.outer(scale, scale), np.linalg.inv(L).T / scale[:, None]
