r"""The matrix inequality in few variables: no units without limits, inputs reduced to their rank. Floating point.

With F the units without limits and B the others that can move, ``v_F = H_FF⁻¹ (Q_F u − H_FB v_B)`` exactly, and

    P(t, ρ) = [ ρ I − S_uᵀ S_u      −Q̃ᵀ T − S_uᵀ S_v       ]
              [ −T Q̃ − S_vᵀ S_u     T H̃ + H̃ T − S_vᵀ S_v  ]

    H̃ = H_BB − H_BF H_FF⁻¹ H_FB,   Q̃ = Q_B − H_BF H_FF⁻¹ Q_F,   Sᵀ v = S_u u + S_v v_B,   T = diag(t)

and u in the row space of W_0. :meth:`Reduced.multipliers` are those of the checker, which knows nothing of all this.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from certnet.claims.claim import Output
from certnet.core.validation import Float
from certnet.networks.energy import LiftedEnergy
from certnet.networks.quadratic import hessian
from certnet.proofs.lifted_energy import moving, selector, unlimited

__all__ = ["LiftedProgram", "program_without_free_units"]


@dataclass(frozen=True, eq=False)
class LiftedProgram:
    """The program over the multipliers of the b units with limits.

    Attributes
    ----------
    H : ndarray, shape (b, b)
        H̃.
    Q : ndarray, shape (b, r)
        Q̃ in an orthonormal basis of the row space of W_0.
    S_u, S_v : ndarray, shapes (m, r), (m, b)
    bounded, free : ndarray of int
        B and F among all units.
    back : ndarray, shape (f, f)
        H_FF⁻¹.
    across : ndarray, shape (b, f)
        H_BF.
    chosen : ndarray, shape (n, m)
        S of all units.
    Q_free : ndarray, shape (f, r)
        Q_F.
    """

    H: Float
    Q: Float
    S_u: Float
    S_v: Float
    bounded: NDArray[np.intp]
    free: NDArray[np.intp]
    back: Float
    across: Float
    chosen: Float
    Q_free: Float

    def of_outputs(self, chosen: Float) -> LiftedProgram:
        """The same for another selection of outputs, S (n, m)."""
        S_B, S_F = chosen[self.bounded], chosen[self.free]
        across = S_F.T @ self.back
        return replace(self, S_u=across @ self.Q_free, S_v=S_B.T - across @ self.across.T, chosen=chosen)

    def rho(self, t: Float) -> float:
        """The least ρ with ``P(t, ρ) ⪰ 0``; infinite where there is none."""
        cross = t[:, None] * self.Q + self.S_v.T @ self.S_u
        N = t[:, None] * self.H
        N = N + N.T - self.S_v.T @ self.S_v
        try:
            half = scipy.linalg.solve_triangular(np.linalg.cholesky(N), cross, lower=True, check_finite=False)
            rho = float(np.linalg.eigvalsh(half.T @ half + self.S_u.T @ self.S_u)[-1])
        except (np.linalg.LinAlgError, ValueError):
            return float("inf")
        return rho if rho >= 0.0 else float("inf")

    def multipliers(self, t: Float, rho: float, slack: float) -> tuple[Float, ...]:
        """The checker's: t of all units, and a column for each unit without limits.

        ``Y_F = S_F S_Fᵀ H_FF⁻¹ + ε I`` on the rows of F and ``Y_B = (S_B S_Fᵀ − T H_BF + ε H_BF) H_FF⁻¹`` on those of B
        separate the inequality into the reduced one and a definite block of F; ε costs ρ at most
        ``½ ε ‖Q_Fᵀ H_FF⁻¹ Q_F‖``, which is ``slack`` of it.
        """
        n = len(self.chosen)
        whole = np.zeros(n)
        whole[self.bounded] = t
        if len(self.free) == 0:
            return (whole,)
        S_B, S_F = self.chosen[self.bounded], self.chosen[self.free]
        epsilon = self._epsilon(rho, slack)
        Y = np.zeros((n, len(self.free)))
        Y[self.free] = S_F @ S_F.T @ self.back + epsilon * np.eye(len(self.free))
        Y[self.bounded] = (S_B @ S_F.T - t[:, None] * self.across + epsilon * self.across) @ self.back
        return (whole, *Y.T)

    def _epsilon(self, rho: float, slack: float) -> float:
        least = 1.0 / float(np.linalg.norm(self.back, 2)) if len(self.back) else 1.0
        most = 1.0 / least
        spent = float(np.linalg.norm(self.Q_free.T @ self.back @ self.Q_free, 2)) if self.Q_free.any() else 0.0
        return most if spent == 0.0 else min(most, 2.0 * slack * rho / spent)


def program_without_free_units(net: LiftedEnergy, output: Output = None) -> LiftedProgram:
    """Eliminate what needs no multipliers.

    Raises
    ------
    numpy.linalg.LinAlgError
        H is not positive definite to working precision.
    """
    H, S = hessian(net), selector(net, output)
    free = np.flatnonzero(unlimited(net))
    bounded = np.flatnonzero(moving(net) & ~unlimited(net))
    Q = np.zeros((net.n_units, min(net.weights[0].shape)))
    # W_0 = R' (an orthonormal basis)
    Q[net.layers[0]] = (1.0 + net.beta[0]) * np.asarray(np.linalg.qr(net.weights[0].T, mode="r")).T
    across, Q_F = H[np.ix_(bounded, free)], Q[free]
    back = np.linalg.inv(H[np.ix_(free, free)])
    back = 0.5 * (back + back.T)
    np.linalg.cholesky(H)  # raises where the elimination has no meaning
    S_B, S_F = S[bounded], S[free]
    schur = H[np.ix_(bounded, bounded)] - across @ back @ across.T
    return LiftedProgram(
        H=0.5 * (schur + schur.T),
        Q=Q[bounded] - across @ back @ Q_F,
        S_u=S_F.T @ back @ Q_F,
        S_v=S_B.T - S_F.T @ back @ across.T,
        bounded=bounded,
        free=free,
        back=back,
        across=across,
        chosen=S,
        Q_free=Q_F,
    )
