r"""One step's part of the certified Lipschitz penalty: its blocks scaled, η and the corners eliminated.

In the scaled frames the unit blocks ``T_j = [C_j, w_j; w_jᵀ, e_j]`` and their duals are told by a matrix Y_j (d, d) of
the corner, a number ω_j of the last entry and a vector θ_j between them, the output block ``T_0 = [C_0, Gᵀ; G, K]`` by
Y_0, ω_0 (m, m) and θ_0 (d, m) (:mod:`certnet.solvers.arrow`). Eliminated are

    C_j, C_0    they sum to ρ M: what is left of them are the rows for P
    η           through ``hη_j dη_j = reta_j − hu_jᵀ dw_j − (slopes of the rows)ᵀ v``

and the output block's part of the Hessian, a sum of squares of ``√½ J_Y (dGᵀ − φ₀ dK) J_ωᵀ`` and ``J_ω dK J_ωᵀ``, stays
as rows, with multipliers of their own, so that units are coupled through few rows only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky

from certnet.core.validation import Float
from certnet.solvers import arrow
from certnet.solvers.arrow import ArrowScaling, Move
from certnet.solvers.block import BlockAim

__all__ = ["Frame", "LipschitzStep", "LipschitzSystem", "Packing"]


@dataclass(frozen=True, eq=False)
class Packing:
    """Shapes and index arrays: the upper triangles of P (d, d) and of K (m, m), off-diagonals weighted by √2."""

    V: Float
    d: int
    left: NDArray[np.intp]
    right: NDArray[np.intp]
    weights: Float
    small: tuple[NDArray[np.intp], ...]
    small_weights: Float
    fixed: bool
    """Whether η is fixed."""

    @classmethod
    def of(cls, V: Float, d: int, fixed: bool) -> Packing:
        left, right = (index.astype(np.intp) for index in np.triu_indices(d))
        a, b = np.triu_indices(len(V))
        root = np.sqrt(2.0)
        weights, small_weights = np.where(left == right, 1.0, root), np.where(a == b, 1.0, root)
        return cls(V, d, left, right, weights, (a, b), small_weights, fixed)

    @property
    def n_mixed(self) -> int:
        """Rows of ``J_Y (dGᵀ − φ₀ dK) J_ωᵀ``."""
        return self.d * len(self.V)

    @property
    def n_shared(self) -> int:
        """These and the rows of ``J_ω dK J_ωᵀ``."""
        return self.n_mixed + len(self.small[0])

    @property
    def n_rows(self) -> int:
        """These and the rows of P."""
        return self.n_shared + len(self.left)

    def packed(self, A: Float) -> Float:
        """A symmetric (d, d) matrix as a vector with the same inner products."""
        return np.asarray(A[self.left, self.right] * self.weights)


@dataclass(frozen=True, eq=False)
class Frame:
    """Where the blocks are linearised.

    Attributes
    ----------
    units, output : ArrowScaling
        Of the unit blocks and of the output block, scaled.
    beta, beta0 : ndarray, shapes (h, d), (d, m)
        ``w_j / e_j`` and ``Gᵀ K⁻¹``.
    zeta, Q : ndarray, shapes (h,), (m, m)
        Last entries of the duals, of units and output.
    missing : float
        ``λ − <M, P>``.
    """

    units: ArrowScaling
    output: ArrowScaling
    beta: Float
    beta0: Float
    zeta: Float
    Q: Float
    missing: float


class LipschitzStep:
    """A direction of the block: of η, ρ and of the blocks in their frames, units and output."""

    eta: Float
    rho: float
    units: Move
    output: Move

    def __init__(self, eta: Float, rho: float, units: Move, output: Move) -> None:
        self.eta, self.rho, self.units, self.output = eta, rho, units, output


class LipschitzSystem:
    """The blocks' part of one step; see :class:`~certnet.solvers.block.BlockSystem`."""

    columns: Float

    def __init__(self, packing: Packing, at: Frame, columns: Float, H: Float, rows: Float, first: int) -> None:
        self._packing, self._at, self.columns = packing, at, columns
        units, output, fixed = at.units, at.output, packing.fixed
        V, d = packing.V, packing.d
        h = V.shape[1]
        n_mixed, n_shared, n_rows = packing.n_mixed, packing.n_shared, packing.n_rows
        omega, phi, phi0 = units.omega[:, 0, 0], at.beta + units.theta[:, :, 0], at.beta0 + output.theta[0]
        # unit blocks: with η a variable, hu = −4 Y⁻¹φ / ω and hη = 8 φᵀY⁻¹φ / ω + 4 / ω²; their part of H, η eliminated
        turned = np.einsum("jab,jb->ja", units.Yi, phi)
        self._hu, self._heta, ratio = np.zeros((h, d)), np.ones(h), np.zeros((h, d))
        if fixed:
            self._own = units.Yi * (2.0 / omega)[:, None, None]
        else:
            self._own = arrow.shifted_inverse(units.Y, omega, phi)
            self._hu = -4.0 * turned / omega[:, None]
            self._heta = 8.0 * np.sum(turned * phi, axis=1) / omega + 4.0 / omega**2
            ratio = self._hu / self._heta[:, None]
        H[:, :d, :d] += self._own
        # output block: factors J_Y of Y_0⁻¹ and J_ω of ω_0⁻¹, and how dG = ½ V dW enters the shared rows
        self._JY = cholesky(output.Yi[0], lower=True).T
        self._Jw = cholesky(np.linalg.inv(output.omega[0]), lower=True).T
        JwV, phiV = self._Jw @ V, phi0 @ V
        half = np.sqrt(0.5)
        shared = np.zeros((n_shared, h, d))
        shared[:n_mixed] = half * (self._JY[:, None, None, :] * JwV[None, :, :, None]).reshape(n_mixed, h, d)
        # how dη_j enters the rows: through dK = −½ V diag(dη) Vᵀ, and in those of P through both kinds of blocks
        self._slopes = np.zeros((n_rows, h))
        if not fixed:
            a, b = packing.small
            self._slopes[:n_mixed] = half * ((self._JY @ phiV)[:, None, :] * JwV[None]).reshape(n_mixed, h)
            self._slopes[n_mixed:n_shared] = -0.5 * packing.small_weights[:, None] * JwV[a] * JwV[b]
            squares = 0.5 * phiV[packing.left] * phiV[packing.right]
            squares -= 2.0 * (phi[:, packing.left] * phi[:, packing.right]).T
            self._slopes[n_shared:] = packing.weights[:, None] * squares
        own_rows = phi + 0.5 * phiV.T
        ours = rows[:, :, first : first + n_rows]
        arrow.fill_rows(ours, own_rows, shared, ratio, self._slopes, packing.left, packing.right, packing.weights)
        # D: slopes diag(1 / hη) slopesᵀ of the eliminated η, I of the squares, Σ Y ⊗ Y of the rows of P
        self.D = np.zeros((n_rows, n_rows)) if fixed else (self._slopes / self._heta) @ self._slopes.T
        self.D[np.arange(n_shared), np.arange(n_shared)] += 1.0
        self.D[n_shared:, n_shared:] += self._corner_gram()

    def _corner_gram(self) -> Float:
        """``Σ_k Y_k ⊗ Y_k`` on symmetric matrices, packed."""
        d = self._packing.d
        flat = np.concatenate([self._at.units.Y, self._at.output.Y]).reshape(-1, d * d)
        full = (flat.T @ flat).reshape(d, d, d, d)
        i, j, wt = self._packing.left, self._packing.right, self._packing.weights
        straight = full[i[:, None], i[None], j[:, None], j[None]]
        crossed = full[i[:, None], j[None], j[:, None], i[None]]
        return np.asarray(0.5 * (straight + crossed) * wt[:, None] * wt[None])

    def aim(self, target: float, corrections: tuple[Float, Float] | None, r: Float) -> BlockAim:
        packing, units, output = self._packing, self._at.units, self._at.output
        V, d = packing.V, packing.d
        # target · T⁻¹ − Z less the corrections, in the frames: A of the corners beside what pulls w, e and G, K
        n_own, n_output = corrections if corrections is not None else (units.none, output.none)
        own, joint = units.centred(target, n_own), output.centred(target, n_output)
        # units: forces on w_j and e_j with the corner eliminated, and Σ Y A Y for the rows of P
        hw, he, kappa = arrow.pulled(own, units.theta[:, :, 0], self._at.beta, units.Y)
        # output: forces on G and K, the same
        A, theta = joint[0, :d, :d], output.theta[0]
        hw0 = joint[0, :d, d:] + A @ theta
        crossed = self._at.beta0.T @ hw0
        he0 = joint[0, d:, d:] - theta.T @ A @ theta - crossed - crossed.T
        kappa += output.Y[0] @ A @ output.Y[0]
        # e = 2 η, G = ½ V W and K = I − ½ V diag(η) Vᵀ: forces on W and on η
        r = r.copy()
        r[:, :d] += 2.0 * hw + (hw0 @ V).T
        g = np.zeros(packing.n_rows)
        g[packing.n_shared :] = packing.packed(kappa)
        reta = np.zeros(len(own))
        if not packing.fixed:  # η eliminated
            forces = 2.0 * (he + self._at.zeta) - 0.5 * np.einsum("oj,op,pj->j", V, he0 + self._at.Q, V)
            reta = forces / self._heta
            r[:, :d] -= self._hu * reta[:, None]
            g += self._slopes @ reta
        # <M, P> = λ, where ρ is a variable
        b = np.full(self.columns.shape[1], self._at.missing)
        return BlockAim(r, g, b, (own, joint, reta))

    def direction(self, dU: Float, v: Float, t: Float, aimed: tuple[Float, Float, Float]) -> LipschitzStep:
        packing, units, output = self._packing, self._at.units, self._at.output
        V, d, n_mixed, n_shared = packing.V, packing.d, packing.n_mixed, packing.n_shared
        own, joint, reta = aimed
        m = len(V)
        dW = np.ascontiguousarray(dU[:, :d])
        # dη_j = reta_j − (hu_jᵀ dw_j + slopesᵀ v) / hη_j, and the force on dw that the solved system knows, to rounding
        deta = np.zeros(len(dW))
        g = 0.5 * np.matmul(self._own, dW[:, :, None])[:, :, 0]
        if not packing.fixed:
            alone = reta - (v @ self._slopes) / self._heta
            deta = alone - np.sum(self._hu * dW, axis=1) / self._heta
            g += 0.5 * self._hu * alone[:, None]
        # dP from its rows' multipliers
        dP = np.empty((d, d))
        dP[packing.left, packing.right] = dP[packing.right, packing.left] = v[n_shared:] / packing.weights
        # unit blocks: dT and dZ from dw, de = 2 dη, dP and that force
        de = 2.0 * deta
        delta = dW - self._at.beta * de[:, None]
        moves = arrow.coupled(own, dP, delta, de, g, units.theta[:, :, 0], units.omega[:, 0, 0], units.Y)
        # output block: dG and dK, the forces from the multipliers of the shared rows
        dG, dK = 0.5 * V @ dW, -0.5 * (V * deta) @ V.T
        delta, theta = dG.T - self._at.beta0 @ dK, output.theta[0]
        g0 = np.sqrt(0.5) * self._JY.T @ v[:n_mixed].reshape(d, m) @ self._Jw
        bent = np.empty((m, m))
        bent[packing.small] = v[n_mixed:n_shared] / packing.small_weights
        bent.T[packing.small] = bent[packing.small]
        pushed = self._Jw.T @ bent @ self._Jw
        # its dT: the corner Y_0 (A − dP) Y_0 with the moves across, G and K as they are
        A = joint[0, :d, :d] - dP
        dT0, dZ0 = np.empty_like(output.T), np.empty_like(output.T)
        bent = delta @ theta.T
        dT0[0, :d, :d] = output.Y[0] @ A @ output.Y[0] + bent + bent.T - theta @ dK @ theta.T
        dT0[0, :d, d:], dT0[0, d:, :d], dT0[0, d:, d:] = delta, delta.T, dK
        # its dZ: dP, and the aimed values less the forces
        dZ0[0, :d, :d] = dP
        dZ0[0, :d, d:] = joint[0, :d, d:] - g0 + A @ theta
        dZ0[0, d:, :d] = dZ0[0, :d, d:].T
        slope = theta.T @ g0
        dZ0[0, d:, d:] = joint[0, d:, d:] - pushed + slope + slope.T - theta.T @ A @ theta
        return LipschitzStep(deta, float(t[0]) if len(t) else 0.0, units.move(*moves), output.move(dT0, dZ0))
