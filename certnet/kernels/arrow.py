r"""Small positive definite blocks of an arrow: Nesterov–Todd scaling, directions and step lengths, block by block.

A block of order q = d + 1 is ``T = [C, w; wᵀ, e]``. It is held in its own frame: with ``β = w / e`` and the unit upper
triangular ``Λ = [I, β; 0, 1]``, ``T = Λ diag(S, e) Λᵀ`` where S is the Schur complement, and its dual is
``Λᵀ Z Λ = [P, ψ; ψᵀ, ζ]``. S may be 10⁻¹⁰ times C near the optimum: only in this frame does it keep its digits.
"""

from __future__ import annotations

import numpy as np

from certnet.core.validation import Float
from certnet.kernels.compilation import compiled

__all__ = [
    "centring",
    "clipped",
    "coupled",
    "fill_rows",
    "inverse_factors",
    "longest_step",
    "pulled",
    "scale",
    "second_order",
    "shifted_inverse",
]


@compiled(fastmath={"contract", "reassoc", "nsz"})
def _factor(T: Float, D: Float, a: float, L: Float) -> bool:
    """Lower Cholesky factor of ``T + a D`` into L; False where it is not positive definite."""
    q = T.shape[0]
    for j in range(q):
        pivot = T[j, j] + a * D[j, j]
        least = 1e-15 * abs(pivot)
        for c in range(j):
            pivot -= L[j, c] * L[j, c]
        if not pivot > least:
            return False
        L[j, j] = np.sqrt(pivot)
        for i in range(j + 1, q):
            value = T[i, j] + a * D[i, j]
            for c in range(j):
                value -= L[i, c] * L[j, c]
            L[i, j] = value / L[j, j]
    return True


@compiled(fastmath={"contract", "reassoc", "nsz"})
def _inverse(L: Float, q: int, out: Float) -> None:
    """Inverse of the leading lower triangle of order q."""
    for j in range(q):
        for i in range(j):
            out[i, j] = 0.0
        out[j, j] = 1.0 / L[j, j]
        for i in range(j + 1, q):
            value = 0.0
            for c in range(j, i):
                value -= L[i, c] * out[c, j]
            out[i, j] = value / L[i, i]


@compiled(fastmath={"contract", "reassoc", "nsz"})
def _times(A: Float, B: Float, out: Float, q: int) -> None:
    for i in range(q):
        for j in range(q):
            out[i, j] = 0.0
        for c in range(q):
            factor = A[i, c]
            for j in range(q):
                out[i, j] += factor * B[c, j]


@compiled(fastmath={"contract", "reassoc", "nsz"})
def _times_transposed(A: Float, B: Float, out: Float, q: int) -> None:
    """``A Bᵀ``."""
    for i in range(q):
        for j in range(q):
            value = 0.0
            for c in range(q):
                value += A[i, c] * B[j, c]
            out[i, j] = value


@compiled(fastmath={"contract", "reassoc", "nsz"})
def _transposed_times(A: Float, B: Float, out: Float, q: int) -> None:
    """``Aᵀ B``."""
    for i in range(q):
        for j in range(q):
            out[i, j] = 0.0
    for c in range(q):
        for i in range(q):
            factor = A[c, i]
            for j in range(q):
                out[i, j] += factor * B[c, j]


@compiled(fastmath={"contract", "reassoc", "nsz"})
def longest_step(T: Float, D: Float, most: float) -> float:
    """The largest ``a <= most``, within 0.05 %, at which every ``T_k + a D_k`` (blocks of order q) is positive."""
    q = T.shape[1]
    L = np.empty((q, q))
    a = most
    for k in range(T.shape[0]):
        if _factor(T[k], D[k], a, L):
            continue
        low, high = 0.0, a
        for _ in range(40):
            middle = 0.5 * (low + high)
            if _factor(T[k], D[k], middle, L):
                low = middle
            else:
                high = middle
            if high - low < 5e-4 * high:
                break
        a = low
    return a


@compiled(fastmath={"contract", "reassoc", "nsz"})
def scale(
    S: Float, E: Float, Z: Float, R: Float, Ri: Float, roots: Float, theta: Float, omega: Float, Y: Float, Yi: Float
) -> bool:
    r"""Nesterov–Todd scaling of ``T = diag(S, E)`` (d and m rows) and its dual Z, for each block.

    ``Rᵀ Z R = R⁻¹ T R⁻ᵀ = diag(roots)``; of ``W = R Rᵀ = [Y + θ ω θᵀ, θ ω; ω θᵀ, ω]`` the parts θ (d, m), ω (m, m),
    Y and ``Yi = Y⁻¹``, which is the leading block of ``W⁻¹``.

    Returns
    -------
    bool
        False where a block is not positive definite in floating point.
    """
    n_blocks, d = S.shape[0], S.shape[1]
    m = E.shape[1]
    q = d + m
    L, Li, A, B = np.zeros((q, q)), np.zeros((q, q)), np.empty((q, q)), np.empty((q, q))
    corner = np.zeros((m, m))
    for k in range(n_blocks):
        L[:] = 0.0
        if not _factor(S[k], S[k], 0.0, L):
            return False
        if not _factor(E[k], E[k], 0.0, corner):
            return False
        for i in range(m):
            for j in range(i + 1):
                L[d + i, d + j] = corner[i, j]
        _inverse(L, q, Li)
        _times(Z[k], L, A, q)
        _transposed_times(L, A, B, q)
        # roots² are the eigenvalues of Lᵀ Z L, L Lᵀ = T; R = L vectors / √roots and its inverse
        squares, vectors = np.linalg.eigh(B)
        if not squares[0] > 0.0:
            return False
        _times(L, vectors, R[k], q)
        _transposed_times(vectors, Li, Ri[k], q)
        for c in range(q):
            roots[k, c] = np.sqrt(squares[c])
            root = np.sqrt(roots[k, c])
            for i in range(q):
                R[k, i, c] /= root
                Ri[k, c, i] *= root
        # ω, the trailing block of W = R Rᵀ
        lower = R[k, d:]
        for i in range(m):
            for j in range(m):
                omega[k, i, j] = np.sum(lower[i] * lower[j])
        # θ = W_12 ω⁻¹, and what is left of the first d rows of R
        inner = np.linalg.inv(omega[k])
        for i in range(d):
            for j in range(m):
                value = 0.0
                for c in range(m):
                    value += np.sum(R[k, i] * lower[c]) * inner[c, j]
                theta[k, i, j] = value
            for c in range(q):  # rows of R without their part along the last m rows
                value = R[k, i, c]
                for j in range(m):
                    value -= theta[k, i, j] * lower[j, c]
                A[i, c] = value
        # Y = W_11 − θ ω θᵀ, and Y⁻¹, the leading block of W⁻¹ = Riᵀ Ri
        for i in range(d):
            for j in range(i + 1):
                inside, inverse = 0.0, 0.0
                for c in range(q):
                    inside += A[i, c] * A[j, c]
                    inverse += Ri[k, c, i] * Ri[k, c, j]
                Y[k, i, j] = Y[k, j, i] = inside
                Yi[k, i, j] = Yi[k, j, i] = inverse
    return True


@compiled(fastmath={"contract", "reassoc", "nsz"})
def centring(target: float, roots: Float, Ri: Float, correction: Float, out: Float) -> None:
    """``Ri Ct Ri`` of each block, ``C_ab = 2 (target δ_ab − roots_a² δ_ab − correction_ab) / (roots_a + roots_b)``."""
    n_blocks, q = roots.shape
    C, A = np.empty((q, q)), np.empty((q, q))
    for k in range(n_blocks):
        for i in range(q):
            for j in range(q):
                value = -correction[k, i, j]
                if i == j:
                    value += target - roots[k, i] ** 2
                C[i, j] = 2.0 * value / (roots[k, i] + roots[k, j])
        _times(C, Ri[k], A, q)
        _transposed_times(Ri[k], A, out[k], q)


@compiled(fastmath={"contract", "reassoc", "nsz"})
def _scaled(R: Float, Ri: Float, dT: Float, dZ: Float, A: Float, B: Float, C: Float, q: int) -> None:
    """``B = R⁻¹ dT R⁻ᵀ`` and ``C = Rᵀ dZ R``."""
    _times_transposed(dT, Ri, A, q)
    _times(Ri, A, B, q)
    _times(dZ, R, A, q)
    _transposed_times(R, A, C, q)


@compiled(fastmath={"contract", "reassoc", "nsz"})
def second_order(R: Float, Ri: Float, dT: Float, dZ: Float, factor: float, out: Float) -> None:
    """Mehrotra's term ``factor · sym(R⁻¹ dT dZ R)`` of each block."""
    q = R.shape[1]
    A, B, C = np.empty((q, q)), np.empty((q, q)), np.empty((q, q))
    for k in range(R.shape[0]):
        _scaled(R[k], Ri[k], dT[k], dZ[k], A, B, C, q)
        _times(B, C, A, q)
        for i in range(q):
            for j in range(q):
                out[k, i, j] = 0.5 * factor * (A[i, j] + A[j, i])


@compiled(fastmath={"contract", "reassoc", "nsz"})
def clipped(
    R: Float,
    Ri: Float,
    roots: Float,
    dT: Float,
    dZ: Float,
    primal: float,
    dual: float,
    low: float,
    high: float,
    out: Float,
) -> None:
    """What brings the eigenvalues of ``sym((T + primal dT)(Z + dual dZ))``, scaled, into [low, high] (Gondzio)."""
    q = R.shape[1]
    A, B, C = np.empty((q, q)), np.empty((q, q)), np.empty((q, q))
    for k in range(R.shape[0]):
        _scaled(R[k], Ri[k], dT[k], dZ[k], A, B, C, q)
        B *= primal
        C *= dual
        # the scaled products ahead, symmetrised
        for i in range(q):
            B[i, i] += roots[k, i]
            C[i, i] += roots[k, i]
        _times(B, C, A, q)
        for i in range(q):
            for j in range(i + 1):
                A[i, j] = A[j, i] = 0.5 * (A[i, j] + A[j, i])
        # inside [low, high] already?
        for i in range(q):
            for j in range(q):
                B[i, j] = -A[i, j]
            A[i, i] -= low
            B[i, i] += high
        if _factor(A, A, 0.0, C) and _factor(B, B, 0.0, C):
            out[k] = 0.0
            continue
        # what moves each eigenvalue there, none down by more than high
        values, vectors = np.linalg.eigh(A)
        for c in range(q):
            value = values[c] + low
            values[c] = max(min(max(value, low), high) - value, -high)
        for i in range(q):
            for j in range(q):
                B[i, j] = vectors[i, j] * values[j]
        _times_transposed(B, vectors, out[k], q)


@compiled(fastmath={"contract", "reassoc", "nsz"})
def inverse_factors(H: Float, out: Float) -> None:
    """Inverses of the lower Cholesky factors of each block; pivots below 10⁻¹⁴ of their diagonal are raised to it."""
    q = H.shape[1]
    L = np.zeros((q, q))
    for k in range(H.shape[0]):
        for j in range(q):
            least = 1e-14 * H[k, j, j]
            pivot = H[k, j, j]
            for c in range(j):
                pivot -= L[j, c] * L[j, c]
            L[j, j] = np.sqrt(max(pivot, least))
            for i in range(j + 1, q):
                value = H[k, i, j]
                for c in range(j):
                    value -= L[i, c] * L[j, c]
                L[i, j] = value / L[j, j]
        _inverse(L, q, out[k])


@compiled(fastmath={"contract", "reassoc", "nsz"})
def shifted_inverse(Y: Float, omega: Float, phi: Float, out: Float) -> None:
    """``(2 / ω) (Y + 2 ω φ φᵀ)⁻¹`` of each block, positive definite in floating point too."""
    d = Y.shape[1]
    A, L, Li = np.empty((d, d)), np.zeros((d, d)), np.zeros((d, d))
    for k in range(Y.shape[0]):
        for i in range(d):
            for j in range(d):
                A[i, j] = Y[k, i, j] + 2.0 * omega[k] * phi[k, i] * phi[k, j]
        if not _factor(A, A, 0.0, L):
            for i in range(d):
                A[i, i] *= 1.0 + 1e-12
            _factor(A, A, 0.0, L)
        _inverse(L, d, Li)
        _transposed_times(Li, Li, A, d)
        for i in range(d):
            for j in range(d):
                out[k, i, j] = A[i, j] * 2.0 / omega[k]


@compiled(fastmath={"contract", "reassoc", "nsz"})
def pulled(rhs: Float, theta: Float, beta: Float, Y: Float, hw: Float, he: Float, kappa: Float) -> None:
    r"""What centring asks of the weights and multipliers of the units, and of the common corner.

    With ``rhs = [A, b; bᵀ, c]`` in the frame of the block: ``hw = b + A θ``, ``he = c − θᵀ A θ − 2 βᵀ hw``, and
    ``kappa += Y A Y``.
    """
    n_blocks, d = theta.shape
    A, B = np.empty((d, d)), np.empty((d, d))
    for k in range(n_blocks):
        square, slope = 0.0, 0.0
        for i in range(d):
            value = 0.0
            for j in range(d):
                value += rhs[k, i, j] * theta[k, j]
            hw[k, i] = rhs[k, i, d] + value
            square += theta[k, i] * value
            slope += beta[k, i] * hw[k, i]
        he[k] = rhs[k, d, d] - square - 2.0 * slope
        _times(rhs[k, :d, :d].copy(), Y[k], A, d)
        _times(Y[k], A, B, d)
        kappa += B


@compiled(fastmath={"contract", "reassoc", "nsz"})
def coupled(
    rhs: Float, dP: Float, delta: Float, de: Float, g: Float, theta: Float, omega: Float, Y: Float, dT: Float, dZ: Float
) -> None:
    r"""Directions of the unit blocks, in their frames, from those of (w, e) and of the common dual corner P.

    With ``δ = dw − β de``, ``g = Y⁻¹ (δ − θ de) / ω`` and ``A = rhs_CC − dP``:
    ``dT = [Y A Y + δ θᵀ + θ δᵀ − de θ θᵀ, δ; δᵀ, de]`` and
    ``dZ = [dP, rhs_Ce − g + A θ; ·, rhs_ee − de / ω² + 2 θᵀ g − θᵀ A θ]``.
    """
    n_blocks, d = theta.shape
    A, B, C = np.empty((d, d)), np.empty((d, d)), np.empty((d, d))
    for k in range(n_blocks):
        for i in range(d):
            for j in range(d):
                A[i, j] = rhs[k, i, j] - dP[i, j]
        slope, square = 0.0, 0.0
        for i in range(d):
            turned = 0.0
            for j in range(d):
                turned += A[i, j] * theta[k, j]
            slope += theta[k, i] * g[k, i]
            square += theta[k, i] * turned
            dZ[k, i, d] = dZ[k, d, i] = rhs[k, i, d] - g[k, i] + turned
        dZ[k, d, d] = rhs[k, d, d] - de[k] / omega[k] ** 2 + 2.0 * slope - square
        _times(A, Y[k], B, d)
        _times(Y[k], B, C, d)
        for i in range(d):
            for j in range(d):
                bent = delta[k, i] * theta[k, j] + theta[k, i] * delta[k, j] - de[k] * theta[k, i] * theta[k, j]
                dT[k, i, j] = C[i, j] + bent
                dZ[k, i, j] = dP[i, j]
            dT[k, i, d] = dT[k, d, i] = delta[k, i]
        dT[k, d, d] = de[k]


@compiled(fastmath={"contract", "reassoc", "nsz"})
def fill_rows(
    rows: Float,
    first: int,
    own: Float,
    shared: Float,
    ratio: Float,
    slopes: Float,
    left: Float,
    right: Float,
    wt: Float,
) -> None:
    r"""Rows of the common corner and of the output block, into ``rows[j, a, first:]``, the units' η eliminated.

    Row (a, b) of the corner is the packed symmetric part of ``dw_j ψ_jᵀ + ψ_j dw_jᵀ`` with ``ψ_j = own_j`` (h, d);
    the rows before it are ``shared`` (r, h, d). ``slopes`` (r + d(d+1)/2, h) are the rows in η and ``ratio`` (h, d)
    what η gives up: ``rows −= slopes ratio``.
    """
    n_units, d = own.shape
    n_shared, n_corner = shared.shape[0], left.shape[0]
    for j in range(n_units):
        for a in range(d):
            for r in range(n_shared):
                rows[j, a, first + r] = shared[r, j, a]
            for r in range(n_corner):
                rows[j, a, first + n_shared + r] = 0.0
        for r in range(n_corner):
            column = first + n_shared + r
            rows[j, left[r], column] += wt[r] * own[j, right[r]]
            rows[j, right[r], column] += wt[r] * own[j, left[r]]
        for a in range(d):
            for r in range(n_shared + n_corner):
                rows[j, a, first + r] -= slopes[r, j] * ratio[j, a]
        for r in range(n_shared + n_corner):
            rows[j, d, first + r] = 0.0
