r"""The certified Lipschitz penalty in an interior-point method: one small semidefinite block per unit.

The arrow inequality of the joint restriction splits into

    T_j = [C_j, w_j; w_jᵀ, 2 η_j] ⪰ 0,    T_0 = [C_0, Gᵀ; G, K] ⪰ 0,    C_0 + Σ_j C_j = ρ M,

with ``G = ½ V W``, ``K = I − ½ V diag(η) Vᵀ``. Their duals share one corner P: ``Z_j = [P, y_j; y_jᵀ, ζ_j]`` and
``Z_0 = [P, Y_0; Y_0ᵀ, Q]``, with ``<M, P> = λ`` and ``ζ_j = ¼ V_:jᵀ Q V_:j``. Nesterov–Todd scaling of each block
(:mod:`certnet.kernels.arrow`) leaves, after the corners C are eliminated, one block per unit and rows for P: d(d+1)/2
of them, whatever the number of units.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cholesky

from certnet.core.validation import Float
from certnet.kernels import arrow
from certnet.solvers.reduced import Reduced

__all__ = ["LipschitzBlock", "LipschitzStep"]

_ROOM = 0.03  # fraction of ρ M that the start's weights take
_PULL = 5.0  # squared pull of the start's cone multipliers, in units of what each block holds by itself
_SPREAD = 3.0  # between the multipliers of the units at the start


class _Scaling:
    """Nesterov–Todd scaling of blocks of one order, and buffers for their directions."""

    def __init__(self, n_blocks: int, d: int, m: int) -> None:
        q = d + m
        self.T, self.Z = np.zeros((n_blocks, q, q)), np.zeros((n_blocks, q, q))
        self.R, self.Ri = np.empty((n_blocks, q, q)), np.empty((n_blocks, q, q))
        self.roots = np.empty((n_blocks, q))
        self.theta, self.omega = np.empty((n_blocks, d, m)), np.empty((n_blocks, m, m))
        self.Y, self.Yi = np.empty((n_blocks, d, d)), np.empty((n_blocks, d, d))
        self.none = np.zeros((n_blocks, q, q))

    def update(self) -> bool:
        d = self.Y.shape[1]
        S, E = np.ascontiguousarray(self.T[:, :d, :d]), np.ascontiguousarray(self.T[:, d:, d:])
        parts = (self.R, self.Ri, self.roots, self.theta, self.omega, self.Y, self.Yi)
        return bool(arrow.scale(S, E, self.Z, *parts))


class LipschitzStep:
    """A direction of the block: of η, ρ and of the blocks in their frames, units and output."""

    def __init__(self, eta: Float, rho: float, units: tuple[Float, Float], output: tuple[Float, Float]) -> None:
        self.eta, self.rho, self.units, self.output = eta, rho, units, output


class LipschitzBlock:
    """State of the penalty ``λ ρ`` (or of the constraint ``ρ ≤ limit``) along the iterations."""

    def __init__(self, reduced: Reduced, limit: float | None = None) -> None:
        self._V, self._M, self._weight, self._limit = reduced.directions, reduced.metric, reduced.weight, limit
        self._fixed = reduced.eta
        m, h = self._V.shape
        d = len(self._M)
        self._left, self._right = (index.astype(np.intp) for index in np.triu_indices(d))
        self._wt = np.where(self._left == self._right, 1.0, np.sqrt(2.0))
        self._packed_metric = self._M[self._left, self._right] * self._wt
        self._small = np.triu_indices(m)
        self._units, self._output = _Scaling(h, d, 1), _Scaling(1, d, m)
        self.n_rows = d * m + m * (m + 1) // 2 + len(self._wt)
        self.n_columns = 0 if limit is not None else 1
        self.degree = h * (d + 1) + d + m
        self.eta, self.rho = np.zeros(h), 0.0

    # ------------------------------------------------------------------------------------------------ start and values

    def begin(self, U: Float, pull: Float, share: float, force: float = 1.0) -> tuple[Float, Float]:
        """A start well inside, exactly dual feasible for residuals zero.

        Parameters
        ----------
        U : ndarray, shape (h, d + 1)
            Directions of the units, each near the analytic centre of its cone.
        pull : ndarray, shape (h, d + 1)
            ``Gᵀ (1 / s)`` there, its last column zero.
        share : float
            ``λ ρ`` to start with.
        force : float
            Factor of the cone multipliers; the bound below is the worse for it.

        Returns
        -------
        U : ndarray, shape (h, d + 1)
            Scaled to the block.
        level : ndarray, shape (h,)
            Cone multipliers are ``level / s``, with the scaled slacks.
        """
        V, M, d = self._V, self._M, len(self._M)
        h = V.shape[1]
        if self._fixed is None:
            top = float(np.linalg.eigvalsh(V @ V.T)[-1])
            self.eta = np.full(h, 2.0 / top * h / (h + 1.0))
        else:
            self.eta = self._fixed.copy()
        W = U[:, :d]
        G, K = self._output_parts(W)
        N = 0.5 * (W.T / self.eta) @ W + G.T @ np.linalg.solve(K, G)
        root = np.linalg.inv(cholesky(M, lower=True))
        top = float(np.linalg.eigvalsh(root @ N @ root.T)[-1])
        self.rho = share / self._weight if self._limit is None else self._limit
        trace = self._weight if self._limit is None else share / self._limit
        factor = np.sqrt(self.rho * _ROOM / top) if top > 0.0 else 0.0
        U, W, G = U * factor, W * factor, G * factor
        R = self.rho * M - factor**2 * N
        self._S, self._S0 = np.repeat((R / (h + 1))[None], h, axis=0), (R / (h + 1))[None].copy()
        P = np.linalg.inv(R)
        level = trace / float(np.sum(P * M))
        self._P = P * level
        inverse = R / level
        tau = -0.5 * pull[:, :d] / max(factor, 1e-300)
        reach = np.einsum("ja,ab,jb->j", tau, inverse, tau)
        lowest = level / (h + 1) / (2.0 * self.eta)  # of ζ_j, where its block is central
        cone = force * np.sqrt(_PULL * lowest / np.maximum(reach, 1e-300))
        cone = np.minimum(cone, _SPREAD * float(cone.min(initial=np.inf)))
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
        return 0.5 * V @ W, np.eye(len(V)) - 0.5 * (V * self.eta) @ V.T

    @property
    def value(self) -> float:
        return self._weight * self.rho if self._limit is None else 0.0

    @property
    def dual_value(self) -> float:
        """What the block takes from the dual objective."""
        value = -float(np.trace(self._Q))
        if self._fixed is not None:
            K = np.eye(len(self._V)) - 0.5 * (self._V * self._fixed) @ self._V.T
            value = -2.0 * float(self._zeta @ self._fixed) - float(np.sum(self._Q * K))
        return value if self._limit is None else value - self._limit * float(np.sum(self._P * self._M))

    @property
    def dual_pull(self) -> Float:
        """What the duals of the block take from the gradient in U, (h, d + 1)."""
        out = np.zeros((len(self._y), len(self._M) + 1))
        out[:, :-1] = 2.0 * self._y + (self._Y0 @ self._V).T
        return out

    @property
    def multipliers(self) -> tuple[Float, Float, Float, Float]:
        """P, Y_0, Q and y."""
        return self._P, self._Y0, self._Q, self._y

    # ------------------------------------------------------------------------------------------------ one linearisation

    def prepare(self, U: Float) -> bool:
        """Scale the blocks at U; False where floating point no longer can."""
        units, output, d = self._units, self._output, len(self._M)
        W, P = U[:, :d], self._P
        e = 2.0 * self.eta
        self._beta = W / e[:, None]
        G, K = self._output_parts(W)
        self._beta0 = np.linalg.solve(K, G).T
        gap = self.rho * self._M - self._beta.T @ W - self._beta0 @ G - self._S.sum(axis=0) - self._S0[0]
        where = int(np.argmax(self._S.trace(axis1=1, axis2=2))) if len(W) else 0
        if np.trace(self._S0[0]) > np.trace(self._S[where]):
            self._S0[0] += 0.5 * (gap + gap.T)
        else:
            self._S[where] += 0.5 * (gap + gap.T)
        units.T[:, :d, :d], units.T[:, d, d] = self._S, e
        output.T[:, :d, :d], output.T[0, d:, d:] = self._S0, K
        bent = self._beta @ P
        psi = self._y + bent
        units.Z[:, :d, :d], units.Z[:, :d, d], units.Z[:, d, :d] = P, psi, psi
        units.Z[:, d, d] = self._zeta + np.sum(self._beta * (self._y + psi), axis=1)
        psi0 = self._Y0 + P @ self._beta0
        output.Z[0, :d, :d], output.Z[0, :d, d:], output.Z[0, d:, :d] = P, psi0, psi0.T
        crossed = self._beta0.T @ self._Y0
        output.Z[0, d:, d:] = self._Q + crossed + crossed.T + self._beta0.T @ P @ self._beta0
        if not (units.update() and output.update()):
            return False
        self._phi, self._phi0 = self._beta + units.theta[:, :, 0], self._beta0 + output.theta[0]
        return True

    @property
    def complement(self) -> float:
        """``<T, Z>``."""
        return float(np.sum(self._units.T * self._units.Z) + np.sum(self._output.T * self._output.Z))

    def assemble(self, H: Float, rows: Float, first: int) -> tuple[Float, Float]:
        """Add to the blocks H, fill the coupling rows, and return D and the columns of the system."""
        units, output, V, d = self._units, self._output, self._V, len(self._M)
        m, h = V.shape
        omega, theta = units.omega[:, 0, 0], self._phi
        turned = np.einsum("jab,jb->ja", units.Yi, theta)
        own = np.empty((h, d, d))
        if self._fixed is None:
            arrow.shifted_inverse(units.Y, omega, theta, own)
            self._hue = -4.0 * turned / omega[:, None]
            self._hee = 8.0 * np.sum(turned * theta, axis=1) / omega + 4.0 / omega**2
            ratio = self._hue / self._hee[:, None]
        else:
            np.multiply(units.Yi, (2.0 / omega)[:, None, None], out=own)
            ratio = np.zeros((h, d))
        H[:, :d, :d] += own
        self._own = own
        # output block: √2 J_Y (dGᵀ − φ₀ dK) J_ωᵀ and J_ω dK J_ωᵀ, squared, are its part of the Hessian
        JY = cholesky(output.Yi[0], lower=True).T
        Jw = cholesky(np.linalg.inv(output.omega[0]), lower=True).T
        JwV, phiV = Jw @ V, self._phi0 @ V
        a, b = self._small
        weights = np.where(a == b, 1.0, np.sqrt(2.0))
        n_mixed, n_corner = d * m, len(self._wt)
        shared = np.zeros((n_mixed + len(a), h, d))
        half = np.sqrt(0.5)
        shared[:n_mixed] = half * (JY[:, None, None, :] * JwV[None, :, :, None]).reshape(n_mixed, h, d)
        slopes = np.zeros((n_mixed + len(a) + n_corner, h))
        if self._fixed is None:
            slopes[:n_mixed] = half * ((JY @ phiV)[:, None, :] * JwV[None]).reshape(n_mixed, h)
            slopes[n_mixed : n_mixed + len(a)] = -0.5 * weights[:, None] * JwV[a] * JwV[b]
            squares = 0.5 * phiV[self._left] * phiV[self._right]
            squares -= 2.0 * (theta[:, self._left] * theta[:, self._right]).T
            slopes[n_mixed + len(a) :] = self._wt[:, None] * squares
        own_rows = theta + 0.5 * phiV.T
        arrow.fill_rows(rows, first, own_rows, shared, ratio, slopes, self._left, self._right, self._wt)
        D = (slopes / self._hee) @ slopes.T if self._fixed is None else np.zeros((len(slopes), len(slopes)))
        n_shared = n_mixed + len(a)
        D[np.arange(n_shared), np.arange(n_shared)] += 1.0
        D[n_shared:, n_shared:] += self._corner_gram()
        self._slopes, self._n_shared, self._roots = slopes, n_shared, (JY, Jw, weights)
        columns = np.zeros((len(D), self.n_columns))
        columns[n_shared:, :] = self._packed_metric[:, None]
        return D, columns

    def _corner_gram(self) -> Float:
        """``Σ_k Y_k ⊗ Y_k`` on symmetric matrices, packed."""
        d = len(self._M)
        flat = np.concatenate([self._units.Y, self._output.Y]).reshape(-1, d * d)
        full = (flat.T @ flat).reshape(d, d, d, d)
        i, j, wt = self._left, self._right, self._wt
        straight = full[i[:, None], i[None], j[:, None], j[None]]
        crossed = full[i[:, None], j[None], j[:, None], i[None]]
        return np.asarray(0.5 * (straight + crossed) * wt[:, None] * wt[None])

    def aim(
        self, target: float, corrections: tuple[Float, Float] | None, r: Float
    ) -> tuple[Float, Float, Float, tuple[Float, Float, Float]]:
        """Right-hand sides for complementarity ``target``: r gains the block's part, η eliminated.

        Returns r (h, d + 1), g of the rows, b of the columns, and what :meth:`direction` needs.
        """
        units, output, V, d = self._units, self._output, self._V, len(self._M)
        n_own, n_output = corrections if corrections is not None else (units.none, output.none)
        own, joint = np.empty_like(units.T), np.empty_like(output.T)
        arrow.centring(target, units.roots, units.Ri, n_own, own)
        arrow.centring(target, output.roots, output.Ri, n_output, joint)
        hw, he, kappa = np.empty((len(own), d)), np.empty(len(own)), np.zeros((d, d))
        arrow.pulled(own, units.theta[:, :, 0], self._beta, units.Y, hw, he, kappa)
        A, theta = joint[0, :d, :d], output.theta[0]
        hw0 = joint[0, :d, d:] + A @ theta
        crossed = self._beta0.T @ hw0
        he0 = joint[0, d:, d:] - theta.T @ A @ theta - crossed - crossed.T
        kappa += output.Y[0] @ A @ output.Y[0]
        r = r.copy()
        r[:, :d] += 2.0 * hw + (hw0 @ V).T
        g = np.zeros(self.n_rows)
        g[self._n_shared :] = kappa[self._left, self._right] * self._wt
        reta = np.zeros(len(own))
        if self._fixed is None:
            forces = 2.0 * (he + self._zeta) - 0.5 * np.einsum("oj,op,pj->j", V, he0 + self._Q, V)
            reta = forces / self._hee
            r[:, :d] -= self._hue * reta[:, None]
            g += self._slopes @ reta
        b = np.zeros(self.n_columns)
        if self.n_columns:
            b[0] = self._weight - float(np.sum(self._P * self._M))
        return r, g, b, (own, joint, reta)

    def direction(self, dU: Float, v: Float, t: Float, aimed: tuple[Float, Float, Float]) -> LipschitzStep:
        """Of η, ρ and the blocks, from that of the weights and of the rows' multipliers."""
        units, output, V, d = self._units, self._output, self._V, len(self._M)
        own, joint, reta = aimed
        m, n_mixed = len(V), d * len(V)
        dW = np.ascontiguousarray(dU[:, :d])
        deta = np.zeros(len(dW))
        g = 0.5 * np.matmul(self._own, dW[:, :, None])[:, :, 0]  # the force that the solved system knows, to rounding
        if self._fixed is None:
            alone = reta - (v @ self._slopes) / self._hee
            deta = alone - np.sum(self._hue * dW, axis=1) / self._hee
            g += 0.5 * self._hue * alone[:, None]
        dP = np.empty((d, d))
        dP[self._left, self._right] = dP[self._right, self._left] = v[self._n_shared :] / self._wt
        dT, dZ = np.empty_like(units.T), np.empty_like(units.T)
        de = 2.0 * deta
        delta = dW - self._beta * de[:, None]
        arrow.coupled(own, dP, delta, de, g, units.theta[:, :, 0], units.omega[:, 0, 0], units.Y, dT, dZ)
        dG, dK = 0.5 * V @ dW, -0.5 * (V * deta) @ V.T
        delta, theta = dG.T - self._beta0 @ dK, output.theta[0]
        JY, Jw, weights = self._roots
        g0 = np.sqrt(0.5) * JY.T @ v[:n_mixed].reshape(d, m) @ Jw
        bent = np.empty((m, m))
        bent[self._small] = v[n_mixed : self._n_shared] / weights
        bent.T[self._small] = bent[self._small]
        pushed = Jw.T @ bent @ Jw
        A = joint[0, :d, :d] - dP
        dT0, dZ0 = np.empty_like(output.T), np.empty_like(output.T)
        bent = delta @ theta.T
        dT0[0, :d, :d] = output.Y[0] @ A @ output.Y[0] + bent + bent.T - theta @ dK @ theta.T
        dT0[0, :d, d:], dT0[0, d:, :d], dT0[0, d:, d:] = delta, delta.T, dK
        dZ0[0, :d, :d] = dP
        dZ0[0, :d, d:] = joint[0, :d, d:] - g0 + A @ theta
        dZ0[0, d:, :d] = dZ0[0, :d, d:].T
        slope = theta.T @ g0
        dZ0[0, d:, d:] = joint[0, d:, d:] - pushed + slope + slope.T - theta.T @ A @ theta
        return LipschitzStep(deta, float(t[0]) if self.n_columns else 0.0, (dT, dZ), (dT0, dZ0))

    # ------------------------------------------------------------------------------------------------ along a direction

    def longest(self, step: LipschitzStep, primal: float, dual: float) -> tuple[float, float]:
        """The longest primal and dual steps up to the given ones that stay inside."""
        for scaling, (dT, dZ) in ((self._units, step.units), (self._output, step.output)):
            primal = arrow.longest_step(scaling.T, dT, primal)
            dual = arrow.longest_step(scaling.Z, dZ, dual)
        return primal, dual

    def ahead(self, step: LipschitzStep, primal: float, dual: float) -> float:
        """``<T + primal dT, Z + dual dZ>``."""
        value = 0.0
        for scaling, (dT, dZ) in ((self._units, step.units), (self._output, step.output)):
            value += float(np.sum((scaling.T + primal * dT) * (scaling.Z + dual * dZ)))
        return value

    def second_order(self, step: LipschitzStep, factor: float) -> tuple[Float, Float]:
        """Mehrotra's correction."""
        out = []
        for scaling, (dT, dZ) in ((self._units, step.units), (self._output, step.output)):
            X = np.empty_like(dT)
            arrow.second_order(scaling.R, scaling.Ri, dT, dZ, factor, X)
            out.append(X)
        return out[0], out[1]

    def clipped(
        self,
        step: LipschitzStep,
        steps: tuple[float, float],
        bounds: tuple[float, float],
        corrections: tuple[Float, Float],
    ) -> tuple[Float, Float]:
        """Gondzio's correction on top of ``corrections``."""
        out = []
        pairs = ((self._units, step.units, corrections[0]), (self._output, step.output, corrections[1]))
        for scaling, (dT, dZ), before in pairs:
            X = np.empty_like(dT)
            arrow.clipped(scaling.R, scaling.Ri, scaling.roots, dT, dZ, *steps, *bounds, X)
            out.append(before - X)
        return out[0], out[1]

    def move(self, step: LipschitzStep, primal: float, dual: float) -> None:
        """Take the step; the caller moves U."""
        d = len(self._M)
        (dT, dZ), (dT0, dZ0) = step.units, step.output
        e, K = self._units.T[:, d, d], self._output.T[0, d:, d:]
        delta = dT[:, :d, d]
        self._S = self._S + primal * dT[:, :d, :d]
        self._S -= (primal**2 / (e + primal * dT[:, d, d]))[:, None, None] * delta[:, :, None] * delta[:, None, :]
        delta0 = dT0[0, :d, d:]
        bent = delta0 @ np.linalg.solve(K + primal * dT0[0, d:, d:], delta0.T)
        self._S0 = self._S0 + primal * dT0[:, :d, :d] - primal**2 * 0.5 * (bent + bent.T)
        self.eta = self.eta + primal * step.eta
        self.rho += primal * step.rho
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
