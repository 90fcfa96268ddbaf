r"""Small positive definite blocks of an arrow: Nesterov–Todd scaling, directions and step lengths, all blocks at once.

A block of order q = d + 1 is ``T = [C, w; wᵀ, e]``. It is held in its own frame: with ``β = w / e`` and the unit upper
triangular ``Λ = [I, β; 0, 1]``, ``T = Λ diag(S, e) Λᵀ`` where S is the Schur complement, and its dual is
``Λᵀ Z Λ = [P, ψ; ψᵀ, ζ]``. S may be 10⁻¹⁰ times C near the optimum: only in this frame does it keep its digits.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from certnet.core.validation import Float

__all__ = ["ArrowScaling", "Move", "coupled", "fill_rows", "inverse_factors", "pulled", "shifted_inverse"]

_LEAST: Final = 1e-14  # of a pivot, beside its diagonal


class Move(NamedTuple):
    """Directions dT and dZ of blocks, and the same in the scaled frame, ``R⁻¹ dT R⁻ᵀ`` and ``Rᵀ dZ R``."""

    T: Float
    Z: Float
    scaled_T: Float
    scaled_Z: Float


class ArrowScaling:
    r"""Nesterov–Todd scaling of blocks of one order, ``T = diag(S, E)`` (d and m rows) with the dual Z.

    ``Rᵀ Z R = R⁻¹ T R⁻ᵀ = diag(roots)``; of ``W = R Rᵀ = [Y + θ ω θᵀ, θ ω; ω θᵀ, ω]`` the parts θ (d, m), ω (m, m),
    Y and ``Yi = Y⁻¹``, which is the leading block of ``W⁻¹``. The first axis of every array counts the blocks.
    """

    R: Float
    Ri: Float
    roots: Float
    theta: Float
    omega: Float
    Y: Float
    Yi: Float

    def __init__(self, n_blocks: int, d: int, m: int) -> None:
        q = d + m
        self._d = d
        self.T, self.Z = np.zeros((n_blocks, q, q)), np.zeros((n_blocks, q, q))
        self.none: Float = np.zeros((n_blocks, q, q))

    def update(self) -> bool:
        """Scale T and Z as they are now; False where a block is not positive definite in floating point."""
        d = self._d
        L, Li = np.zeros_like(self.T), np.zeros_like(self.T)
        try:
            for part in (slice(None, d), slice(d, None)):
                L[:, part, part] = np.linalg.cholesky(self.T[:, part, part])
                Li[:, part, part] = _lower_inverse(L[:, part, part])
            # roots² are the eigenvalues of Lᵀ Z L, L Lᵀ = T; R = L vectors / √roots and its inverse
            squares, vectors = np.linalg.eigh(_turned(L) @ self.Z @ L)
        except np.linalg.LinAlgError:
            return False
        if not np.all(squares > 0.0):
            return False
        self.roots = np.sqrt(squares)
        root = np.sqrt(self.roots)
        self.R = L @ vectors / root[:, None, :]
        self.Ri = (_turned(vectors) @ Li) * root[:, :, None]
        # ω, the trailing block of W = R Rᵀ, and θ = W_12 ω⁻¹
        upper, lower = self.R[:, :d], self.R[:, d:]
        self.omega = lower @ _turned(lower)
        self.theta = upper @ _turned(lower) @ np.linalg.inv(self.omega)
        # Y = W_11 − θ ω θᵀ from the rows of R without their part along the last m, Y⁻¹ from W⁻¹ = Riᵀ Ri
        left = upper - self.theta @ lower
        self.Y = _symmetric(left @ _turned(left))
        front = self.Ri[:, :, :d]
        self.Yi = _symmetric(_turned(front) @ front)
        return True

    def centred(self, target: float, correction: Float) -> Float:
        """``Riᵀ C Ri``, ``C_ab = 2 (target δ_ab − roots_a² δ_ab − correction_ab) / (roots_a + roots_b)``."""
        C = -correction
        _diagonal(C)[...] += target - self.roots**2
        C *= 2.0 / (self.roots[:, :, None] + self.roots[:, None, :])
        return _turned(self.Ri) @ C @ self.Ri

    def move(self, dT: Float, dZ: Float) -> Move:
        return Move(dT, dZ, self.Ri @ dT @ _turned(self.Ri), _turned(self.R) @ dZ @ self.R)

    def longest(self, move: Move, primal: float, dual: float) -> tuple[float, float]:
        """The largest ``a ≤ primal`` and ``b ≤ dual`` at which T + a dT and Z + b dZ are not indefinite."""
        root = np.sqrt(self.roots)
        weights = 1.0 / (root[:, :, None] * root[:, None, :])
        return _longest(move.scaled_T * weights, primal), _longest(move.scaled_Z * weights, dual)

    @staticmethod
    def second_order(move: Move) -> Float:
        """Mehrotra's term ``sym(R⁻¹ dT dZ R)``."""
        return _symmetric(move.scaled_T @ move.scaled_Z)

    def clipped(self, move: Move, primal: float, dual: float, low: float, high: float) -> Float:
        """What brings the eigenvalues of ``sym((T + primal dT)(Z + dual dZ))``, scaled, into [low, high] (Gondzio).

        None is moved down by more than ``high``.
        """
        B, C = primal * move.scaled_T, dual * move.scaled_Z
        for ahead in (B, C):
            _diagonal(ahead)[...] += self.roots
        A = _symmetric(B @ C)
        out = np.zeros_like(A)
        # as far as a block is from a multiple of I, its eigenvalues may be from that number: most are inside
        middle = np.trace(A, axis1=1, axis2=2) / A.shape[1]
        _diagonal(A)[...] -= middle[:, None]
        reach = np.sqrt(np.sum(A * A, axis=(1, 2)))
        rest = np.flatnonzero(~((middle - reach >= low) & (middle + reach <= high)))
        values, vectors = np.linalg.eigh(A[rest])
        values += middle[rest, None]
        moved = np.maximum(np.clip(values, low, high) - values, -high)
        out[rest] = (vectors * moved[:, None, :]) @ _turned(vectors)
        return out


def inverse_factors(H: Float) -> Float:
    """Inverses of the lower Cholesky factors of each block; pivots below 10⁻¹⁴ of their diagonal are raised to it."""
    return _lower_inverse(_raised_cholesky(H))


def shifted_inverse(Y: Float, omega: Float, phi: Float) -> Float:
    """``(2 / ω) (Y + 2 ω φ φᵀ)⁻¹`` of each block, positive definite in floating point too."""
    A = Y + 2.0 * omega[:, None, None] * phi[:, :, None] * phi[:, None, :]
    try:
        L = np.asarray(np.linalg.cholesky(A))
    except np.linalg.LinAlgError:
        L = _raised_cholesky(A)
    inverse = _lower_inverse(L)
    return np.asarray(_turned(inverse) @ inverse * (2.0 / omega)[:, None, None])


def pulled(rhs: Float, theta: Float, beta: Float, Y: Float) -> tuple[Float, Float, Float]:
    r"""What centring asks of the weights and multipliers of the units, and of the common corner: ``hw, he, kappa``.

    With ``rhs = [A, b; bᵀ, c]`` in the frame of the block: ``hw = b + A θ``, ``he = c − θᵀ A θ − 2 βᵀ hw``, and
    ``kappa = Σ Y A Y``.
    """
    d = theta.shape[1]
    A = rhs[:, :d, :d]
    turned = (A @ theta[:, :, None])[:, :, 0]
    hw = rhs[:, :d, d] + turned
    he = rhs[:, d, d] - np.sum(theta * turned, axis=1) - 2.0 * np.sum(beta * hw, axis=1)
    return hw, he, np.asarray((Y @ A @ Y).sum(axis=0))


def coupled(
    rhs: Float, dP: Float, delta: Float, de: Float, g: Float, theta: Float, omega: Float, Y: Float
) -> tuple[Float, Float]:
    r"""Directions of the unit blocks, in their frames, from those of (w, e) and of the common dual corner P.

    With ``δ = dw − β de``, ``g = Y⁻¹ (δ − θ de) / ω`` and ``A = rhs_CC − dP``:
    ``dT = [Y A Y + δ θᵀ + θ δᵀ − de θ θᵀ, δ; δᵀ, de]`` and
    ``dZ = [dP, rhs_Ce − g + A θ; ·, rhs_ee − de / ω² + 2 θᵀ g − θᵀ A θ]``.
    """
    d = theta.shape[1]
    dT, dZ = np.empty_like(rhs), np.empty_like(rhs)
    A = rhs[:, :d, :d] - dP
    turned = (A @ theta[:, :, None])[:, :, 0]
    # δ θᵀ + θ δᵀ − de θ θᵀ is the symmetric part of (2 δ − de θ) θᵀ
    bent = (2.0 * delta - de[:, None] * theta)[:, :, None] * theta[:, None, :]
    dT[:, :d, :d] = Y @ A @ Y + _symmetric(bent)
    dT[:, :d, d] = dT[:, d, :d] = delta
    dT[:, d, d] = de
    dZ[:, :d, :d] = dP
    dZ[:, :d, d] = dZ[:, d, :d] = rhs[:, :d, d] - g + turned
    dZ[:, d, d] = rhs[:, d, d] - de / omega**2 + np.sum(theta * (2.0 * g - turned), axis=1)
    return dT, dZ


def fill_rows(
    rows: Float,
    own: Float,
    shared: Float,
    ratio: Float,
    slopes: Float,
    left: NDArray[np.intp],
    right: NDArray[np.intp],
    wt: Float,
) -> None:
    r"""Rows of the common corner and of the output block, η of the units eliminated.

    Overwritten are ``rows`` (h, d + 1, r + d(d+1)/2). The first are ``shared`` (r, h, d); row (a, b) of the corner is
    the packed symmetric part of ``dw_j ψ_jᵀ + ψ_j dw_jᵀ`` with ``ψ_j = own_j`` (h, d). ``slopes`` (r + d(d+1)/2, h) are
    the rows in η and ``ratio`` (h, d) what η gives up: ``rows −= slopes ratio``.
    """
    d, n_shared = own.shape[1], len(shared)
    rows[:, :d, :n_shared] = shared.transpose(1, 2, 0)
    corner = rows[:, :, n_shared:]
    corner[...] = 0.0
    rows[:, d, :n_shared] = 0.0
    columns = np.arange(len(left))
    corner[:, left, columns] += wt * own[:, right]
    corner[:, right, columns] += wt * own[:, left]
    for a in range(d):  # one input at a time: the product of all is as large as the rows
        rows[:, a] -= ratio[:, a, None] * slopes.T


def _turned(A: Float) -> Float:
    """Each block transposed."""
    return A.swapaxes(1, 2)


def _symmetric(A: Float) -> Float:
    return np.asarray(0.5 * (A + _turned(A)))


def _diagonal(A: Float) -> Float:
    """The diagonals, as a view that can be written."""
    return np.einsum("kii->ki", A)


def _lower_inverse(L: Float) -> Float:
    """Of lower triangular blocks, by substitution, a row of all at a time: entries as exact as those of L."""
    out = np.zeros_like(L)
    for i in range(L.shape[1]):
        inverse = 1.0 / L[:, i, i, None]
        out[:, i, :i] = -(L[:, i, None, :i] @ out[:, :i, :i])[:, 0] * inverse
        out[:, i, i] = inverse[:, 0]
    return out


def _raised_cholesky(H: Float) -> Float:
    """Lower factors, a column of all at a time; pivots below 10⁻¹⁴ of their diagonal are raised to it."""
    L = np.zeros_like(H)
    for j in range(H.shape[1]):
        column = H[:, j:, j] - (L[:, j:, :j] @ L[:, j, :j, None])[:, :, 0]
        pivot = np.sqrt(np.maximum(column[:, 0], _LEAST * H[:, j, j]))
        L[:, j:, j] = column / pivot[:, None]
        L[:, j, j] = pivot
    return L


def _longest(B: Float, most: float) -> float:
    """The largest ``a ≤ most`` at which no ``I + a B_k`` is indefinite; 0 where B is not finite."""
    reach = np.sqrt(np.sum(B * B, axis=(1, 2)))
    if not np.all(np.isfinite(reach)):
        return 0.0
    near = reach * most > 1.0  # −reach is below every eigenvalue
    lowest = float(np.linalg.eigvalsh(B[near])[:, 0].min(initial=0.0)) if near.any() else 0.0
    return min(most, -1.0 / lowest) if lowest < 0.0 else most
