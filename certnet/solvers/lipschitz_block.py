r"""The certified Lipschitz penalty in an interior-point method: one small semidefinite block per unit.

The arrow inequality of the joint restriction splits into

    T_j = [C_j, w_j; w_jᵀ, 2 η_j] ⪰ 0,    T_0 = [C_0, Gᵀ; G, K] ⪰ 0,    C_0 + Σ_j C_j = ρ M,

with ``G = ½ V W``, ``K = I − ½ V diag(η) Vᵀ``. Their duals share one corner P: ``Z_j = [P, y_j; y_jᵀ, ζ_j]`` and
``Z_0 = [P, Y_0; Y_0ᵀ, Q]``, with ``<M, P> = λ`` and ``ζ_j = ¼ V_:jᵀ Q V_:j``. Nesterov–Todd scaling of each block
(:mod:`certnet.solvers.arrow`) leaves, after the corners C are eliminated, one block per unit and rows for P: d(d+1)/2
of them, whatever the number of units (:mod:`certnet.solvers.lipschitz_system`).
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cholesky

from certnet.core.validation import Float
from certnet.programs.goal import SlopeAtMost, Weighted
from certnet.programs.penalties import certified_rho
from certnet.programs.restriction import Solution
from certnet.solvers.arrow import ArrowScaling
from certnet.solvers.dual_bound import DualPoint
from certnet.solvers.lipschitz_system import Frame, LipschitzStep, LipschitzSystem, Packing
from certnet.solvers.whitened import Whitened

__all__ = ["LipschitzBlock"]

_ROOM = 0.03  # fraction of ρ M that the start's weights take
_PULL = 5.0  # squared pull of the start's cone multipliers, in units of what each block holds by itself
_SPREAD = 3.0  # between the multipliers of the units at the start
_IDLE = 1e-9  # what units that are left out get of Σ η, so that 1 / η exists


class LipschitzBlock:
    """State of the penalty ``λ ρ`` (or of the constraint ``ρ ≤ limit``); see :class:`~certnet.solvers.block.Block`."""

    def __init__(self, data: Whitened) -> None:
        goal, eta = data.program.goal, data.program.penalty.eta
        self._data = data
        # ρ of the data is ρ' τ² / unit, the corner of the matrix inequality ρ' M
        self._V, self._M = data.directions, np.diag(data.singular**2 / data.unit)
        self._weight = goal.weight / data.unit if isinstance(goal, Weighted) else 0.0
        self._limit = goal.rho / self._data_rho(1.0) if isinstance(goal, SlopeAtMost) else None
        self._fixed = None if eta is None else eta[data.units]
        m, h = self._V.shape
        d = len(self._M)
        self._packing = Packing.of(self._V, d, self._fixed is not None)
        self._units, self._output = ArrowScaling(h, d, 1), ArrowScaling(1, d, m)
        self.n_rows: int = self._packing.n_rows
        self.n_columns = 0 if self._limit is not None else 1
        self.degree: int = h * (d + 1) + d + m
        self._columns = np.zeros((self.n_rows, self.n_columns))
        self._columns[self._packing.n_shared :, :] = self._packing.packed(self._M)[:, None]
        # primal variables: η, ρ and what the corners exceed the weights' part by, S_j = C_j − w_j w_jᵀ / e_j and S_0
        self._eta, self._rho = np.zeros(h), 0.0
        self._S, self._S0 = np.zeros((h, d, d)), np.zeros((1, d, d))
        # dual variables
        self._P, self._Y0, self._Q = np.zeros((d, d)), np.zeros((d, m)), np.zeros((m, m))
        self._y, self._zeta = np.zeros((h, d)), np.zeros(h)
        # of one linearisation: w_j / e_j and Gᵀ K⁻¹
        self._beta, self._beta0 = np.zeros((h, d)), np.zeros((d, m))

    @staticmethod
    def unit_weight(data: Whitened) -> float:
        """The data's weight that is one here."""
        return data.unit

    def _data_rho(self, rho: float) -> float:
        """ρ in the data's units."""
        return rho * (1.0 / self._data.unit) * self._data.tau**2

    # ------------------------------------------------------------------------------------------------ start and values

    def metric(self) -> Float:
        d = len(self._M)
        metric = np.zeros((d + 1, d + 1))
        metric[:-1, :-1] = np.linalg.inv(self._M)
        return metric

    def start(self, U: Float, pull: Float, share: float, force: float) -> tuple[Float, Float]:
        V, M, d = self._V, self._M, len(self._M)
        h = V.shape[1]
        # η so that K ≻ 0
        if self._fixed is None:
            top = float(np.linalg.eigvalsh(V @ V.T)[-1])
            self._eta = np.full(h, 2.0 / top * h / (h + 1.0))
        else:
            self._eta = self._fixed.copy()
        # N = ½ Wᵀ diag(1/η) W + Gᵀ K⁻¹ G, the part of ρ M that the weights take, and its largest multiple of M
        W = U[:, :d]
        G, K = self._output_parts(W)
        N = 0.5 * (W.T / self._eta) @ W + G.T @ np.linalg.solve(K, G)
        root = np.linalg.inv(cholesky(M, lower=True))
        top = float(np.linalg.eigvalsh(root @ N @ root.T)[-1])
        # ρ of the asked share, weights that take the fraction _ROOM of ρ M; every corner gets its part of the rest R
        self._rho = share / self._weight if self._limit is None else self._limit
        trace = self._weight if self._limit is None else share / self._limit
        factor = np.sqrt(self._rho * _ROOM / top) if top > 0.0 else 0.0
        U, W, G = U * factor, W * factor, G * factor
        R = self._rho * M - factor**2 * N
        self._S, self._S0 = np.repeat((R / (h + 1))[None], h, axis=0), (R / (h + 1))[None].copy()
        # P central beside R, with <M, P> as it has to be
        P = np.linalg.inv(R)
        level = trace / float(np.sum(P * M))
        self._P = P * level
        inverse = R / level
        # cone multipliers: the pull of each unit, τ_jᵀ P⁻¹ τ_j, at _PULL times what its central block holds by itself
        tau = -0.5 * pull[:, :d] / max(factor, 1e-300)
        reach = np.einsum("ja,ab,jb->j", tau, inverse, tau)
        lowest = level / (h + 1) / (2.0 * self._eta)  # of ζ_j, where its block is central
        cone = force * np.sqrt(_PULL * lowest / np.maximum(reach, 1e-300))
        cone = np.minimum(cone, _SPREAD * float(cone.min(initial=np.inf)))
        # Y_0 and Q central beside K, y_j what dual feasibility leaves, ζ_j = ¼ V_:jᵀ Q V_:j raised to be inside
        inside = level / (h + 1) * np.linalg.inv(K)
        self._Y0 = -self._P @ np.linalg.solve(K, G).T
        self._y = cone[:, None] * tau - 0.5 * (self._Y0 @ V).T
        squares = np.einsum("ja,ab,jb->j", self._y, inverse, self._y)
        self._Q = inside + self._Y0.T @ inverse @ self._Y0
        if self._fixed is None:
            raised = 4.0 * (squares + lowest) / np.einsum("oj,op,pj->j", V, self._Q, V)
            self._Q *= max(1.0, float(raised.max(initial=1.0)))
            self._zeta = 0.25 * np.einsum("oj,op,pj->j", V, self._Q, V)
        else:
            self._zeta = squares + lowest
        return U, cone

    def _output_parts(self, W: Float) -> tuple[Float, Float]:
        """G (m, d) and K (m, m)."""
        V = self._V
        return 0.5 * V @ W, np.eye(len(V)) - 0.5 * (V * self._eta) @ V.T

    @property
    def value(self) -> float:
        return self._weight * self._rho if self._limit is None else 0.0

    @property
    def dual_value(self) -> float:
        # −tr Q; with η fixed −2 ζᵀη − <Q, K>; less limit · <M, P>
        value = -float(np.trace(self._Q))
        if self._fixed is not None:
            K = np.eye(len(self._V)) - 0.5 * (self._V * self._fixed) @ self._V.T
            value = -2.0 * float(self._zeta @ self._fixed) - float(np.sum(self._Q * K))
        return value if self._limit is None else value - self._limit * float(np.sum(self._P * self._M))

    @property
    def dual_pull(self) -> Float:
        # 2 y_j + Y_0 V_:j, nothing of the bias
        out = np.zeros((len(self._y), len(self._M) + 1))
        out[:, :-1] = 2.0 * self._y + (self._Y0 @ self._V).T
        return out

    def solution(self, U: Float, c: Float) -> Solution:
        data, program = self._data, self._data.program
        full, bias = data.undo(U, c)
        k = len(full)
        idle = np.ones(k, dtype=bool)
        idle[data.units] = False
        if program.penalty.eta is not None:
            eta = program.penalty.eta
        else:  # units that are left out get next to nothing
            eta = np.full(k, _IDLE / k)
            eta[data.units] = self._eta * (1.0 - _IDLE) if idle.any() else self._eta
        return Solution(full, bias, eta, certified_rho(program.directions, full, eta))

    def dual_point(self, residual: Float, z: Float) -> DualPoint:
        data, V = self._data, self._data.program.directions
        tau = data.tau
        # P, Y_0 and y are of whitened inputs: T⁻ᵀ = basis · singular takes them back
        back = data.basis * data.singular
        P = back @ self._P @ back.T
        if len(data.singular) < len(P):  # positive across the data too, where nothing pulls
            P = P + 1e-12 * np.trace(P) / len(P) * (np.eye(len(P)) - data.basis @ data.basis.T)
        units = np.zeros((z.shape[1], len(back)))
        units[:] = -0.5 * (back @ self._Y0 @ V).T  # of units that are left out: nothing pulls them
        units[data.units] = self._y @ back.T
        return DualPoint(residual, z, P, tau * back @ self._Y0, tau**2 * self._Q, tau * units)

    # ------------------------------------------------------------------------------------------------ one linearisation

    def scale(self, U: Float) -> bool:
        units, output, d = self._units, self._output, len(self._M)
        W, P = U[:, :d], self._P
        # β_j = w_j / e_j and β_0 = Gᵀ K⁻¹; what rounding took from Σ C = ρ M goes to the largest corner
        e = 2.0 * self._eta
        self._beta = W / e[:, None]
        G, K = self._output_parts(W)
        self._beta0 = np.asarray(np.linalg.solve(K, G)).T
        gap = self._rho * self._M - self._beta.T @ W - self._beta0 @ G - self._S.sum(axis=0) - self._S0[0]
        where = int(np.argmax(self._S.trace(axis1=1, axis2=2))) if len(W) else 0
        if np.trace(self._S0[0]) > np.trace(self._S[where]):
            self._S0[0] += 0.5 * (gap + gap.T)
        else:
            self._S[where] += 0.5 * (gap + gap.T)
        # T_j and T_0 in the frame where they are diagonal: [S_j, 0; 0, e_j] and [S_0, 0; 0, K]
        units.T[:, :d, :d], units.T[:, d, d] = self._S, e
        output.T[:, :d, :d], output.T[0, d:, d:] = self._S0, K
        # Z_j there: [P, y_j + P β_j; ·, ζ_j + β_jᵀ (2 y_j + P β_j)]
        bent = self._beta @ P
        psi = self._y + bent
        units.Z[:, :d, :d], units.Z[:, :d, d], units.Z[:, d, :d] = P, psi, psi
        units.Z[:, d, d] = self._zeta + np.sum(self._beta * (self._y + psi), axis=1)
        # and Z_0
        psi0 = self._Y0 + P @ self._beta0
        output.Z[0, :d, :d], output.Z[0, :d, d:], output.Z[0, d:, :d] = P, psi0, psi0.T
        crossed = self._beta0.T @ self._Y0
        output.Z[0, d:, d:] = self._Q + crossed + crossed.T + self._beta0.T @ P @ self._beta0
        return units.update() and output.update()

    @property
    def complement(self) -> float:
        return float(np.sum(self._units.T * self._units.Z) + np.sum(self._output.T * self._output.Z))

    def linearise(self, H: Float, rows: Float, first: int) -> LipschitzSystem:
        missing = self._weight - float(np.sum(self._P * self._M))
        at = Frame(self._units, self._output, self._beta, self._beta0, self._zeta, self._Q, missing)
        return LipschitzSystem(self._packing, at, self._columns, H, rows, first)

    # ------------------------------------------------------------------------------------------------ along a direction

    def longest(self, step: LipschitzStep, primal: float, dual: float) -> tuple[float, float]:
        primal, dual = self._units.longest(step.units, primal, dual)
        return self._output.longest(step.output, primal, dual)

    def ahead(self, step: LipschitzStep, primal: float, dual: float) -> float:
        value = 0.0
        for scaling, move in ((self._units, step.units), (self._output, step.output)):
            value += float(np.sum((scaling.T + primal * move.T) * (scaling.Z + dual * move.Z)))
        return value

    def second_order(self, step: LipschitzStep) -> tuple[Float, Float]:
        return ArrowScaling.second_order(step.units), ArrowScaling.second_order(step.output)

    def clipped(
        self,
        step: LipschitzStep,
        steps: tuple[float, float],
        bounds: tuple[float, float],
        corrections: tuple[Float, Float],
    ) -> tuple[Float, Float]:
        units, output = corrections
        return (
            units - self._units.clipped(step.units, *steps, *bounds),
            output - self._output.clipped(step.output, *steps, *bounds),
        )

    def move(self, step: LipschitzStep, primal: float, dual: float) -> None:
        d = len(self._M)
        (dT, dZ), (dT0, dZ0) = step.units[:2], step.output[:2]
        e, K = self._units.T[:, d, d], self._output.T[0, d:, d:]
        # primal: S moves by dS less what w wᵀ / e gains to second order, S_0 the same
        delta = dT[:, :d, d]
        self._S = self._S + primal * dT[:, :d, :d]
        self._S -= (primal**2 / (e + primal * dT[:, d, d]))[:, None, None] * delta[:, :, None] * delta[:, None, :]
        delta0 = dT0[0, :d, d:]
        bent = delta0 @ np.linalg.solve(K + primal * dT0[0, d:, d:], delta0.T)
        self._S0 = self._S0 + primal * dT0[:, :d, :d] - primal**2 * 0.5 * (bent + bent.T)
        self._eta = self._eta + primal * step.eta
        self._rho += primal * step.rho
        # dual: y, ζ and Y_0, Q from those of the frame, ψ = y + P β
        dP = dZ0[0, :d, :d]
        dpsi = dZ[:, :d, d]
        bent = self._beta @ dP
        self._zeta = self._zeta + dual * (dZ[:, d, d] - np.sum(self._beta * (2.0 * dpsi - bent), axis=1))
        self._y = self._y + dual * (dpsi - bent)
        dpsi0 = dZ0[0, :d, d:]
        crossed = self._beta0.T @ dpsi0
        moved = dZ0[0, d:, d:] - crossed - crossed.T + self._beta0.T @ dP @ self._beta0
        self._Q = self._Q + dual * 0.5 * (moved + moved.T)
        self._Y0 = self._Y0 + dual * (dpsi0 - dP @ self._beta0)
        self._P = self._P + dual * dP
